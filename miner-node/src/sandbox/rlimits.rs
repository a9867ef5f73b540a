//! The limits that the kernel keeps per process, set on a job's first process before it starts
//! anything: all that come after inherit them.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::Limits;

/// Processor seconds between SIGXCPU and SIGKILL.
const CPU_GRACE_SECS: u64 = 2;

/// Soft and hard limit of each resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rlimits(Vec<(Resource, u64, u64)>);

impl Rlimits {
    /// Those that `limits` come to. `address_space` and `processes` say whether nothing better
    /// limits memory, and whether the kernel counts the processes of this job only.
    pub(super) fn of(limits: &Limits, address_space: bool, processes: bool) -> Self {
        let mut all = vec![
            (Resource::Core, 0, 0),
            (Resource::Nofile, limits.open_files, limits.open_files),
            (Resource::Fsize, limits.output_bytes, limits.output_bytes),
        ];
        if let Some(secs) = limits.cpu_secs {
            all.push((Resource::Cpu, secs, secs.saturating_add(CPU_GRACE_SECS)));
        }
        if let Some(bytes) = limits.memory_bytes.filter(|_| address_space) {
            all.push((Resource::As, bytes, bytes));
        }
        if processes {
            all.push((Resource::Nproc, limits.processes, limits.processes));
        }
        // Nobody but a privileged process can raise what it was given.
        for (resource, soft, hard) in &mut all {
            let most = getrlimit(*resource).maximum.unwrap_or(u64::MAX);
            (*soft, *hard) = ((*soft).min(most), (*hard).min(most));
        }
        Self(all)
    }

    /// Puts them on a process that waits.
    pub(super) fn set(&self, pid: Pid) -> io::Result<()> {
        for (resource, soft, hard) in &self.0 {
            let limit = Rlimit { current: Some(*soft), maximum: Some(*hard) };
            prlimit(Some(pid), *resource, limit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processes_are_limited_where_nothing_better_is() {
        let limits = Limits { cpu_secs: Some(7), memory_bytes: Some(1 << 30), ..Limits::trial() };
        let Rlimits(all) = Rlimits::of(&limits, true, true);
        assert!(all.contains(&(Resource::Cpu, 7, 9)) && all.contains(&(Resource::Core, 0, 0)));
        assert!(all.contains(&(Resource::As, 1 << 30, 1 << 30)), "{all:?}");
        assert_eq!(Rlimits::of(&limits, false, false).0.len(), all.len() - 2);
    }
}
