//! Version 1: a hierarchy for each controller. It is not delegated to users, so this is for nodes
//! that run as root, in containers and on old systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Count, Limits, NotDelegated, OWN_PROCESSES, PERIOD_MICROS, below, keyed, number};

/// The places in the hierarchies; `memory` and `pids` have to be there.
#[derive(Debug)]
pub(super) struct Tree {
    memory: PathBuf,
    pids: PathBuf,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
}

impl Tree {
    pub(super) fn writable(root: &Path, membership: &str) -> Result<Self, NotDelegated> {
        let needed = |controller| {
            base(root, membership, controller).ok_or_else(|| {
                NotDelegated(format!("no group can be made for the {controller} controller"))
            })
        };
        Ok(Self {
            memory: needed("memory")?,
            pids: needed("pids")?,
            cpu: base(root, membership, "cpu"),
            cpuacct: base(root, membership, "cpuacct"),
        })
    }

    pub(super) fn bases(&self) -> Vec<&Path> {
        let mut bases: Vec<&Path> = vec![&self.memory, &self.pids];
        bases.extend(self.cpu.as_deref());
        // Mostly the two are one hierarchy under two names.
        bases.extend(self.cpuacct.as_deref().filter(|path| Some(*path) != self.cpu.as_deref()));
        bases
    }

    pub(super) fn limit(&self, name: &str, limits: &Limits) -> io::Result<()> {
        let write =
            |base: &Path, file: &str, value: String| fs::write(base.join(name).join(file), value);
        write(&self.pids, "pids.max", (limits.processes + OWN_PROCESSES).to_string())?;
        if let Some(bytes) = limits.memory_bytes {
            write(&self.memory, "memory.limit_in_bytes", bytes.to_string())?;
            // Memory and swap together; only there where the kernel counts swap.
            match write(&self.memory, "memory.memsw.limit_in_bytes", bytes.to_string()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound && !is_forbidden(&error) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        if let (Some(threads), Some(cpu)) = (limits.cpu_threads, &self.cpu) {
            write(cpu, "cpu.cfs_period_us", PERIOD_MICROS.to_string())?;
            write(cpu, "cpu.cfs_quota_us", (u64::from(threads) * PERIOD_MICROS).to_string())?;
        }
        Ok(())
    }
}

/// A file that a control group lacks cannot be made in it either.
fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The node's own group in the hierarchy of `controller`, where it can make groups in it.
fn base(root: &Path, membership: &str, controller: &str) -> Option<PathBuf> {
    let path = membership.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let mount = fs::canonicalize(root.join(controller)).ok()?;
    // In a container the path may be the host's, of which only the end is mounted.
    let base = [below(&mount, path), mount].into_iter().find(|path| path.is_dir())?;
    let trial = base.join(format!("aitbc-trial-{}", std::process::id()));
    match fs::create_dir(&trial) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    // Another thread of this process may have removed it.
    let _ = fs::remove_dir(&trial);
    Some(base)
}

/// What the groups in all hierarchies have counted; each controller's files are in one of them.
pub(super) fn count(groups: &[PathBuf]) -> Count {
    let any = |file: &str| groups.iter().find_map(|group| number(group, file));
    let kills = groups.iter().find_map(|group| keyed(group, "memory.oom_control", "oom_kill"));
    Count {
        cpu: any("cpuacct.usage").map(Duration::from_nanos),
        memory_bytes: any("memory.max_usage_in_bytes").unwrap_or(0),
        out_of_memory: kills.is_some_and(|kills| kills > 0),
    }
}
