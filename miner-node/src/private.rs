//! Directories that only the node's own user may change, and files in them. Everything that the
//! node trusts later (keys, jobs, reports) is in one; what is in them is the neighbours' affair.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Why a directory is not good enough.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// Somebody else made it, or it is a link or a file.
    #[error("{} must be a directory that belongs to the user who runs the node", .0.display())]
    Foreign(PathBuf),
    /// Others can put files into it.
    #[error("{} can be changed by others (mode {mode:03o}); run: chmod 700 {}", path.display(), path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It cannot be made or looked at.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes the directory if it is not there, and checks that nobody else had a hand in it.
///
/// # Errors
/// See [`NotPrivate`].
pub fn directory(path: &Path) -> Result<(), NotPrivate> {
    let fail = |source| NotPrivate::Io { path: path.to_owned(), source };
    create(path).map_err(fail)?;
    let found = fs::symlink_metadata(path).map_err(fail)?;
    let mode = found.permissions().mode() & 0o777;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(NotPrivate::Foreign(path.to_owned()));
    }
    if mode & 0o022 != 0 {
        return Err(NotPrivate::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes a directory that nobody else can look into, with those above it.
///
/// # Errors
/// Of the file system.
pub fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How a file of the node's own is opened for writing: for nobody else, and never through a link
/// that somebody put in its place.
pub fn file() -> OpenOptions {
    let mut options = File::options();
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    options.write(true).mode(0o600).custom_flags(no_links);
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_others_can_change_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/work");
        directory(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for (mode, good) in [(0o755, true), (0o775, false), (0o777, false), (0o1777, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(directory(&path).is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn neither_a_link_nor_a_file_is_a_directory_of_ours() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        symlink(root.path(), &link).unwrap();
        assert!(matches!(directory(&link), Err(NotPrivate::Foreign(_))));
        let plain = root.path().join("file");
        fs::write(&plain, "").unwrap();
        assert!(matches!(directory(&plain), Err(NotPrivate::Io { .. })));
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        symlink(&target, root.path().join("lock")).unwrap();
        assert!(file().create(true).open(root.path().join("lock")).is_err());
        assert!(!target.exists());
    }
}
