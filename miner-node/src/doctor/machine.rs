//! Whether this machine is ready: configuration, user, key.

use super::Finding;
use crate::config::{Config, ConfigError, Loaded};
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

/// It was not read: the node would not start.
pub(super) fn no_config(error: &ConfigError) -> Finding {
    let fix = match error {
        ConfigError::UnknownKey { .. } => {
            "correct the name (etc/miner.yaml has all), or take the line out"
        }
        ConfigError::Unreadable { error, .. }
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            "chown the file to the node's user, and chmod 600 it"
        }
        ConfigError::Unreadable { .. } => "put the file there, or name another with --config",
        ConfigError::TooLarge { .. } => "name the right file with --config",
        ConfigError::Yaml { .. } | ConfigError::Line { .. } => "correct the file at that place",
        ConfigError::Value { .. } => "correct the value",
    };
    Finding::fail("config", error.to_string(), fix)
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
        Err(error @ identity::IdentityError::Exposed { .. }) => Finding::fail(
            "signing key",
            error.to_string(),
            format!("chmod 600 {}; if others may have read it, make a new one", path.display()),
        ),
        Err(error) => Finding::fail(
            "signing key",
            error.to_string(),
            "restore the file from a backup, or move it away to get a new key (the coordinator must then rotate it)",
        ),
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
