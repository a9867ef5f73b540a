//! What a job has of the machine, until it is dropped.

use std::sync::Arc;
use std::time::Duration;

use mining::engine::{Allowance, Engine};
use mining::policy::Demand;
use protocol::JobId;
use tokio::time::Instant;
use tracing::debug;

use super::{LONGEST_GIVING, LONGEST_PARKING, LOOK, Sharing, sleep};

/// A job, as the desk knows it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) id: JobId,
    /// Without its memory, until the job is accepted.
    pub(super) demand: Demand,
    pub(super) memory_mb: u64,
    pub(super) on_gpu: bool,
}

/// What a job has of the machine; given back when dropped, and mining goes on at once.
pub struct Claim {
    sharing: Arc<Sharing>,
    number: u64,
    processors: Vec<usize>,
    arrived: Instant,
    /// Whether something was mined then, or was still letting go.
    mined: bool,
}

impl Claim {
    pub(super) const fn new(
        sharing: Arc<Sharing>,
        number: u64,
        processors: Vec<usize>,
        arrived: Instant,
        mined: bool,
    ) -> Self {
        Self { sharing, number, processors, arrived, mined }
    }

    /// The processors of the job, which nothing mines on.
    pub fn processors(&self) -> &[usize] {
        &self.processors
    }

    /// Has memory given back if the job, which is accepted, needs it: one that is refused must not
    /// cost a dataset. Waits until that came back, and the threads that mined on its processors have
    /// let go. How long that took since the job's arrival; `None` where nothing was mined.
    pub async fn parked(&self) -> Option<Duration> {
        let left = self.sharing.accept(self.number)?;
        let engine = self.sharing.engine()?;
        if self.mined {
            self.let_go(engine.as_ref(), &left).await;
        }
        if left.give_memory_back {
            while engine.status().memory_bytes > 0 && self.arrived.elapsed() < LONGEST_GIVING {
                sleep(LOOK).await;
            }
        }
        self.mined.then(|| self.arrived.elapsed())
    }

    async fn let_go(&self, engine: &dyn Engine, left: &Allowance) {
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
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.sharing.release(self.number);
    }
}
