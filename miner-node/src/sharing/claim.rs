//! What a job has of the machine, until it is dropped.

use std::sync::Arc;
use std::time::Duration;

use mining::engine::Allowance;
use mining::policy::Demand;
use protocol::JobId;
use tokio::time::Instant;
use tracing::debug;

use super::{LONGEST_GIVING, LONGEST_PARKING, LOOK, Sharing, sleep};

/// A job, as the desk knows it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) id: JobId,
    pub(super) demand: Demand,
    pub(super) on_gpu: bool,
}

/// What a job has of the machine; given back when dropped, and mining goes on at once.
pub struct Claim {
    sharing: Arc<Sharing>,
    number: u64,
    processors: Vec<usize>,
    arrived: Instant,
    /// What mining was left with, where something was mined before.
    left: Option<Allowance>,
}

impl Claim {
    pub(super) const fn new(
        sharing: Arc<Sharing>,
        number: u64,
        processors: Vec<usize>,
        arrived: Instant,
        left: Option<Allowance>,
    ) -> Self {
        Self { sharing, number, processors, arrived, left }
    }

    /// The processors of the job, which nothing mines on.
    pub fn processors(&self) -> &[usize] {
        &self.processors
    }

    /// Waits until the threads that mined on its processors have let go, and its memory came back.
    /// How long that took since the job's arrival; `None` where nothing was mined.
    pub async fn parked(&self) -> Option<Duration> {
        let (Some(left), Some(engine)) = (&self.left, self.sharing.engine()) else { return None };
        while engine.busy_threads() > left.threads {
            if self.arrived.elapsed() > LONGEST_PARKING {
                debug!(event = "not_parked", "a mining thread has not let go yet");
                break;
            }
            sleep(LOOK).await;
        }
        let took = self.arrived.elapsed();
        self.sharing.parked.note(took);
        debug!(event = "parked", micros = took.as_micros(), "mining threads have let go");
        if left.give_memory_back {
            while engine.status().memory_bytes > 0 && self.arrived.elapsed() < LONGEST_GIVING {
                sleep(LOOK).await;
            }
        }
        Some(took)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.sharing.release(self.number);
    }
}
