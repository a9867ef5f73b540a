//! A user id for each running job, out of a range that belongs to nobody: what one job leaves, no
//! other can touch, and the kernel counts its processes by themselves.
//!
//! Only root can start a program as somebody else.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Command, Places, User, UserRange};

/// Accounts, and the ranges that are set apart for people's containers.
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];
const SUBORDINATES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// The ids of the range, and which are taken.
#[derive(Debug)]
pub(super) struct Users {
    range: UserRange,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    ids: BTreeSet<u32>,
    /// Where the search goes on: an id rests as long as possible before it is used again.
    next: u32,
}

/// An id in use; given back when dropped.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) user: User,
    taken: Arc<Mutex<Taken>>,
}

impl Users {
    /// Those of `range`, if this node may use them and nobody else does. Processes that run under
    /// some of them at this moment keep them.
    ///
    /// # Errors
    /// Why it is not possible, and what the owner can do about it.
    pub(super) fn of(range: UserRange, reached: &[PathBuf]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only a node that is started as root can use other user ids".to_owned());
        }
        if range.count == 0 {
            return Err("sandbox.uid_count is 0".to_owned());
        }
        let last = range.first.checked_add(range.count - 1).filter(|last| *last < u32::MAX);
        let Some(last) = last.filter(|_| range.first > 0) else {
            return Err(format!("{} ids from {} on do not exist", range.count, range.first));
        };
        let belongs = |id: u32| (range.first..=last).contains(&id);
        for file in ACCOUNTS {
            if let Some(name) = account_in(&read(file), belongs) {
                return Err(format!(
                    "{name} in {file} has an id of the range; set sandbox.uid_base"
                ));
            }
        }
        for file in SUBORDINATES {
            if let Some(name) = subordinates_in(&read(file), range.first, last) {
                return Err(format!(
                    "ids of the range are set apart for {name} in {file}; set sandbox.uid_base"
                ));
            }
        }
        if let Some(closed) = reached.iter().find_map(|path| closed_on_the_way(path)) {
            let (closed, fix) = (closed.display(), "run chmod o+x on it, or use another place");
            return Err(format!("other users cannot pass through {closed}; {fix}"));
        }
        let ids = running().into_iter().filter(|id| belongs(*id)).collect();
        // Two nodes on one machine hardly ever meet.
        let next = std::process::id().wrapping_mul(257) % range.count;
        Ok(Self { range, taken: Arc::new(Mutex::new(Taken { ids, next })) })
    }

    /// An id that no running job has; `None` where all are taken.
    pub(super) fn take(&self) -> Option<Tenant> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..self.range.count {
            let id = self.range.first + taken.next;
            taken.next = (taken.next + 1) % self.range.count;
            if taken.ids.insert(id) {
                return Some(Tenant { user: User { id }, taken: Arc::clone(&self.taken) });
            }
        }
        None
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.ids.remove(&self.user.id);
    }
}

/// Gives `user` what belongs to its run: the work directory for its own, the rest to read. Other
/// users of the machine cannot get past the directory that all of it is in.
pub(super) fn hand_over(user: User, command: &Command, places: &Places) -> io::Result<()> {
    let Some(job) = places.work.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    chown(job, None, Some(user.id))?;
    fs::set_permissions(job, Permissions::from_mode(0o710))?;
    own(&places.work, user)?;
    readable(&places.input)?;
    for shown in command.shown.iter().filter(|shown| shown.host.starts_with(job)) {
        readable(&shown.host)?;
    }
    Ok(())
}

/// What runners put into the work directory is the job's as well.
fn own(path: &Path, user: User) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return std::os::unix::fs::lchown(path, Some(user.id), Some(user.id));
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), user)?;
        }
    }
    chown(path, Some(user.id), Some(user.id))
}

fn readable(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(());
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            readable(&entry?.path())?;
        }
    }
    let mode = found.permissions().mode() & 0o777;
    let wanted = mode | if found.is_dir() || mode & 0o100 != 0 { 0o055 } else { 0o044 };
    if wanted == mode { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(wanted)) }
}

/// The first directory on the way to `path`, or `path` itself, that others may not enter or run.
fn closed_on_the_way(path: &Path) -> Option<&Path> {
    let way: Vec<_> = path.ancestors().collect();
    way.into_iter()
        .rev()
        .find(|step| fs::metadata(step).is_ok_and(|found| found.permissions().mode() & 0o001 == 0))
}

fn read(file: &str) -> String {
    // A system without it has no such accounts.
    fs::read_to_string(file).unwrap_or_default()
}

/// The first account whose third field is an id that `belongs` to the range.
fn account_in(text: &str, belongs: impl Fn(u32) -> bool) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        belongs(id).then_some(name)
    })
}

/// The first whose range of subordinate ids meets that from `first` to `last`.
fn subordinates_in(text: &str, first: u32, last: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let begin: u64 = fields.next()?.trim().parse().ok()?;
        let count: u64 = fields.next()?.trim().parse().ok()?;
        (begin <= last.into() && begin + count > first.into()).then_some(name)
    })
}

/// The user ids of all processes.
fn running() -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let is_process =
        |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries.flatten().filter(|entry| is_process(&entry.file_name()));
    processes.filter_map(|entry| Some(entry.metadata().ok()?.uid())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_belong_to_somebody_are_seen() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nlxc:x:2000000005:1::/:/bin/sh\n";
        assert_eq!(account_in(passwd, |id| id >= 2_000_000_000), Some("lxc"));
        assert_eq!(account_in(passwd, |id| id == 7), None);
        let subuid = "ann:100000:65536\nbob:1999999999:2\n";
        assert_eq!(subordinates_in(subuid, 2_000_000_000, 2_000_000_009), Some("bob"));
        assert_eq!(subordinates_in(subuid, 2_000_000_001, 2_000_000_009), None);
        assert_eq!(subordinates_in("bad\nworse:x:y\n", 0, 9), None);
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        for (path, mode) in [(root.path(), 0o711), (&root.path().join("a"), 0o755), (&inner, 0o750)]
        {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(closed_on_the_way(&inner), Some(inner.as_path()));
        assert_eq!(closed_on_the_way(&inner.join("later")), Some(inner.as_path()));
        fs::set_permissions(&inner, Permissions::from_mode(0o711)).unwrap();
        assert_eq!(closed_on_the_way(&inner.join("later")), None);
    }

    #[test]
    fn each_id_has_one_tenant_at_a_time() {
        let taken = Taken { ids: BTreeSet::from([11]), next: 1 };
        let range = UserRange { first: 10, count: 3 };
        let users = Users { range, taken: Arc::new(Mutex::new(taken)) };
        let (first, second) = (users.take().unwrap(), users.take().unwrap());
        assert_eq!((first.user.id, second.user.id), (12, 10));
        assert!(users.take().is_none());
        drop(first);
        assert_eq!(users.take().unwrap().user.id, 12);
    }

    #[test]
    fn what_is_handed_over_can_be_read_and_the_work_directory_changed() {
        if !rustix::process::geteuid().is_root() {
            let range = UserRange { first: 2_000_000_000, count: 9 };
            assert!(Users::of(range, &[]).unwrap_err().contains("root"));
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(&root.path().join("job"));
        fs::create_dir_all(places.work.join("sub")).unwrap();
        fs::create_dir_all(&places.input).unwrap();
        fs::write(places.input.join("file"), "x").unwrap();
        for path in [&places.input, &places.input.join("file")] {
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
        let command = Command {
            program: "/x".into(),
            args: Vec::new(),
            env: Vec::new(),
            shown: Vec::new(),
            limits: super::super::Limits::trial(),
        };
        let user = User { id: 2_000_000_007 };
        hand_over(user, &command, &places).unwrap();
        let of = |path: &Path| {
            let found = path.metadata().unwrap();
            (found.uid(), found.gid(), found.permissions().mode() & 0o777)
        };
        assert_eq!(of(&root.path().join("job")), (0, user.id, 0o710));
        assert_eq!(of(&places.work.join("sub")).0, user.id);
        assert_eq!(of(&places.input.join("file")), (0, 0, 0o755));
    }
}
