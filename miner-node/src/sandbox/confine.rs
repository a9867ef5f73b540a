//! Puts a job's first process under its limits, while it waits: its control group, the limits of
//! the kernel per process, its user.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, capabilities};

use super::cgroup::{Count, Group, Visit};
use super::gate::Gate;
use super::process_tree::{self, Sample};
use super::rlimits::Rlimits;
use super::users::{Tenant, hand_over};
use super::{Command, Isolation, Keeper, Places, Sandbox, SandboxError, User};

/// From this version on, the kernel counts the processes of a user in each user namespace by
/// itself: a limit for a job is not used up by its owner's other programs.
const COUNTED_APART: (u32, u32) = (5, 14);

/// What this node can do about the limits of processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limiter {
    /// It is root, whose processes nothing counts.
    root: bool,
    /// It may set limits of other users' processes.
    may_set_others: bool,
    /// The processes of a user are counted in each user namespace by itself.
    counted_apart: bool,
}

/// What a run is confined by, from before its start until nothing of it is left.
pub(super) struct Confinement {
    pub(super) isolation: Isolation,
    /// Whether the job's user id is root's.
    pub(super) as_root: bool,
    /// What has to come before bubblewrap on the command line.
    pub(super) prefix: Vec<OsString>,
    /// The processors of the run; empty: those of all jobs.
    pub(super) processors: Vec<usize>,
    group: Option<Group>,
    memory_bytes: Option<u64>,
    tenant: Option<Tenant>,
    rlimits: Option<Rlimits>,
}

impl Limiter {
    pub(super) fn of_this_process() -> Self {
        let sets = capabilities(None);
        Self {
            root: rustix::process::geteuid().is_root(),
            may_set_others: sets
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE)),
            counted_apart: kernel_version().is_some_and(|version| version >= COUNTED_APART),
        }
    }
}

impl Sandbox {
    /// Prepares what confines a run of `command`. Makes directories and groups: not for async code.
    pub(super) fn confinement(
        &self,
        command: &Command,
        places: &Places,
    ) -> Result<Confinement, SandboxError> {
        let isolation = self.isolation();
        let tenant = match &self.users {
            Ok(users) => Some(users.take().ok_or_else(|| {
                SandboxError::Setup("all user ids for jobs are taken".to_owned())
            })?),
            Err(_) => None,
        };
        if let Some(tenant) = &tenant {
            let handed_over = hand_over(tenant.user, command, places);
            handed_over.map_err(SandboxError::io("directories for the job's user"))?;
        }
        let group = match &self.cgroups {
            Ok(cgroups) => {
                let refused = |error| SandboxError::Setup(format!("control group: {error}"));
                Some(cgroups.make(&command.limits).map_err(refused)?)
            }
            Err(_) => None,
        };
        let as_root = tenant.is_none() && self.limiter.root;
        let alone = isolation.keeper == Keeper::Rlimits;
        let Limiter { root, may_set_others, counted_apart } = self.limiter;
        let counted = tenant.is_some() || (counted_apart && !root);
        // CUDA reserves address space by the terabyte: a job with a GPU is held by what it is seen
        // to have, or it could not begin at all.
        let rlimits = Rlimits::of(&command.limits, alone && places.gpu.is_none(), alone && counted);
        let (prefix, rlimits) = if tenant.is_some() && !may_set_others {
            (rlimits.command_line(&self.tools.prlimit), None)
        } else {
            (Vec::new(), Some(rlimits))
        };
        let memory_bytes = command.limits.memory_bytes;
        Ok(Confinement {
            isolation,
            as_root,
            prefix,
            processors: places.processors.clone(),
            group,
            memory_bytes,
            tenant,
            rlimits,
        })
    }
}

impl Confinement {
    /// For a program of the owner's that confines a job by itself: that it begins on `processors`,
    /// and nothing else.
    pub(super) fn on(processors: &[usize]) -> Self {
        Self { processors: processors.to_vec(), ..Self::none() }
    }

    /// None, for one that has nothing to do with a job.
    pub(super) fn none() -> Self {
        Self {
            isolation: Isolation::default(),
            as_root: false,
            prefix: Vec::new(),
            processors: Vec::new(),
            group: None,
            memory_bytes: None,
            tenant: None,
            rlimits: None,
        }
    }

    /// As whom to start bubblewrap, where not as the node's user.
    pub(super) fn user(&self) -> Option<User> {
        self.tenant.as_ref().map(|tenant| tenant.user)
    }

    /// How bubblewrap is started in the control group, where it need not be moved there later.
    pub(super) fn visit(&self) -> Option<Visit> {
        self.group.as_ref().and_then(Group::visit)
    }

    /// Whether [`Self::let_go`] takes some milliseconds: to move a process between groups, the kernel
    /// may wait for all processors.
    pub(super) fn moves(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.visit().is_none())
    }

    /// Puts `pid`, which waits at `gate`, under the limits and lets it go on.
    pub(super) fn let_go(&self, pid: Pid, gate: Gate) -> io::Result<()> {
        let put = || {
            if let Some(group) = self.group.as_ref().filter(|group| group.visit().is_none()) {
                group.admit(pid)?;
            }
            if let Some(rlimits) = &self.rlimits {
                rlimits.set(pid)?;
            }
            gate.open()
        };
        match put() {
            // It has given up while it set up the namespaces: its monitor is about to say why.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }
}

impl Confinement {
    /// What the tree below `first` uses now.
    pub(super) fn sample(&self, first: Pid) -> Sample {
        let Some(count) = self.group.as_ref().map(Group::count) else {
            let mut sample = process_tree::sample(first);
            let exceeds = |bytes: u64| self.memory_bytes.is_some_and(|most| bytes > most);
            if exceeds(sample.rss_bytes) {
                // A program with many processes shares most of its memory between them.
                sample.rss_bytes = process_tree::shared_once(first);
            }
            sample.out_of_memory = exceeds(sample.rss_bytes);
            return sample;
        };
        // Some hierarchies do not count processor time.
        let cpu = count.cpu.unwrap_or_else(|| process_tree::sample(first).cpu);
        counted(count, cpu)
    }

    /// What was counted when the tree was gone; the group goes as well. Takes a moment: not for
    /// async code.
    pub(super) fn end(&self) -> Sample {
        let Some(group) = &self.group else { return Sample::default() };
        let count = group.count();
        group.remove();
        counted(count, count.cpu.unwrap_or_default())
    }
}

fn counted(count: Count, cpu: Duration) -> Sample {
    Sample { cpu, rss_bytes: count.memory_bytes, processes: 0, out_of_memory: count.out_of_memory }
}

fn kernel_version() -> Option<(u32, u32)> {
    let system = rustix::system::uname();
    let mut numbers = system.release().to_str().ok()?.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
