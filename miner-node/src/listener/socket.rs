//! Sockets in the file system: each for its owner alone from its first moment on, never in place of
//! one that somebody listens at, and taken away by nobody but who put it there.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Where a socket is, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A socket at `path`, in place of one that an earlier node left behind.
///
/// # Errors
/// Where somebody listens there, there is something else, or it cannot be put there.
pub(super) async fn bind(path: &Path) -> io::Result<(UnixListener, Place)> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => is_left_behind(path).await?,
        Ok(_) => return Err(io::Error::other("is there already, and is no socket")),
        Err(_) => {}
    }
    // Nobody can come to it before it has its mode.
    let nursery = path.with_file_name(format!(".{}", std::process::id()));
    let unfinished = nursery.join("s");
    clear(&nursery, &unfinished);
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let made = make(&unfinished, path);
    clear(&nursery, &unfinished);
    made
}

/// # Errors
/// Where somebody listens at `path`, or that cannot be told.
async fn is_left_behind(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there already")),
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn make(unfinished: &Path, path: &Path) -> io::Result<(UnixListener, Place)> {
    let listener = UnixListener::bind(unfinished)?;
    fs::set_permissions(unfinished, Permissions::from_mode(0o600))?;
    let found = fs::symlink_metadata(unfinished)?;
    fs::rename(unfinished, path)?;
    Ok((listener, Place { path: path.to_owned(), device: found.dev(), inode: found.ino() }))
}

/// Takes away what is not finished, also that of an earlier process of the same number.
fn clear(nursery: &Path, unfinished: &Path) {
    let _ = fs::remove_file(unfinished);
    let _ = fs::remove_dir(nursery);
}

impl Place {
    fn is(&self, found: &Metadata) -> bool {
        (found.dev(), found.ino()) == (self.device, self.inode)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody shall knock at what is not there any more; but another's is another's.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| self.is(&found)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[tokio::test]
    async fn a_living_one_stays_and_a_dead_one_makes_room() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, place) = bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(root.path()), ["control.sock"]);

        let refused = bind(&path).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        drop((listener, place));
        assert!(names(root.path()).is_empty());
    }

    #[tokio::test]
    async fn what_another_put_there_stays_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control.sock");
        let (_listener, place) = bind(&path).await.unwrap();
        fs::rename(&path, root.path().join("moved")).unwrap();
        let _another = UnixListener::bind(&path).unwrap();
        drop(place);
        assert!(path.exists());

        let file = root.path().join("file");
        fs::write(&file, "dear").unwrap();
        assert!(bind(&file).await.is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "dear");
    }

    #[tokio::test]
    async fn what_a_killed_process_left_unfinished_is_no_hindrance() {
        let root = tempfile::tempdir().unwrap();
        let nursery = root.path().join(format!(".{}", std::process::id()));
        fs::create_dir(&nursery).unwrap();
        drop(std::os::unix::net::UnixListener::bind(nursery.join("s")).unwrap());
        let path = root.path().join("control.sock");
        let (_listener, _place) = bind(&path).await.unwrap();
        assert_eq!(names(root.path()), ["control.sock"]);
    }
}
