//! Whether a file, and the way to it, can be trusted: nobody but root and the node's own user can have
//! written it or can put another one in its place.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path};

/// The permission to write, of the group and of everybody: who is in a group is not our affair.
const OTHERS_WRITE: u32 = 0o022;

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
    if found.permissions().mode() & OTHERS_WRITE != 0 {
        return Err("is writable for its group or for everybody".to_owned());
    }
    if !is_ours(found.uid()) {
        return Err("belongs to another user".to_owned());
    }
    Ok(())
}

/// Whether root or we own it.
fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// How others could exchange what is in a directory of `uid`'s with this `mode`.
fn opens_to_others(mode: u32, uid: u32) -> Option<&'static str> {
    // In a sticky directory everybody's files stay their own.
    if mode & OTHERS_WRITE != 0 && mode & 0o1000 == 0 {
        return Some("is writable for its group or for everybody");
    }
    (!is_ours(uid)).then_some("belongs to another user")
}

/// No directory on the way is a link: what is allowed is what is started.
fn check_real(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
    if real != path {
        return Err(format!("is a link; it really is {}", real.display()));
    }
    Ok(())
}

/// No directory on the way lets others put another file in the place of this one.
fn check_way(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
    for directory in real.ancestors().skip(1) {
        let found = directory.metadata().map_err(|error| error.to_string())?;
        let why = opens_to_others(found.permissions().mode(), found.uid());
        let Some(why) = why else { continue };
        return Err(format!("can be replaced: {} {why}", directory.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_open_to_its_owner_and_to_who_may_write() {
        let own = rustix::process::geteuid().as_raw();
        for (mode, uid, is_open) in [
            (0o755, 0, false),
            (0o755, own, false),
            (0o1777, 0, false),
            (0o1775, 0, false),
            (0o777, 0, true),
            (0o775, 0, true),
            (0o775, own, true),
            (0o755, own + 1, true),
            (0o1777, own + 1, true),
        ] {
            assert_eq!(opens_to_others(mode, uid).is_some(), is_open, "{mode:o} {uid}");
        }
    }
}
