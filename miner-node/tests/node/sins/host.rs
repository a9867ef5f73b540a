//! What can be seen of the host: mounts, and whatever carries the mark of a sin: processes, files,
//! control groups, sockets. Others use the host meanwhile, so that only what carries the mark is
//! held against a job.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// Where a job might leave files, and how deep one has to look.
const PLACES: [(&str, usize); 9] = [
    ("/", 1),
    ("/etc", 2),
    ("/home", 2),
    ("/root", 1),
    ("/run", 2),
    ("/tmp", 2),
    ("/usr", 2),
    ("/var", 2),
    ("/dev", 2),
];

/// The host before the jobs.
pub struct Host {
    mounts: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
}

impl Host {
    pub fn look() -> Self {
        Self { mounts: mounts(), groups: groups() }
    }

    /// Fails where anything of these jobs, whose marks begin with `mark`, is left.
    pub fn assert_unchanged(&self, mark: &str) {
        assert_eq!(processes(mark), []);
        let files: Vec<_> =
            PLACES.iter().flat_map(|(top, depth)| named(top, *depth, mark)).collect();
        assert_eq!(files, [] as [PathBuf; 0]);
        self.assert_no_groups();
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        assert!(!sockets.contains(mark), "{sockets}");
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        assert!(!segments.contains(mark), "{segments}");
        let new: Vec<_> = mounts().difference(&self.mounts).cloned().collect();
        assert_eq!(new, [] as [String; 0]);
    }

    /// Other tests of this process have jobs, too, but these end; what was left behind stays.
    fn assert_no_groups(&self) {
        let mut left: Vec<_> = groups().difference(&self.groups).cloned().collect();
        for _ in 0..1200 {
            left.retain(|group| group.exists());
            if left.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("control groups are left: {left:?}");
    }
}

/// The control groups of jobs of this process.
fn groups() -> BTreeSet<PathBuf> {
    let mark = format!("aitbc-job-{}-", rustix::process::getpid().as_raw_pid());
    named("/sys/fs/cgroup", 8, &mark).into_iter().collect()
}

/// The processes with `mark` among their arguments, zombies left out.
pub fn processes(mark: &str) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let marked = |pid: &Pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(mark)
    };
    pids.filter(|pid| *pid != own).filter(marked).collect()
}

/// Files below `top` with `mark` in their names.
fn named(top: &str, depth: usize, mark: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(Path::new(top).to_owned(), 1)];
    while let Some((directory, level)) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(mark) {
                found.push(entry.path());
            }
            if level < depth && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), level + 1));
            }
        }
    }
    found
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    text.lines().filter_map(point).collect()
}
