//! Whether there is somewhere to write: work and state directory, room on their disk, the log file.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Finding;
use crate::capabilities::host;
use crate::config::Config;

/// Fewer free files than this, and jobs with many small ones fail.
const LEAST_FILES: u64 = 10_000;

/// Work and state directory, and what is left of the disk.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![directory("work dir", &config.workspace.root)];
    if config.state_dir() != config.workspace.root {
        findings.push(directory("state dir", config.state_dir()));
    }
    findings.push(room(&config.workspace.root, config.workspace.min_free_mb));
    findings.extend(config.logging.path.as_deref().and_then(log_file));
    findings
}

fn room(root: &Path, floor: u32) -> Finding {
    let disk = host::disk(root);
    let (free, path) = (disk.available_mb, disk.path.display());
    if free < floor.into() {
        let detail =
            format!("{free} MiB free below {path}; no job is taken with less than {floor}");
        let fix = "make room, point WORK_DIR elsewhere, or lower workspace.min_free_mb";
        return Finding::fail("disk", detail, fix);
    }
    let files = rustix::fs::statvfs(&disk.path).ok().filter(|of| of.f_files > 0);
    match files.map(|of| of.f_favail) {
        Some(0) => Finding::fail(
            "disk",
            format!("{free} MiB free below {path}, but no more files can be made there"),
            "delete files that nobody needs (df -i), or point WORK_DIR elsewhere",
        ),
        Some(files) if files < LEAST_FILES => Finding::warn(
            "disk",
            format!("{free} MiB free below {path}, but only {files} more files can be made there"),
            "delete files that nobody needs (df -i), or point WORK_DIR elsewhere",
        ),
        _ => Finding::ok("disk", format!("{free} MiB free")),
    }
}

/// Whether files can be made in it, tried by making one.
fn directory(check: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    if !path.exists() {
        let above = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        return match rustix::fs::access(above, rustix::fs::Access::WRITE_OK) {
            Ok(()) => Finding::ok(check, format!("{shown} will be made at the first run")),
            Err(error) => Finding::fail(
                check,
                format!("{shown} is not there and cannot be made: {error}"),
                format!("mkdir -p {shown} and chown it to the node's user, or set WORK_DIR"),
            ),
        };
    }
    let trial = path.join(format!(".doctor.{}", std::process::id()));
    let tried = fs::write(&trial, b"x");
    // Left behind it is only clutter.
    let _ = fs::remove_file(&trial);
    if let Err(error) = tried {
        return Finding::fail(
            check,
            format!("{shown} is not writable: {error}"),
            remedy(&error, path),
        );
    }
    match fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o022 != 0 => Finding::fail(
            check,
            format!("{shown} can be changed by others (mode {mode:03o}); the node will not start"),
            format!("chmod 700 {shown}"),
        ),
        _ => Finding::ok(check, format!("{shown} is writable")),
    }
}

/// What helps where something cannot be written.
fn remedy(error: &Error, path: &Path) -> String {
    let shown = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room on that disk (df -h, df -i), or point WORK_DIR elsewhere".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => format!(
            "mount it writable (findmnt -T {shown}; a disk with errors is mounted read-only: \
             dmesg), or take it into ReadWritePaths= of the unit"
        ),
        _ => format!("chown {shown} to the node's user, or set WORK_DIR"),
    }
}

/// A log file that cannot be written keeps the node from starting.
fn log_file(path: &Path) -> Option<Finding> {
    let above = path.parent().unwrap_or(Path::new("/"));
    // Looking makes no file.
    let error = if path.exists() {
        OpenOptions::new().append(true).open(path).err()
    } else {
        rustix::fs::access(above, rustix::fs::Access::WRITE_OK).err().map(Error::from)
    };
    error.map(|error| {
        let shown = path.display();
        Finding::fail(
            "log",
            format!("{shown} cannot be written: {error}; the node will not start"),
            format!(
                "mkdir -p {0} and chown it to the node's user, or unset logging.path",
                above.display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn directories_are_tried() {
        let directory = TempDir::new().unwrap();
        let mut config = Config::default();
        config.workspace.root = directory.path().to_owned();
        assert_eq!(check(&config)[0].status, Status::Ok);
        // Nothing of the trial is left.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        config.workspace.root = directory.path().join("later/on");
        assert!(check(&config)[0].detail.contains("first run"));
        // A file where a directory should be cannot be written to by anybody, root included.
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        config.workspace.root = file;
        assert_eq!(check(&config)[0].status, Status::Fail);
    }

    #[test]
    fn a_directory_of_everybody_s_is_none() {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut config = Config::default();
        config.workspace.root = directory.path().to_owned();
        let finding = &check(&config)[0];
        assert_eq!(finding.status, Status::Fail);
        assert!(finding.fix.as_ref().unwrap().contains("chmod 700"), "{finding:?}");
        assert!(crate::private::directory(directory.path()).is_err());
    }

    #[test]
    fn a_log_file_has_to_have_a_place() {
        let directory = TempDir::new().unwrap();
        let mut config = Config::default();
        config.workspace.root = directory.path().to_owned();
        for (path, is_well) in [("miner.log", true), ("none/miner.log", false), ("", false)] {
            config.logging.path = Some(directory.path().join(path));
            let findings = check(&config);
            let told = findings.iter().any(|finding| finding.check == "log");
            assert_eq!(told, !is_well, "{path}: {findings:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
