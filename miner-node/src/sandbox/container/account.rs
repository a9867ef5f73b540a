//! What a container uses, as far as it can be seen while it runs: its engine keeps no books, and
//! takes the group away with the container.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::sleep;

use super::{Container, Ending, Engine, Sandbox};
use crate::sandbox::cgroup::Foreign;
use crate::sandbox::process_tree::{self, Sample};

/// Pause before the first look; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Of its memory limit, the part that a container which was killed had in use when the kernel
/// killed it for want of memory: it may have been somewhat less at the last look.
const NEARLY_ALL: u64 = 90;

/// The signal with which the kernel makes room.
const SIGKILL: i32 = 9;

/// What was seen of one container.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Sample>);

impl Account {
    /// The most that was seen.
    pub(super) fn sample(&self) -> Sample {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, sample: Sample) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_in(sample);
    }

    /// Whether an end that the engine reports was for want of memory, of which it may say nothing.
    pub(super) fn explains(&self, ending: Ending, memory_bytes: Option<u64>) -> bool {
        let seen = self.sample();
        let was_full = memory_bytes.is_some_and(|most| seen.rss_bytes >= most / 100 * NEARLY_ALL);
        seen.out_of_memory || (ending == Ending::Signaled(SIGKILL) && was_full)
    }

    /// Looks again and again, for ever.
    pub(super) async fn keep(
        &self,
        sandbox: &Sandbox,
        engine: &Engine,
        container: &Container,
        hierarchies: &Path,
    ) {
        let mut pause = FIRST_PAUSE;
        let (pid, group) = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if let Some((pid, id)) = sandbox.first_process(engine, container).await {
                break (pid, Foreign::of(hierarchies, pid, &id));
            }
        };
        pause = FIRST_PAUSE;
        loop {
            let group = group.clone();
            let looked = tokio::task::spawn_blocking(move || look(pid, group.as_ref())).await;
            self.take_in(looked.unwrap_or_default());
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn look(pid: Pid, group: Option<&Foreign>) -> Sample {
    let Some(count) = group.map(Foreign::count) else { return process_tree::sample(pid) };
    Sample {
        cpu: count.cpu.unwrap_or_else(|| process_tree::sample(pid).cpu),
        rss_bytes: count.memory_bytes,
        processes: 0,
        out_of_memory: count.out_of_memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_at_the_limit_of_memory_is_no_crash() {
        let seen = |rss_bytes, out_of_memory| {
            Account(Mutex::new(Sample { rss_bytes, out_of_memory, ..Sample::default() }))
        };
        let killed = Ending::Signaled(9);
        assert!(seen(95, false).explains(killed, Some(100)));
        assert!(seen(0, true).explains(killed, None));
        assert!(!seen(50, false).explains(killed, Some(100)));
        assert!(seen(0, true).explains(Ending::Exited(9), Some(100)));
        assert!(!seen(100, false).explains(Ending::Signaled(11), Some(100)));
        assert!(!seen(100, false).explains(Ending::Exited(0), Some(100)));
    }
}
