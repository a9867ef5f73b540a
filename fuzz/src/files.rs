//! Files for parsers that read nothing else: a directory per thread, gone with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a temporary directory");
}

/// Puts `data` into a file of this name, which may have directories in it, and says where it is.
pub(crate) fn put(name: &str, data: &[u8]) -> PathBuf {
    let path = directory().join(name);
    if let Err(error) = fs::write(&path, data) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
        fs::write(&path, data).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    }
    path
}

/// The directory below which they are.
pub(crate) fn directory() -> PathBuf {
    DIRECTORY.with(|directory| directory.path().to_owned())
}
