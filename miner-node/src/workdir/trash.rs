//! Getting rid of what strangers' programs left behind: trees of any depth and width, also where
//! parts are locked.
//!
//! What goes is first renamed into the trash directory, which is one step however large it is, and
//! removed from there. Subdirectories are lifted up into the trash before their parent goes, so
//! that no path and no list of open files grows with the depth.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::private;

/// The mode that lets its owner rename and empty a directory.
const OWNERS: u32 = 0o700;

/// The trash of one workspace.
#[derive(Debug)]
pub struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    emptying: Mutex<()>,
    filled: Notify,
}

impl Trash {
    /// The one at `directory`, which is made if it is not there.
    pub(super) fn open(directory: PathBuf) -> Result<Self, private::NotPrivate> {
        private::directory(&directory)?;
        Ok(Self {
            directory,
            next: AtomicU64::new(0),
            emptying: Mutex::new(()),
            filled: Notify::new(),
        })
    }

    /// Takes a file or directory out of sight; that there is none is fine.
    ///
    /// # Errors
    /// Of the file system; then it is where it was.
    pub fn toss(&self, path: &Path) -> io::Result<()> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        // A directory's parent is an entry in it: moving it needs the right to change it.
        if found.is_dir() && found.permissions().mode() & OWNERS != OWNERS {
            fs::set_permissions(path, Permissions::from_mode(OWNERS))?;
        }
        fs::rename(path, self.free_name())?;
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until something was tossed.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Removes everything that is in the trash, for good. May take a while: not for async code.
    ///
    /// # Errors
    /// The last one, when all the rest is gone.
    pub fn empty(&self) -> io::Result<()> {
        let _alone = self.emptying.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (mut removed, mut failed) = (false, None);
            for entry in fs::read_dir(&self.directory)? {
                let entry = entry?;
                match self.remove(&entry.path(), entry.file_type()?.is_dir()) {
                    Ok(()) => removed = true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => failed = Some(error),
                }
            }
            // What was lifted up is left for the next round.
            if !removed {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    fn remove(&self, path: &Path, is_directory: bool) -> io::Result<()> {
        if !is_directory {
            return fs::remove_file(path);
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.toss(&entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(path)
    }

    /// A name that is free: those of an earlier life of the node may still be taken.
    fn free_name(&self) -> PathBuf {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.directory.join(number.to_string());
            if path.symlink_metadata().is_err() {
                return path;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

    use super::*;

    fn trash() -> (tempfile::TempDir, Trash) {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(root.path().join("trash")).unwrap();
        (root, trash)
    }

    fn count(trash: &Trash) -> usize {
        fs::read_dir(&trash.directory).unwrap().count()
    }

    /// A tree that is deeper than any path may be long and than files may be open.
    fn deep_tree(path: &Path, levels: usize) {
        fs::create_dir(path).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let mut at: OwnedFd = openat(CWD, path, flags, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = openat(&at, "deep", flags, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn the_deepest_tree_goes() {
        let (root, trash) = trash();
        let path = root.path().join("tree");
        deep_tree(&path, 2500);
        trash.toss(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(count(&trash), 1);
        trash.empty().unwrap();
        assert_eq!(count(&trash), 0);
    }

    #[test]
    fn locked_directories_go_and_links_are_not_followed() {
        let (root, trash) = trash();
        let kept = root.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let locked = root.path().join("a/b");
        fs::create_dir_all(&locked).unwrap();
        fs::write(locked.join("file"), "x").unwrap();
        symlink(&kept, locked.join("link")).unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(root.path().join("a"), Permissions::from_mode(0o500)).unwrap();
        trash.toss(&root.path().join("a")).unwrap();
        trash.empty().unwrap();
        assert_eq!(count(&trash), 0);
        assert!(kept.join("file").exists());
        trash.toss(&root.path().join("a")).unwrap();
    }

    #[test]
    fn what_an_earlier_life_left_is_no_obstacle() {
        let (root, trash) = trash();
        fs::create_dir_all(trash.directory.join("0/full")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        trash.toss(&root.path().join("file")).unwrap();
        assert_eq!(count(&trash), 2);
        trash.empty().unwrap();
        assert_eq!(count(&trash), 0);
    }
}
