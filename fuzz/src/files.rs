//! Files for parsers that read nothing else: a directory per thread, gone with it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a temporary directory");
}

/// Puts `data` into a file of this name, which may have directories in it, and says where it is.
pub(crate) fn put(name: &str, data: &[u8]) -> PathBuf {
    let path = directory().join(name);
    // A new file each time: one that is cut off and written again is brought to disk at once.
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
    write(&path, data).expect("a file");
    path
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(data)
}

/// The directory below which they are.
pub(crate) fn directory() -> PathBuf {
    DIRECTORY.with(|directory| directory.path().to_owned())
}
