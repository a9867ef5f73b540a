//! Whether this machine is ready: configuration, directories, key, GPU.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Finding;
use crate::capabilities::{Sensors, host, mode};
use crate::config::{Config, Loaded};
use crate::identity;

/// The configuration was read; what is odd about it?
pub(super) fn config(loaded: &Loaded) -> Vec<Finding> {
    if loaded.warnings.is_empty() {
        let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
        let from =
            if files.is_empty() { "defaults and environment".to_owned() } else { files.join(", ") };
        return vec![Finding::ok("config", from)];
    }
    let fix = "see miner-node config show --origin";
    loaded.warnings.iter().map(|warning| Finding::warn("config", warning, fix)).collect()
}

/// As which user the node would run.
pub(super) fn user() -> Finding {
    root_or_not(rustix::process::geteuid().is_root())
}

fn root_or_not(is_root: bool) -> Finding {
    if is_root {
        Finding::warn(
            "user",
            "this is root: a flaw in the sandbox would cost the whole machine",
            "run the node as a user of its own (User= in the unit)",
        )
    } else {
        Finding::ok("user", "not root")
    }
}

/// Work and state directory.
pub(super) fn directories(config: &Config) -> Vec<Finding> {
    let mut findings = vec![directory("work dir", &config.workspace.root)];
    if config.state_dir() != config.workspace.root {
        findings.push(directory("state dir", config.state_dir()));
    }
    let disk = host::disk(&config.workspace.root);
    let floor = config.workspace.min_free_mb;
    if disk.available_mb < floor.into() {
        let (free, path) = (disk.available_mb, disk.path.display());
        let detail =
            format!("{free} MiB free below {path}; no job is taken with less than {floor}");
        let fix = "make room, point WORK_DIR elsewhere, or lower workspace.min_free_mb";
        findings.push(Finding::fail("disk", detail, fix));
    } else {
        findings.push(Finding::ok("disk", format!("{} MiB free", disk.available_mb)));
    }
    findings
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
        let fix = format!("chown {shown} to the node's user, or set WORK_DIR");
        return Finding::fail(check, format!("{shown} is not writable: {error}"), fix);
    }
    match fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o022 != 0 => Finding::warn(
            check,
            format!("{shown} can be changed by others (mode {mode:03o})"),
            format!("chmod 700 {shown}"),
        ),
        _ => Finding::ok(check, format!("{shown} is writable")),
    }
}

/// The key that signs receipts.
pub(super) fn signing_key(config: &Config) -> Finding {
    let path = identity::key_path(config);
    if !path.exists() {
        return Finding::ok("signing key", "will be made at the first run");
    }
    match identity::read_key(&path) {
        Ok(key) => {
            let public = protocol::signing::key_id(&key.verifying_key());
            let label = identity::known_node_id(config).map(|id| format!(" of {id}"));
            Finding::ok("signing key", format!("{public}{}", label.unwrap_or_default()))
        }
        Err(error) => Finding::fail(
            "signing key",
            error.to_string(),
            "restore the file from a backup, or move it away to get a new key (the coordinator must then rotate it)",
        ),
    }
}

/// What jobs run on.
pub(super) fn accelerator(config: &Config) -> Finding {
    let gpus: Vec<_> =
        Sensors::of_machine().gpus().into_iter().filter(|gpu| gpu.is_usable()).collect();
    match mode(config.accel_mode, !gpus.is_empty()) {
        (_, Some(warning)) => Finding::warn(
            "gpu",
            warning,
            "install the driver (nvidia-smi must work), or set ACCEL_MODE=auto",
        ),
        (kind, None) => {
            let names: Vec<_> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
            let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Finding::ok("gpu", format!("mode {kind}; GPUs: {found}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn root_is_warned() {
        assert_eq!(root_or_not(true).status, Status::Warn);
        assert_eq!(root_or_not(false).status, Status::Ok);
    }
}
