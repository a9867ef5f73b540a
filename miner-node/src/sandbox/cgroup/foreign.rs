//! The group in which somebody else put a job: an engine of containers. It is only read.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::{Count, below, keyed, v1, v2};

/// A group that is not the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) enum Foreign {
    V1(Vec<PathBuf>),
    V2(PathBuf),
}

impl Foreign {
    /// That of `pid` below the hierarchies at `root`, if it belongs to what is called `owner`: a
    /// group that others are in, too, would say nothing of this one.
    pub(in crate::sandbox) fn of(root: &Path, pid: Pid, owner: &str) -> Option<Self> {
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid())).ok()?;
        Self::in_membership(root, &membership, owner)
    }

    fn in_membership(root: &Path, membership: &str, owner: &str) -> Option<Self> {
        let mut first = Vec::new();
        for line in membership.lines() {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            if owner.is_empty() || !path.contains(owner) {
                continue;
            }
            if controllers.is_empty() {
                let group = below(root, path);
                if group.join("memory.current").exists() {
                    return Some(Self::V2(group));
                }
            }
            let mounts = controllers.split(',').map(|controller| root.join(controller));
            first.extend(mounts.map(|mount| below(&mount, path)).filter(|group| group.is_dir()));
        }
        (!first.is_empty()).then_some(Self::V1(first))
    }

    pub(in crate::sandbox) fn count(&self) -> Count {
        match self {
            Self::V1(groups) => v1::count(groups),
            Self::V2(group) => v2::count(group),
        }
    }

    /// Of its memory, what keeps the contents of files and would go if anything else needed it, in
    /// bytes.
    pub(in crate::sandbox) fn file_bytes(&self) -> u64 {
        let (groups, keys) = match self {
            Self::V1(groups) => (groups.as_slice(), ["total_inactive_file", "total_active_file"]),
            Self::V2(group) => (std::slice::from_ref(group), ["inactive_file", "active_file"]),
        };
        let count = |key| groups.iter().find_map(|group| keyed(group, "memory.stat", key));
        keys.into_iter().filter_map(count).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_of_its_own_is_read() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["memory/pod/libpod-77", "cpuacct/pod/libpod-77", "user.slice"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let usage = root.path().join("cpuacct/pod/libpod-77/cpuacct.usage");
        fs::write(usage, "5000000\n").unwrap();
        let find = |text: &str, owner: &str| Foreign::in_membership(root.path(), text, owner);
        let text = "3:cpu,cpuacct:/pod/libpod-77\n2:memory:/pod/libpod-77\n0::/pod/libpod-77\n";
        let found = find(text, "77").unwrap();
        assert_eq!(found.count().cpu, Some(std::time::Duration::from_millis(5)));
        assert_eq!(find(text, ""), None);
        assert_eq!(find("0::/user.slice\n", "77"), None);
        let second = root.path().join("machine.slice/libpod-77.scope");
        fs::create_dir_all(&second).unwrap();
        fs::write(second.join("memory.current"), "4096\n").unwrap();
        let found = find("0::/machine.slice/libpod-77.scope\n", "77").unwrap();
        assert_eq!((&found, found.count().memory_bytes), (&Foreign::V2(second), 4096));
    }
}
