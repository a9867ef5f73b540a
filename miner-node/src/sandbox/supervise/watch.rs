//! The looks at a running tree, beside everything else that is waited for: a look may take long
//! where a job has made it so, and nobody's request shall wait for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::{sleep, timeout};

use super::super::confine::Confinement;
use super::super::gpu::VramWatch;
use super::super::process_tree::Sample;
use super::super::{Ending, Limits, OWN_PROCESSES};
use super::disk::Disk;

/// Pause before the first look at what a tree uses; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a look may take. Nobody knows how much there is of what takes longer to count.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

/// The most that a tree was seen to use.
pub(super) type Peak = Arc<Mutex<Seen>>;

/// What was seen of a tree, the most of each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) sample: Sample,
    /// Absent: nobody could say.
    pub(super) vram_bytes: Option<u64>,
}

/// Looks at one tree.
pub(super) struct Watch {
    /// Its first process.
    pub(super) first: Pid,
    pub(super) confinement: Arc<Confinement>,
    pub(super) disk: Disk,
    pub(super) vram: VramWatch,
    pub(super) peak: Peak,
}

impl Watch {
    /// Looks again and again until something is used up; the ending that is due then. Dropping it
    /// ends a look that is under way.
    pub(super) async fn until_used_up(mut self, limits: &Limits) -> Ending {
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match timeout(LONGEST_LOOK, self.look(limits)).await {
                Ok(None) => {}
                Ok(Some(ending)) => return ending,
                Err(_) => return Ending::OutputLimit,
            }
        }
    }

    /// Measures the tree; the ending that is due where it has used something up.
    async fn look(&mut self, limits: &Limits) -> Option<Ending> {
        let (first, confinement) = (self.first, Arc::clone(&self.confinement));
        let sampled = tokio::task::spawn_blocking(move || confinement.sample(first)).await;
        let sample = sampled.unwrap_or_default();
        self.peak.lock().unwrap_or_else(PoisonError::into_inner).sample.take_in(sample);
        let too_much_vram = self.vram.exceeds(Some(first)).await;
        self.peak.lock().unwrap_or_else(PoisonError::into_inner).vram_bytes =
            self.vram.peak_bytes();
        if limits.cpu_secs.is_some_and(|secs| sample.cpu >= Duration::from_secs(secs)) {
            return Some(Ending::CpuLimit);
        }
        if sample.out_of_memory || too_much_vram {
            return Some(Ending::OutOfMemory);
        }
        if sample.processes > limits.processes + OWN_PROCESSES {
            return Some(Ending::Signaled(Signal::KILL.as_raw()));
        }
        self.disk.look(limits, Some(first)).await
    }
}
