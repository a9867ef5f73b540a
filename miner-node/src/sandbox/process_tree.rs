//! The processes of a job as `/proc` shows them: who they are, what they use, whether any is left.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Length of one tick of `/proc/<pid>/stat`: USER_HZ is 100 on every Linux architecture.
const TICK: Duration = Duration::from_millis(10);

/// The most processes that are looked at.
const MOST: usize = 10_000;

/// What a tree uses at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) cpu: Duration,
    pub(super) rss_bytes: u64,
    /// Where nobody else counts them.
    pub(super) processes: u64,
    /// Whether the kernel killed something for want of memory.
    pub(super) out_of_memory: bool,
}

impl Sample {
    /// Becomes the most of both.
    pub(super) fn take_in(&mut self, other: Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.rss_bytes = self.rss_bytes.max(other.rss_bytes);
        self.processes = self.processes.max(other.processes);
        self.out_of_memory |= other.out_of_memory;
    }
}

/// What `root` and everything below it use now, ended and reaped children included in `cpu`.
pub(super) fn sample(root: Pid) -> Sample {
    let mut total = Sample::default();
    for pid in descendants(root).into_iter().chain([root]) {
        total.cpu += cpu_time(pid).unwrap_or_default();
        total.rss_bytes += rss_bytes(pid).unwrap_or_default();
        total.processes += 1;
    }
    total
}

/// The memory of `root` and everything below it, in bytes, where what several processes share counts
/// once. Takes longer than a [`sample`].
pub(super) fn shared_once(root: Pid) -> u64 {
    let tree = descendants(root).into_iter().chain([root]);
    tree.map(|pid| share_bytes(pid).or_else(|| rss_bytes(pid)).unwrap_or_default())
        .fold(0, u64::saturating_add)
}

/// Processor time of `pid` and of its children that it has waited for. Works for zombies.
pub(super) fn cpu_time(pid: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let ticks: u32 = stat_fields(&stat)?
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u32>().unwrap_or(0))
        .fold(0, u32::saturating_add);
    Some(TICK * ticks)
}

/// When `pid` was started, in ticks since the machine was: with the number, it names one process for
/// all time.
pub(super) fn start_time(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat_fields(&stat)?.nth(19)?.parse().ok()
}

/// The fields after the program's name, which may itself contain blanks and brackets.
fn stat_fields(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn rss_bytes(pid: Pid) -> Option<u64> {
    kibibytes(pid, "status", "VmRSS:")
}

/// Its own memory, and its part of what it shares.
fn share_bytes(pid: Pid) -> Option<u64> {
    kibibytes(pid, "smaps_rollup", "Pss:")
}

fn kibibytes(pid: Pid, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Everything below `root`, without it.
pub(super) fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        for child in children(pid) {
            if found.len() == MOST {
                return found;
            }
            found.push(child);
            open.push(child);
        }
    }
    found
}

fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())) else {
        return Vec::new();
    };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let text: String = lists.map(|list| list.unwrap_or_default() + " ").collect();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Asks everything below `root` to end, but not `root`: as the first process of a namespace it
/// would ignore the signal.
pub(super) fn terminate(root: Pid) {
    for pid in descendants(root) {
        // It may have ended meanwhile.
        let _ = signal(pid, Signal::TERM, || is_below(pid, root));
    }
}

/// Sends `signal` to the process that now has this number, if it still is who is meant: numbers are
/// used again, and a job can have its own used up quickly.
pub(super) fn signal(pid: Pid, signal: Signal, is_meant: impl FnOnce() -> bool) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    is_meant() && pidfd_send_signal(&process, signal).is_ok()
}

/// Whether `root` is among the parents of `pid` and theirs.
fn is_below(pid: Pid, root: Pid) -> bool {
    let mut at = pid;
    // Numbers that are used again meanwhile could make a circle.
    for _ in 0..MOST {
        match parent(at) {
            Some(found) if found == root => return true,
            Some(found) => at = found,
            None => return false,
        }
    }
    false
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    Pid::from_raw(stat_fields(&stat)?.nth(1)?.parse().ok()?)
}

/// Kills sandboxes that a previous life of this node left behind: processes that were started
/// with a path below `directory` on their command line. Returns how many.
///
/// The kernel kills them with their parent; this is the check that it did.
pub fn kill_orphans(directory: &Path) -> usize {
    let mut killed = HashSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let own = rustix::process::getpid();
    for process in processes.flatten() {
        let name = process.file_name();
        let pid = name.to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        if is_sandbox_of(pid, directory)
            && signal(pid, Signal::KILL, || is_sandbox_of(pid, directory))
        {
            killed.insert(pid);
        }
    }
    killed.len()
}

fn is_sandbox_of(pid: Pid, directory: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())) else { return false };
    let mut arguments = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let sandboxed = ["bwrap", "prlimit"];
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&*program).file_name().unwrap_or_default();
    sandboxed.iter().any(|name| program == *name)
        && arguments.any(|argument| Path::new(&*argument).starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_the_name_whatever_it_is() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 1 2 3 4 50 60 70 80 20 0";
        let fields: Vec<_> = stat_fields(stat).unwrap().collect();
        assert_eq!(fields[0], "S");
        assert_eq!(&fields[11..15], ["50", "60", "70", "80"]);
    }

    #[test]
    fn this_process_uses_memory() {
        let own = rustix::process::getpid();
        assert!(sample(own).rss_bytes > 0);
        let shared = shared_once(own);
        assert!(shared > 0 && share_bytes(own).is_some(), "{shared}");
    }

    #[test]
    fn other_programs_are_no_orphans() {
        let own = rustix::process::getpid();
        assert!(!is_sandbox_of(own, Path::new("/")));
    }

    #[test]
    fn only_who_is_meant_gets_a_signal() {
        let own = rustix::process::getpid();
        let parent = rustix::process::getppid().unwrap();
        assert!(is_below(own, parent) && !is_below(own, own) && !is_below(parent, own));
        // It would end this very process.
        assert!(!signal(own, Signal::KILL, || is_below(own, own)));
    }
}
