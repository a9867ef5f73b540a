//! The limits that the kernel keeps per process, set on a job's first process before it starts
//! anything: all that come after inherit them.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::Limits;

/// Processor seconds between SIGXCPU and SIGKILL.
const CPU_GRACE_SECS: u64 = 2;

/// Soft and hard limit of each resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rlimits(Vec<(Resource, u64, u64)>);

/// Has this process open as many files as it may: each run takes a dozen, each connection of a job
/// two, and the usual soft limit is there for programs that use `select`.
///
/// # Errors
/// Where the kernel refuses.
pub fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

impl Rlimits {
    /// Those that `limits` come to. `address_space` and `processes` say whether nothing better
    /// limits memory, and whether the kernel counts the processes of this job only.
    pub(super) fn of(limits: &Limits, address_space: bool, processes: bool) -> Self {
        let mut all = vec![
            (Resource::Core, 0, 0),
            // Whatever the node was allowed: nobody sets himself above the owner's programs.
            (Resource::Nice, 0, 0),
            (Resource::Rtprio, 0, 0),
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

    /// The beginning of a command line that puts them on the program named by its rest.
    pub(super) fn command_line(&self, program: &Path) -> Vec<OsString> {
        let mut line = vec![program.into()];
        let options = self.0.iter().filter_map(|(resource, soft, hard)| {
            Some(format!("--{}={soft}:{hard}", option(*resource)?).into())
        });
        line.extend(options);
        line.push("--".into());
        line
    }
}

/// What the `prlimit` program calls it.
fn option(resource: Resource) -> Option<&'static str> {
    Some(match resource {
        Resource::Core => "core",
        Resource::Nice => "nice",
        Resource::Rtprio => "rtprio",
        Resource::Nofile => "nofile",
        Resource::Fsize => "fsize",
        Resource::Cpu => "cpu",
        Resource::As => "as",
        Resource::Nproc => "nproc",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_allowed() {
        let before = getrlimit(Resource::Nofile);
        // Far above what the tests beside this one need.
        let fewer = before.maximum.map_or(1 << 20, |most| most - most / 8);
        setrlimit(Resource::Nofile, Rlimit { current: Some(fewer), ..before }).unwrap();
        raise_open_files().unwrap();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after, Rlimit { current: before.maximum, ..before });
    }

    #[test]
    fn every_limit_has_an_option() {
        let limits = Limits { cpu_secs: Some(7), memory_bytes: Some(1 << 30), ..Limits::trial() };
        let rlimits = Rlimits::of(&limits, true, true);
        let line = rlimits.command_line(Path::new("/usr/bin/prlimit"));
        assert_eq!(line.len(), rlimits.0.len() + 2);
        assert!(line.contains(&"--cpu=7:9".into()) && line.contains(&"--core=0:0".into()));
        assert!(line.contains(&"--nice=0:0".into()) && line.contains(&"--rtprio=0:0".into()));
        assert!(line.contains(&"--as=1073741824:1073741824".into()), "{line:?}");
        assert_eq!(Rlimits::of(&limits, false, false).0.len(), rlimits.0.len() - 2);
    }
}
