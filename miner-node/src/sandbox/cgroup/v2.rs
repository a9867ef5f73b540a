//! Version 2: one hierarchy, of which the node needs a part to itself.
//!
//! Processes and limited groups cannot be side by side in one group, so the node first moves itself
//! one level down. systemd has a setting for that (`DelegateSubgroup=`) only since version 254.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::getpid;

use super::{Count, Limits, NotDelegated, OWN_PROCESSES, PERIOD_MICROS, below, keyed, number};

/// The group that the node moves itself to. No unit or container is called that: an earlier life of
/// the node is told from them by it.
const LEAF: &str = "aitbc-node-itself";

/// Without them, jobs are not limited.
const NEEDED: [&str; 3] = ["memory", "pids", "cpu"];

#[derive(Debug)]
pub(super) struct Tree {
    base: PathBuf,
}

impl Tree {
    pub(super) fn delegated(root: &Path, membership: &str) -> Result<Self, NotDelegated> {
        let no = |why: String| NotDelegated(format!("version 2: {why}"));
        let path = membership.lines().find_map(|line| line.strip_prefix("0::"));
        let path = path.ok_or_else(|| no("there is none".to_owned()))?;
        let base = below(root, above_leaf(path));
        let text = fs::read_to_string(base.join("cgroup.controllers"));
        let text = text.map_err(|error| no(format!("{}: {error}", base.display())))?;
        let offered: Vec<_> = text.split_whitespace().collect();
        if let Some(missing) = NEEDED.iter().find(|needed| !offered.contains(needed)) {
            return Err(no(format!(
                "the {missing} controller is not offered in {}",
                base.display()
            )));
        }
        let tree = Self { base };
        tree.settle()
            .map_err(|error| no(format!("{} cannot be used: {error}", tree.base.display())))?;
        Ok(tree)
    }

    /// Moves the node down and has the controllers work for the groups below.
    fn settle(&self) -> io::Result<()> {
        let leaf = self.base.join(LEAF);
        let made = fs::create_dir(&leaf);
        if !leaf.is_dir() {
            return made;
        }
        let own = getpid().as_raw_pid().to_string();
        let switched = fs::write(leaf.join("cgroup.procs"), &own).and_then(|()| {
            fs::write(self.base.join("cgroup.subtree_control"), "+memory +pids +cpu")
        });
        if switched.is_err() {
            // Somebody else is in the group as well: everything stays as it was.
            let _ = fs::write(self.base.join("cgroup.procs"), &own);
            let _ = fs::remove_dir(&leaf);
        }
        switched
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn limit(&self, name: &str, limits: &Limits) -> io::Result<()> {
        let group = self.base.join(name);
        let write = |file: &str, value: String| fs::write(group.join(file), value);
        write("pids.max", (limits.processes + OWN_PROCESSES).to_string())?;
        if let Some(bytes) = limits.memory_bytes {
            write("memory.max", bytes.to_string())?;
            write("memory.oom.group", "1".to_owned())?;
            // Not there where the kernel has no swap at all.
            match write("memory.swap.max", "0".to_owned()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if let Some(threads) = limits.cpu_threads {
            write("cpu.max", format!("{} {PERIOD_MICROS}", u64::from(threads) * PERIOD_MICROS))?;
        }
        Ok(())
    }
}

/// The group that `path` is in, where it is the one that the node moves itself to; else `path`.
fn above_leaf(path: &str) -> &str {
    path.strip_suffix(LEAF).filter(|above| above.ends_with('/')).unwrap_or(path)
}

pub(super) fn count(group: &Path) -> Count {
    let memory =
        number(group, "memory.peak").or_else(|| number(group, "memory.current")).unwrap_or(0);
    Count {
        cpu: keyed(group, "cpu.stat", "usage_usec").map(Duration::from_micros),
        memory_bytes: memory,
        out_of_memory: keyed(group, "memory.events", "oom_kill").is_some_and(|kills| kills > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_name_is_the_leaf() {
        for (path, base) in [
            ("/unit.service/aitbc-node-itself", "/unit.service/"),
            ("/aitbc-node-itself", "/"),
            ("/my-aitbc-node-itself", "/my-aitbc-node-itself"),
            ("/docker/aitbc-node", "/docker/aitbc-node"),
            ("/", "/"),
        ] {
            assert_eq!(above_leaf(path), base);
        }
    }
}
