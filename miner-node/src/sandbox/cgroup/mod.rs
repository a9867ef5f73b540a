//! Control groups: one per run, which limits the whole tree, counts what it used, and can be killed
//! as one.
//!
//! Version 2 where it is delegated to the node, else the controllers of version 1, as far as the
//! node may make groups below its own. What neither has, `rlimits` and a look now and then replace.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, test_kill_process};

mod foreign;
mod v1;
mod v2;

pub(super) use foreign::Foreign;

use super::process_tree::{signal, start_time};
use super::{Keeper, Limits, OWN_PROCESSES};

/// What the owner can do about it.
const REMEDY: &str = "(in the unit: Delegate=yes; by hand: systemd-run -p Delegate=yes)";

/// How the node's groups begin; its process and a number follow.
const PREFIX: &str = "aitbc-job-";

/// How long a killed group may take until it is empty, looked at every [`PAUSE`].
const TRIES: u32 = 2000;

/// Pause between two looks at a killed group.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a group of a node that cannot be seen has to be without processes until it is removed:
/// as long as its job is just over, the node has yet to read what the group has counted.
const SETTLED: Duration = Duration::from_secs(60);

/// The length of the kernel's period for shares of processor time, in microseconds.
const PERIOD_MICROS: u64 = 100_000;

/// Why there are no control groups for jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotDelegated(String);

/// The place where the node may make groups.
#[derive(Debug)]
pub(super) struct Cgroups {
    tree: Tree,
    /// How the names of its groups begin: process, when that was started, and which of this type's
    /// values in it (tests have several).
    prefix: String,
    next: AtomicU64,
}

/// How many there have been in this process.
static CREATED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
enum Tree {
    V1(v1::Tree),
    V2(v2::Tree),
}

/// Has the calling thread start processes in a group, and go back afterwards.
///
/// Only version 1 lets a thread go by itself. To move a whole process, the kernel waits until all
/// processors have taken notice, which is some milliseconds: as much as the rest of a start.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    there: Vec<PathBuf>,
    back: Vec<PathBuf>,
}

impl Visit {
    /// Goes there for as long as `start` takes.
    pub(super) fn during<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let go = |groups: &[PathBuf]| {
            groups.iter().try_for_each(|group| {
                // 0 is the thread that writes.
                fs::write(group.join("tasks"), "0")
            })
        };
        let started = go(&self.there).and_then(|()| start());
        // To stay would be worse than any error: all that is in the group is killed with it.
        go(&self.back)?;
        started
    }
}

/// The group of one run. Dropping it kills what is left in it, and has it removed.
#[derive(Debug)]
pub(super) struct Group {
    /// Its directory in each hierarchy; in version 2 there is one.
    directories: Vec<PathBuf>,
    version: Keeper,
}

/// What a group has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Processor time; absent: nobody counts it.
    pub(super) cpu: Option<Duration>,
    /// The most memory at once as the kernel saw it, else what it holds now, in bytes.
    pub(super) memory_bytes: u64,
    /// Whether the kernel killed anything in it for want of memory.
    pub(super) out_of_memory: bool,
}

impl Cgroups {
    /// The node's, below the hierarchies at `root`; `membership` is `/proc/self/cgroup`. Groups
    /// that an earlier life of a node left behind are removed.
    ///
    /// # Errors
    /// Why there are none, and what the owner can do about it.
    pub(super) fn delegated(root: &Path, membership: &str) -> Result<Self, NotDelegated> {
        let tree =
            match v2::Tree::delegated(root, membership) {
                Ok(tree) => Tree::V2(tree),
                Err(second) => Tree::V1(v1::Tree::writable(root, membership).map_err(|first| {
                    NotDelegated(format!("{second}; version 1: {first} {REMEDY}"))
                })?),
            };
        let own = getpid();
        let started = start_time(own).unwrap_or_default();
        let which = CREATED.fetch_add(1, Ordering::Relaxed);
        let namespace = pid_namespace();
        let prefix = format!("{PREFIX}{}-{started}-{namespace}-{which}-", own.as_raw_pid());
        let groups = Self { tree, prefix, next: AtomicU64::new(0) };
        let doubtful = groups.clear();
        if !doubtful.is_empty() {
            remove_later(doubtful);
        }
        Ok(groups)
    }

    pub(super) fn keeper(&self) -> Keeper {
        match self.tree {
            Tree::V1(_) => Keeper::Cgroup1,
            Tree::V2(_) => Keeper::Cgroup2,
        }
    }

    /// An empty group under `limits`.
    pub(super) fn make(&self, limits: &Limits) -> io::Result<Group> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{number}", self.prefix);
        // What could not be made is not ours to remove.
        let mut group = Group { directories: Vec::new(), version: self.keeper() };
        for base in self.bases() {
            let directory = base.join(&name);
            fs::create_dir(&directory)?;
            group.directories.push(directory);
        }
        match &self.tree {
            Tree::V1(tree) => tree.limit(&name, limits)?,
            Tree::V2(tree) => tree.limit(&name, limits)?,
        }
        Ok(group)
    }

    fn bases(&self) -> Vec<&Path> {
        match &self.tree {
            Tree::V1(tree) => tree.bases(),
            Tree::V2(tree) => vec![tree.base()],
        }
    }

    /// The groups that this value has made and that are still there.
    #[cfg(test)]
    pub(super) fn made(&self) -> Vec<PathBuf> {
        let entries = self.bases().into_iter().filter_map(|base| fs::read_dir(base).ok());
        let names = entries.flatten().flatten();
        let ours =
            names.filter(|entry| entry.file_name().to_string_lossy().starts_with(&self.prefix));
        ours.map(|entry| entry.path()).collect()
    }

    /// Removes the groups of nodes that are gone. Of those whose node cannot be seen from here,
    /// returns the directories of the ones in which a job was and nobody is now.
    fn clear(&self) -> Vec<PathBuf> {
        let entries = self.bases().into_iter().filter_map(|base| fs::read_dir(base).ok());
        let names: BTreeSet<_> =
            entries.flatten().flatten().map(|entry| entry.file_name()).collect();
        let mut doubtful = Vec::new();
        for name in names {
            let Some(owner) = name.to_str().and_then(owner) else { continue };
            let groups: Vec<_> = self.bases().iter().map(|base| base.join(&name)).collect();
            if owner.is_gone() {
                finish(groups);
            } else if owner.is_out_of_sight() && is_empty(&groups) && was_used(&groups) {
                doubtful.extend(groups);
            }
        }
        doubtful
    }
}

/// Removes groups when a living node would have removed them long ago. As long as anybody is in
/// one, the kernel keeps it.
fn remove_later(groups: Vec<PathBuf>) {
    let reaper = thread::Builder::new().name("reaper".to_owned()).spawn(move || {
        thread::sleep(SETTLED);
        for group in groups {
            let _ = remove(&group);
        }
    });
    if let Err(error) = reaper {
        tracing::warn!(event = "cgroup_left", "no thread to remove control groups: {error}");
    }
}

/// Whether nobody is in these groups, which are one; who is in them may have no number here.
fn is_empty(groups: &[PathBuf]) -> bool {
    groups.iter().all(|group| match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => text.is_empty(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    })
}

/// Whether anything has ever run in these groups, which are one.
fn was_used(groups: &[PathBuf]) -> bool {
    groups.iter().any(|group| {
        let counted = |file| number(group, file).is_some_and(|count| count > 0);
        counted("memory.peak")
            || counted("memory.max_usage_in_bytes")
            || counted("cpuacct.usage")
            || keyed(group, "cpu.stat", "usage_usec").is_some_and(|count| count > 0)
    })
}

/// The number of the namespace in which this process has its pid; 0 where it cannot be had.
fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino())
}

/// The node that made a group, as the group's name says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: u64,
    started: u64,
    namespace: u64,
}

/// Who made the group of that name, if it is one of ours.
fn owner(name: &str) -> Option<Owner> {
    let rest = name.strip_prefix(PREFIX)?;
    let mut parts = rest.split('-').map_while(|part| part.parse::<u64>().ok());
    Some(Owner { pid: parts.next()?, started: parts.next()?, namespace: parts.next()? })
}

impl Owner {
    /// In another namespace its pid means nothing here; nor does it where one of the two could not
    /// be had when the group was made.
    fn is_out_of_sight(self) -> bool {
        self.namespace == 0 || self.started == 0 || self.namespace != pid_namespace()
    }

    fn is_gone(self) -> bool {
        if self.is_out_of_sight() {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return true };
        match start_time(pid) {
            Some(started) => started != self.started,
            // What cannot be read may be hidden, and live.
            None => test_kill_process(pid) == Err(Errno::SRCH),
        }
    }
}

impl Group {
    /// How a thread starts processes in it; absent: they have to be admitted.
    pub(super) fn visit(&self) -> Option<Visit> {
        let back = |group: &PathBuf| group.parent().map(Path::to_owned);
        (self.version == Keeper::Cgroup1).then(|| Visit {
            there: self.directories.clone(),
            back: self.directories.iter().filter_map(back).collect(),
        })
    }

    /// Puts a process in it; those that it starts are in it, too.
    pub(super) fn admit(&self, pid: Pid) -> io::Result<()> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), pid.as_raw_pid().to_string())?;
        }
        Ok(())
    }

    /// What it has used so far.
    pub(super) fn count(&self) -> Count {
        match self.version {
            Keeper::Cgroup2 => self.directories.first().map(|own| v2::count(own)),
            Keeper::Cgroup1 | Keeper::Rlimits => Some(v1::count(&self.directories)),
        }
        .unwrap_or_default()
    }

    /// Kills what is left in it and removes it. Takes until all of that is gone: not for async
    /// code.
    pub(super) fn remove(&self) {
        finish(self.directories.clone());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.directories.retain(|directory| remove(directory).is_err());
        if self.directories.is_empty() {
            return;
        }
        kill(&self.directories);
        // Whoever drops it may be a thread that serves everything else.
        let left = std::mem::take(&mut self.directories);
        let reaper = thread::Builder::new().name("reaper".to_owned());
        if let Err(error) = reaper.spawn(move || finish(left)) {
            tracing::warn!(event = "cgroup_left", "no thread to remove a control group: {error}");
        }
    }
}

/// Kills what is left in these groups and removes them.
fn finish(mut directories: Vec<PathBuf>) {
    for _ in 0..TRIES {
        directories.retain(|directory| remove(directory).is_err());
        if directories.is_empty() {
            return;
        }
        kill(&directories);
        thread::sleep(PAUSE);
    }
    tracing::warn!(event = "cgroup_left", "{directories:?} cannot be removed");
}

fn kill(directories: &[PathBuf]) {
    for directory in directories {
        if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        // Version 1 and old kernels do it one by one, again and again until none is left.
        for pid in processes(directory).into_iter().filter(|pid| *pid != getpid()) {
            // It may have ended meanwhile.
            let _ = signal(pid, Signal::KILL, || processes(directory).contains(&pid));
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn processes(directory: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// The number in a file, where there is one.
fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(directory: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A path of a hierarchy as `/proc/self/cgroup` has it, below where it is mounted.
fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
