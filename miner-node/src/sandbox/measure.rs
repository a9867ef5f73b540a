//! How much a running job has written, as `du` would say it, and what it holds in files that have
//! no name any more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstatvfs, makedev, openat, openat2,
    statat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use super::process_tree::descendants;

/// What a block of `st_blocks` is, whatever the file system.
const BLOCK: u64 = 512;

/// What every entry costs at least, its name and its inode, in bytes; and at most, since a few file
/// systems are made for few and large files.
const ENTRY: RangeInclusive<u64> = 4096..=65_536;

/// More files than a job may have at once.
const MOST_ENTRIES: u64 = 100_000;

/// Longer paths could not be looked at; no honest program makes them.
const LONGEST_PATH: usize = 3072;

/// Of what a process has in its memory, the list that is read, in bytes: the kernel allows 65,530
/// lines, and the path in one is seldom long.
const LONGEST_MAPS: u64 = 16 << 20;

/// A count that is under way.
struct Count<'a> {
    root: OwnedFd,
    /// What an entry costs in this file system.
    entry: u64,
    entries: u64,
    bytes: u64,
    most: u64,
    stop: &'a AtomicBool,
    /// Directories still to be looked at, from the root.
    open: Vec<PathBuf>,
}

/// The bytes that everything below `directory` takes, counted up to `most`, or until `stop`; more
/// than that where it cannot be measured or there are too many files.
///
/// The job changes all of it meanwhile, and what it puts in a directory's place must not lead out.
pub(super) fn written(directory: &Path, most: u64, stop: &AtomicBool) -> u64 {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match openat(CWD, directory, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return 0,
        Err(_) => return u64::MAX,
    };
    let entry = entry_bytes(&root);
    let open = vec![PathBuf::from(".")];
    let mut count = Count { root, entry, entries: 0, bytes: 0, most, stop, open };
    while let Some(directory) = count.open.pop() {
        match count.directory(&directory) {
            Ok(()) => {}
            // Something else is there by now, or nothing.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::AGAIN) => {}
            // What is hidden from the node may be of any size.
            Err(_) => return u64::MAX,
        }
        if count.is_over() {
            break;
        }
    }
    if count.entries > MOST_ENTRIES { u64::MAX } else { count.bytes }
}

impl Count<'_> {
    fn is_over(&self) -> bool {
        self.bytes > self.most || self.entries > MOST_ENTRIES || self.stop.load(Ordering::Relaxed)
    }

    fn directory(&mut self, path: &Path) -> Result<(), Errno> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let opened = openat2(&self.root, path, flags, Mode::empty(), within)?;
        for found in Dir::read_from(&opened)? {
            let found = found?;
            let name = found.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            // Gone meanwhile.
            let Ok(stat) = statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_directory {
                self.open.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
            // A file of several names is counted once, in parts.
            // Of a type that differs between processors.
            let links = u64::try_from(u128::from(stat.st_nlink)).unwrap_or(1);
            let names = if is_directory { 1 } else { links.max(1) };
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            let bytes = blocks.saturating_mul(BLOCK) / names + self.entry;
            self.bytes = self.bytes.saturating_add(bytes);
            self.entries += 1;
            if self.is_over() {
                break;
            }
        }
        Ok(())
    }
}

/// What of a file system every entry uses up: most have room for so many and no more.
fn entry_bytes(directory: &OwnedFd) -> u64 {
    let share = fstatvfs(directory)
        .ok()
        .and_then(|found| found.f_blocks.saturating_mul(found.f_frsize).checked_div(found.f_files));
    share.unwrap_or(0).clamp(*ENTRY.start(), *ENTRY.end())
}

/// The bytes of files on `directory`'s file system that were deleted, but that `first` or a
/// descendant of it still has open or in its memory. How large one is that is only in memory nobody
/// tells: it counts as `largest`.
pub(super) fn deleted(first: Pid, directory: &Path, largest: u64) -> u64 {
    let Ok(device) = fs::metadata(directory).map(|found| found.dev()) else { return 0 };
    let mut seen = HashSet::new();
    let mut mapped = HashSet::new();
    let mut total = 0_u64;
    for pid in descendants(first).into_iter().chain([first]) {
        mapped.extend(deleted_in_memory(pid, device));
        // Gone meanwhile, or none of ours.
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())) else { continue };
        for descriptor in open.flatten() {
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            if found.nlink() == 0 && found.dev() == device && seen.insert(found.ino()) {
                total = total.saturating_add(found.blocks().saturating_mul(BLOCK));
            }
        }
    }
    let unknown = u64::try_from(mapped.difference(&seen).count()).unwrap_or(u64::MAX);
    total.saturating_add(unknown.saturating_mul(largest))
}

/// The inodes of deleted files of `device` that are in the memory of `pid`.
fn deleted_in_memory(pid: Pid, device: u64) -> Vec<u64> {
    // Gone meanwhile, or none of ours.
    let Ok(maps) = fs::File::open(format!("/proc/{}/maps", pid.as_raw_pid())) else {
        return Vec::new();
    };
    let mut text = Vec::new();
    // What was read before an error counts all the same.
    let _ = maps.take(LONGEST_MAPS).read_to_end(&mut text);
    text.split(|byte| *byte == b'\n').filter_map(|line| deleted_map(line, device)).collect()
}

/// The inode in a line of `/proc/<pid>/maps`, where it is of a deleted file of `device`: `range
/// permissions offset major:minor inode path (deleted)`.
fn deleted_map(line: &[u8], device: u64) -> Option<u64> {
    let line = String::from_utf8_lossy(line.strip_suffix(b" (deleted)")?);
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let inode = fields.next()?.parse().ok()?;
    (makedev(number(major)?, number(minor)?) == device).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(directory: &Path) -> u64 {
        written(directory, u64::MAX, &AtomicBool::new(false))
    }

    #[test]
    fn everything_counts_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(root.path().join("a/b/file"), root.path().join("a/again")).unwrap();
        let bytes = all(root.path());
        assert!(((1 << 20)..(1 << 20) + 5 * ENTRY.end()).contains(&bytes), "{bytes}");
        assert!(written(root.path(), 1000, &AtomicBool::new(false)) > 1000);
        assert!(written(root.path(), u64::MAX, &AtomicBool::new(true)) < bytes);
    }

    #[test]
    fn holes_take_no_room_and_names_do() {
        let root = tempfile::tempdir().unwrap();
        fs::File::create(root.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        assert!(all(root.path()) < 2 * ENTRY.end());
        for number in 0..100 {
            fs::write(root.path().join(number.to_string()), "").unwrap();
        }
        assert!(all(root.path()) >= 100 * ENTRY.start());
    }

    #[test]
    fn a_file_without_a_name_counts_as_long_as_it_is_open() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let own = rustix::process::getpid();
        let before = deleted(own, root.path(), 7);
        fs::remove_file(&path).unwrap();
        assert!(deleted(own, root.path(), 7) >= before + (1 << 20));
    }

    #[test]
    fn what_is_too_deep_to_be_seen_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let mut path = root.path().to_owned();
        for _ in 0..20 {
            path.push("d".repeat(200));
        }
        // Made from above, as far as a path goes.
        fs::create_dir_all(path.ancestors().find(|p| p.as_os_str().len() < 3500).unwrap()).unwrap();
        assert_eq!(all(root.path()), u64::MAX);
    }

    #[test]
    fn what_a_link_names_is_not_counted() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(outside.path().join("inner")).unwrap();
        fs::write(outside.path().join("inner/large"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        assert!(all(root.path()) < 2 * ENTRY.end());
        // Nor where it stands by now for a directory that was seen before, or for the root.
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut count = Count {
            root: openat(CWD, root.path(), flags, Mode::empty()).unwrap(),
            entry: 0,
            entries: 0,
            bytes: 0,
            most: u64::MAX,
            stop: &AtomicBool::new(false),
            open: Vec::new(),
        };
        for (swapped, error) in [("link", Errno::NOTDIR), ("link/inner", Errno::LOOP)] {
            assert_eq!(count.directory(Path::new(swapped)), Err(error), "{swapped}");
        }
        assert_eq!(count.bytes, 0);
        assert_eq!(all(&root.path().join("link")), u64::MAX);
    }

    #[test]
    fn more_files_than_allowed_are_too_much() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("one"), "").unwrap();
        // Names of one file: quick to make, and as many entries.
        for number in 0..MOST_ENTRIES {
            let part = root.path().join((number / 1000).to_string());
            if number % 1000 == 0 {
                fs::create_dir(&part).unwrap();
                fs::write(part.join("file"), "").unwrap();
            } else {
                fs::hard_link(part.join("file"), part.join(number.to_string())).unwrap();
            }
        }
        assert_eq!(all(root.path()), u64::MAX);
    }

    #[test]
    fn a_deleted_file_in_memory_is_told_by_its_line() {
        let device = makedev(0xfe, 0x101);
        let line = |text: &str| deleted_map(text.as_bytes(), device);
        let gone = "7f00-7f01 rw-s 00000000 fe:101 4711                 /work/a b (deleted)";
        assert_eq!(line(gone), Some(4711));
        assert_eq!(line(&gone.replace("fe:101", "00:01")), None);
        assert_eq!(line(&gone.replace(" (deleted)", "")), None);
        for bad in ["", " (deleted)", "a b c d e (deleted)", "a b c fe:101 x (deleted)"] {
            assert_eq!(line(bad), None, "{bad}");
        }
    }
}
