//! How much a running job has written, as `du` would say it, and what it holds in files that have
//! no name any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::process_tree::descendants;

/// What a block of `st_blocks` is, whatever the file system.
const BLOCK: u64 = 512;

/// What every entry costs at least: its name and its inode.
const ENTRY: u64 = 256;

/// Longer paths could not be looked at; no honest program makes them.
const LONGEST_PATH: usize = 3072;

/// The bytes that everything below `directory` takes, counted up to `most`; more than that where it
/// cannot be measured.
pub(super) fn written(directory: &Path, most: u64) -> u64 {
    let mut total = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        match entries(&directory, &mut open, &mut total, most) {
            Ok(()) => {}
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // What is hidden from the node may be of any size.
            Err(_) => return u64::MAX,
        }
        if total > most {
            return total;
        }
    }
    total
}

fn entries(
    directory: &Path,
    open: &mut Vec<PathBuf>,
    total: &mut u64,
    most: u64,
) -> io::Result<()> {
    if directory.as_os_str().len() > LONGEST_PATH {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            open.push(entry.path());
        }
        // A file of several names is counted once, in parts.
        let names = if found.is_dir() { 1 } else { found.nlink().max(1) };
        *total = total.saturating_add(found.blocks().saturating_mul(BLOCK) / names + ENTRY);
        if *total > most {
            break;
        }
    }
    Ok(())
}

/// The bytes of files on `directory`'s file system that were deleted, but that `first` or a
/// descendant of it still has open.
pub(super) fn deleted(first: Pid, directory: &Path) -> u64 {
    let Ok(device) = fs::metadata(directory).map(|found| found.dev()) else { return 0 };
    let mut seen = HashSet::new();
    let mut total = 0_u64;
    for pid in descendants(first).into_iter().chain([first]) {
        // Gone meanwhile, or none of ours.
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())) else { continue };
        for descriptor in open.flatten() {
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            if found.nlink() == 0 && found.dev() == device && seen.insert(found.ino()) {
                total = total.saturating_add(found.blocks().saturating_mul(BLOCK));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn everything_counts_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(root.path().join("a/b/file"), root.path().join("a/again")).unwrap();
        let bytes = written(root.path(), u64::MAX);
        assert!(((1 << 20)..(1 << 20) + 65_536).contains(&bytes), "{bytes}");
        assert!(written(root.path(), 1000) > 1000);
    }

    #[test]
    fn holes_take_no_room_and_names_do() {
        let root = tempfile::tempdir().unwrap();
        fs::File::create(root.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        assert!(written(root.path(), u64::MAX) < 65_536);
        for number in 0..100 {
            fs::write(root.path().join(number.to_string()), "").unwrap();
        }
        assert!(written(root.path(), u64::MAX) >= 100 * ENTRY);
    }

    #[test]
    fn a_file_without_a_name_counts_as_long_as_it_is_open() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let own = rustix::process::getpid();
        let before = deleted(own, root.path());
        fs::remove_file(&path).unwrap();
        assert!(deleted(own, root.path()) >= before + (1 << 20));
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
        assert_eq!(written(root.path(), u64::MAX), u64::MAX);
    }
}
