//! The only place where a process is started: bubblewrap namespaces, limits, and an ending that
//! always has a name.
//!
//! What to run is decided in `runners/`; this room only knows programs, directories and limits.
//! A job is a process tree in its own pid namespace. The node waits for the namespace's first
//! process, so that when [`Sandbox::run`] returns, nothing of the job is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

mod bubblewrap;
mod capture;
mod cgroup;
mod confine;
pub mod container;
pub mod door;
mod gate;
mod gpu;
mod isolation;
mod launcher;
mod measure;
mod policy;
mod probe;
mod process_tree;
mod rlimits;
#[cfg(test)]
pub(crate) mod script;
mod seccomp;
mod supervise;
mod tools;
mod users;

pub use door::{Door, WayOut};
pub use gpu::{Gpu, VramMeter};
pub use isolation::{Isolation, Keeper, Piece};
pub use policy::{DiskTurn, Policy, User, UserRange};
pub use process_tree::kill_orphans;
pub use rlimits::raise_open_files;
pub use tools::{Tools, Unavailable};

use cgroup::Cgroups;
use confine::Limiter;
use launcher::Launcher;
use seccomp::Filter;
use users::Users;

/// bubblewrap's own processes, beside those of the job: the first one in its namespace, and the
/// monitor, which is in its control group where it was started there.
const OWN_PROCESSES: u64 = 2;

/// Where the job finds its writable directory, which is also its current one.
pub const WORK_DIR: &str = "/work";

/// Where the job finds its input files.
pub const INPUT_DIR: &str = "/work/input";

/// Where a job that the node's own program does, or opens a door for, finds that program.
pub const NODE_PROGRAM: &str = "/miner-node";

/// A program to be run in the sandbox.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program, as seen inside.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment besides `PATH`, `HOME`, `LANG` and `TMPDIR`.
    pub env: Vec<(String, String)>,
    /// Files and directories of the host that are shown besides the system's, read-only.
    pub shown: Vec<Shown>,
    /// What it may use.
    pub limits: Limits,
}

/// A file or directory of the host, shown inside read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it is.
    pub host: PathBuf,
    /// Where the job sees it.
    pub inside: PathBuf,
}

/// What a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time, after which the tree is asked to end.
    pub wall: Duration,
    /// Time between asking and killing.
    pub grace: Duration,
    /// Processor time of the whole tree, in seconds.
    pub cpu_secs: Option<u64>,
    /// Memory of the whole tree, in bytes; where no control group counts it, the address space of
    /// each process.
    pub memory_bytes: Option<u64>,
    /// Processors that it may keep busy, in time; absent: all.
    pub cpu_threads: Option<u32>,
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Size of each captured stream and of each file written, in bytes.
    pub output_bytes: u64,
    /// Size of everything in the work directory together, in bytes; looked at about once a second,
    /// so that a fast writer comes a little further.
    pub work_bytes: u64,
    /// Free space below which the run is ended, whoever uses it up, in bytes; 0: never mind.
    pub least_free_bytes: u64,
}

/// What of the host belongs to one run: its directories, its files, and its way out.
#[derive(Debug, Clone)]
pub struct Places {
    /// Becomes [`WORK_DIR`].
    pub work: PathBuf,
    /// Becomes [`INPUT_DIR`], read-only.
    pub input: PathBuf,
    /// Where standard output goes.
    pub stdout: PathBuf,
    /// Where standard error goes.
    pub stderr: PathBuf,
    /// Its way to the network; absent: none.
    pub door: Option<Door>,
    /// The GPU that it may use.
    pub gpu: Option<Gpu>,
    /// The processors that it may use, by number; empty: those of all jobs.
    pub processors: Vec<usize>,
    /// Where is kept up to date how much it has written, in bytes.
    pub written_bytes: Arc<AtomicU64>,
}

impl Limits {
    /// Those of a trial run.
    pub const fn trial() -> Self {
        Self {
            wall: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            cpu_secs: Some(10),
            memory_bytes: None,
            cpu_threads: None,
            processes: 64,
            open_files: 1024,
            output_bytes: 1 << 20,
            work_bytes: 16 << 20,
            least_free_bytes: 0,
        }
    }
}

impl Places {
    /// Those of a trial run below `directory`.
    pub fn below(directory: &Path) -> Self {
        Self {
            work: directory.join("work"),
            input: directory.join("input"),
            stdout: directory.join("stdout.log"),
            stderr: directory.join("stderr.log"),
            door: None,
            gpu: None,
            processors: Vec::new(),
            written_bytes: Arc::default(),
        }
    }
}

/// The two ways in which somebody else can end a run.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Ask the tree to end, kill it after the grace time.
    pub cancel: CancellationToken,
    /// Kill it now.
    pub kill: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The program ended by itself, with this code.
    Exited(i32),
    /// A signal ended the program. Codes from 129 to 192 count as signals, as shells have it.
    Signaled(i32),
    /// The wall-clock limit.
    TimedOut,
    /// The processor-time limit.
    CpuLimit,
    /// The memory limit.
    OutOfMemory,
    /// More output than allowed.
    OutputLimit,
    /// The disk is nearly full, and it cannot be said whose doing that is.
    DiskFull,
    /// Somebody asked for it.
    Canceled,
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Wall-clock time.
    pub wall: Duration,
    /// Processor time of the whole tree, to the kernel's 10 ms.
    pub cpu: Duration,
    /// The most memory that the tree held at once, in bytes: counted by its control group, else
    /// the most that was seen.
    pub max_rss_bytes: u64,
    /// What was in its work directory in the end, and what it printed, in bytes.
    pub written_bytes: u64,
    /// The most GPU memory that the tree was seen to hold at once, in bytes; absent: not watched.
    pub vram_bytes: Option<u64>,
    /// Energy, in joules; absent: not measured.
    pub joules: Option<f64>,
    /// Carried to and from the network, in bytes; absent: it had no way out.
    pub egress_bytes: Option<u64>,
}

/// A finished run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// What was in force.
    pub isolation: Isolation,
    /// How it ended.
    pub ending: Ending,
    /// What it used.
    pub usage: Usage,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The sandbox could not be set up, or the program could not be started in it.
    #[error("sandbox could not start the program: {0}")]
    Setup(String),
    /// A file or process operation of the node failed.
    #[error("sandbox: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tree was killed and did not go away.
    #[error("processes of the job survive SIGKILL (blocked in the kernel)")]
    Stuck,
}

impl SandboxError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Starts programs in isolation. Dropping it kills what it started.
#[derive(Debug)]
pub struct Sandbox {
    tools: Tools,
    launcher: Launcher,
    required: Vec<Piece>,
    /// Absent, with the reason, where jobs may make every system call.
    filter: Result<Filter, String>,
    /// Absent, with the reason, where each process is limited by itself.
    cgroups: Result<Cgroups, String>,
    /// Absent, with the reason, where jobs run as the node's user.
    users: Result<Users, String>,
    /// Whether the owner set user ids apart for jobs.
    wants_users: bool,
    limiter: Limiter,
    /// Where the kernel's control groups are.
    hierarchies: PathBuf,
}

impl Sandbox {
    /// A sandbox of the programs in `tools`, whose jobs run as `policy` has it.
    ///
    /// # Errors
    /// Where the kernel refuses to make the node the parent of orphaned processes.
    pub fn new(tools: Tools, policy: &Policy) -> std::io::Result<Self> {
        // bubblewrap's monitor ends before the namespace's first process; as subreaper the node
        // inherits that process and can wait until really everything is gone.
        let this_process = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(this_process))?;
        let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let cgroups = Cgroups::delegated(&policy.hierarchies, &membership);
        let users = match policy.users {
            Some(range) => Users::of(range, &policy.reached),
            None => Err("sandbox.uid_count is 0".to_owned()),
        };
        Ok(Self {
            launcher: Launcher::start(&tools, policy)?,
            required: policy.required.clone(),
            filter: Filter::compile().map_err(|error| error.to_string()),
            cgroups: cgroups.map_err(|error| error.to_string()),
            users,
            wants_users: policy.users.is_some(),
            limiter: Limiter::of_this_process(),
            hierarchies: policy.hierarchies.clone(),
            tools,
        })
    }

    /// Whether its owner insists on parts of the isolation.
    pub const fn requires_anything(&self) -> bool {
        !self.required.is_empty()
    }

    /// What is in force for its jobs.
    pub fn isolation(&self) -> Isolation {
        Isolation {
            filtered: self.filter.is_ok(),
            keeper: self.cgroups.as_ref().map_or(Keeper::Rlimits, Cgroups::keeper),
            own_user: self.users.is_ok(),
        }
    }

    /// Why `piece` is not in force, where it is not.
    pub fn why_not(&self, piece: Piece) -> Option<&str> {
        match piece {
            Piece::Seccomp => self.filter.as_ref().err().map(String::as_str),
            Piece::Cgroup => self.cgroups.as_ref().err().map(String::as_str),
            Piece::OwnUid => self.users.as_ref().err().map(String::as_str),
        }
    }

    /// The control groups of its jobs that are there now.
    #[cfg(test)]
    fn groups(&self) -> Vec<PathBuf> {
        self.cgroups.as_ref().map_or_else(|_| Vec::new(), Cgroups::made)
    }
}
