//! What a container uses, as far as it can be seen while it runs: its engine keeps no books, and
//! takes the group away with the container.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::sleep;

use super::{Container, Ending, Engine, Sandbox};
use crate::sandbox::WORK_DIR;
use crate::sandbox::cgroup::Foreign;
use crate::sandbox::process_tree::{self, Sample};

/// Pause before the first look; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The same as long as the engine shows no process of the container: each look starts a program.
const LONGEST_SEARCH: Duration = Duration::from_secs(30);

/// Of its memory limit, the part that a container which was killed had in use when the kernel
/// killed it for want of memory: it may have been somewhat less at the last look.
const NEARLY_ALL: u64 = 90;

/// The signal with which the kernel makes room.
const SIGKILL: i32 = 9;

/// What was seen of one container.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Seen>);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    sample: Sample,
    /// Of its memory, what was more than files that the kernel kept in it, in bytes.
    held_bytes: u64,
}

/// The first process of a container, and its group where it has one of its own.
#[derive(Debug, Clone)]
struct Process {
    pid: Pid,
    started: u64,
    group: Option<Foreign>,
}

impl Account {
    /// The most that was seen.
    pub(super) fn sample(&self) -> Sample {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sample
    }

    fn take_in(&self, seen: Seen) {
        let mut most = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        most.sample.take_in(seen.sample);
        most.held_bytes = most.held_bytes.max(seen.held_bytes);
    }

    /// How it ended that was not `forced` to: an engine may say nothing of memory.
    pub(super) fn judge(
        &self,
        forced: Option<Ending>,
        said: Ending,
        memory_bytes: Option<u64>,
    ) -> Ending {
        match forced {
            Some(forced) => forced,
            None if self.explains(said, memory_bytes) => Ending::OutOfMemory,
            None => said,
        }
    }

    /// Whether an end that the engine reports was for want of memory, of which it may say nothing.
    fn explains(&self, ending: Ending, memory_bytes: Option<u64>) -> bool {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = memory_bytes.is_some_and(|most| seen.held_bytes >= most / 100 * NEARLY_ALL);
        seen.sample.out_of_memory || (ending == Ending::Signaled(SIGKILL) && was_full)
    }

    /// Looks again and again, for ever.
    pub(super) async fn keep(
        &self,
        sandbox: &Sandbox,
        engine: &Engine,
        container: &Container,
        work: &Path,
    ) {
        let mut pause = FIRST_PAUSE;
        let process = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_SEARCH);
            let Some((pid, id)) = sandbox.first_process(engine, container).await else { continue };
            if let Some(process) = Process::of(pid, &id, &sandbox.hierarchies, work) {
                break process;
            }
        };
        pause = FIRST_PAUSE;
        loop {
            let process = process.clone();
            let looked = tokio::task::spawn_blocking(move || process.look()).await;
            self.take_in(looked.unwrap_or_default());
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Process {
    /// What the engine calls `pid` and `id`, if it is that. An engine elsewhere, or in a namespace
    /// of its own, has other numbers, and what has this one here is none of the job's.
    fn of(pid: Pid, id: &str, hierarchies: &Path, work: &Path) -> Option<Self> {
        let started = process_tree::start_time(pid)?;
        let group = Foreign::of(hierarchies, pid, id);
        let mounts = || fs::read_to_string(format!("/proc/{}/mountinfo", pid.as_raw_pid()));
        let is_it = group.is_some() || mounts().is_ok_and(|mounts| shows(&mounts, work));
        is_it.then_some(Self { pid, started, group })
    }

    fn look(&self) -> Seen {
        let alone = || match process_tree::start_time(self.pid) {
            Some(started) if started == self.started => process_tree::sample(self.pid),
            _ => Sample::default(),
        };
        let Some(group) = &self.group else {
            let sample = alone();
            return Seen { sample, held_bytes: sample.rss_bytes };
        };
        let count = group.count();
        let sample = Sample {
            cpu: count.cpu.unwrap_or_else(|| alone().cpu),
            rss_bytes: count.memory_bytes,
            processes: 0,
            out_of_memory: count.out_of_memory,
        };
        Seen { sample, held_bytes: count.memory_bytes.saturating_sub(group.file_bytes()) }
    }
}

/// Whether `mounts`, a `mountinfo`, has the directory `work` of a job where jobs find it. What is
/// above the job's own directory may be called otherwise within its file system.
fn shows(mounts: &str, work: &Path) -> bool {
    let names = |path: &str| {
        let mut names = path.rsplit('/').map(str::to_owned);
        names.next().zip(names.next())
    };
    let escaped = work.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, place) = (fields.next(), fields.next());
        place == Some(WORK_DIR) && root.and_then(names) == names(&escaped)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_at_the_limit_of_memory_is_no_crash() {
        let seen = |held_bytes, out_of_memory| {
            let sample = Sample { rss_bytes: 100, out_of_memory, ..Sample::default() };
            Account(Mutex::new(Seen { sample, held_bytes }))
        };
        let killed = Ending::Signaled(9);
        assert!(seen(95, false).explains(killed, Some(100)));
        assert!(seen(0, true).explains(killed, None));
        // The rest was files that could have gone.
        assert!(!seen(50, false).explains(killed, Some(100)));
        assert!(seen(0, true).explains(Ending::Exited(9), Some(100)));
        assert!(!seen(100, false).explains(Ending::Signaled(11), Some(100)));
        assert!(!seen(100, false).explains(Ending::Exited(0), Some(100)));
        for forced in [Ending::Canceled, Ending::TimedOut, Ending::OutputLimit] {
            assert_eq!(seen(0, true).judge(Some(forced), forced, Some(100)), forced);
        }
        assert_eq!(seen(0, true).judge(None, killed, Some(100)), Ending::OutOfMemory);
        assert_eq!(seen(0, false).judge(None, killed, Some(100)), killed);
    }

    #[test]
    fn a_process_is_known_by_the_directory_of_its_job() {
        let line = |root: &str, place: &str| {
            format!("30 1 8:1 / / ro - ext4 d rw\n55 30 8:1 {root} {place} rw - ext4 d rw\n")
        };
        let work = Path::new("/srv/my jobs/7/work");
        assert!(shows(&line("/srv/my\\040jobs/7/work", "/work"), work));
        assert!(shows(&line("/@home/7/work", "/work"), work));
        for (root, place) in [("/srv/8/work", "/work"), ("/srv/7/work", "/else"), ("/", "/work")] {
            assert!(!shows(&line(root, place), work), "{root} {place}");
        }
        assert!(!shows("", work) && !shows("no\nmounts", work));
    }

    #[test]
    fn memory_that_only_keeps_files_is_none_that_is_held() {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.peak", "100000\n"),
            ("memory.stat", "anon 10\ninactive_file 60000\nactive_file 30000\n"),
        ] {
            fs::write(root.path().join(file), text).unwrap();
        }
        let group = Some(Foreign::V2(root.path().to_owned()));
        let seen = Process { pid: rustix::process::getpid(), started: 0, group }.look();
        assert_eq!((seen.sample.rss_bytes, seen.held_bytes), (100_000, 10_000));
        // Who has the number now is somebody else.
        assert_eq!(seen.sample.cpu, Duration::ZERO);
    }
}
