//! Whether a file, and the way to it, can be trusted: nobody but root and the node's own user can have
//! written it or can put another one in its place.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path};

/// A plain file of at most `largest` bytes that only root or we can have written.
pub(super) fn check_file(path: &Path, largest: u64) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("is a link or no plain file".to_owned());
    }
    check_owner(&found)?;
    if found.len() > largest {
        return Err(format!("is larger than {largest} bytes"));
    }
    Ok(())
}

/// A directory into which only root or we can have put anything.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    let found = path.metadata().map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("is no directory".to_owned());
    }
    check_owner(&found)?;
    check_way(path)
}

/// An executable file that nobody else can replace, under the name that it really has.
pub(super) fn check_program(path: &Path) -> Result<(), String> {
    check_file(path, u64::MAX)?;
    check_real(path)?;
    let mode = path.metadata().map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o111 == 0 {
        return Err("is not executable".to_owned());
    }
    check_way(path)
}

/// A file or directory to be shown to jobs, under the name that it really has.
pub(super) fn check_shown(path: &Path) -> Result<(), String> {
    if !is_plain(path) {
        return Err("must be absolute and plain".to_owned());
    }
    check_real(path)?;
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() && !found.is_dir() {
        return Err("is neither a file nor a directory".to_owned());
    }
    Ok(())
}

/// Whether it is absolute and goes neither up nor in circles.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    // Components swallow `/./` and `//`, so the text is compared, too.
    path.is_absolute()
        && path.components().all(plain)
        && path.components().collect::<std::path::PathBuf>().as_os_str() == path.as_os_str()
}

fn check_owner(found: &Metadata) -> Result<(), String> {
    if found.permissions().mode() & 0o002 != 0 {
        return Err("is writable for everybody".to_owned());
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err("belongs to another user".to_owned());
    }
    Ok(())
}

/// No directory on the way is a link: what is allowed is what is started.
fn check_real(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
    if real != path {
        return Err(format!("is a link; it really is {}", real.display()));
    }
    Ok(())
}

/// No directory on the way lets everybody put another file in the place of this one.
fn check_way(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
    for directory in real.ancestors().skip(1) {
        let mode = directory.metadata().map_err(|error| error.to_string())?.permissions().mode();
        // In a sticky directory everybody's files stay their own.
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            let directory = directory.display();
            return Err(format!("can be replaced: {directory} is writable for everybody"));
        }
    }
    Ok(())
}
