//! What the configuration takes from the process and the machine, as a value, so that tests need
//! neither. Reading it is [`Environment::of_process`]; what it means is in the neighbours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::grammar::Names;

/// Variables, host name and user. No `Debug`: secrets are among the variables.
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment variables; those that are no Unicode are left out.
    pub variables: BTreeMap<String, String>,
    /// The name of this machine.
    pub hostname: String,
    /// Whether the process may write anywhere.
    pub is_root: bool,
}

/// Where a service keeps its data.
const SYSTEM_ROOT: &str = "/var/lib/aitbc/miner";

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(unicode).collect(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where jobs and state live unless the owner says otherwise: the system's place if this
    /// process may use it, the service manager's, or the user's own.
    pub fn default_root(&self) -> PathBuf {
        let system = Path::new(SYSTEM_ROOT);
        let writable = || rustix::fs::access(system, rustix::fs::Access::WRITE_OK).is_ok();
        if let Some(directories) = self.get("STATE_DIRECTORY") {
            return PathBuf::from(directories.split(':').next().unwrap_or(directories));
        }
        if self.is_root || writable() {
            return system.to_path_buf();
        }
        match (self.get("XDG_STATE_HOME"), self.get("HOME")) {
            (Some(state), _) => Path::new(state).join("aitbc/miner"),
            (None, Some(home)) => Path::new(home).join(".local/state/aitbc/miner"),
            (None, None) => system.to_path_buf(),
        }
    }
}

impl Names for Environment {
    fn hostname(&self) -> &str {
        &self.hostname
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_of(variables: &[(&str, &str)], is_root: bool) -> PathBuf {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Environment { variables, hostname: "rig7".to_owned(), is_root }.default_root()
    }

    #[test]
    fn the_place_depends_on_who_runs_it() {
        assert_eq!(root_of(&[("HOME", "/root")], true), Path::new(SYSTEM_ROOT));
        let service = [("STATE_DIRECTORY", "/var/lib/x:/var/lib/y"), ("HOME", "/root")];
        assert_eq!(root_of(&service, true), Path::new("/var/lib/x"));
    }
}
