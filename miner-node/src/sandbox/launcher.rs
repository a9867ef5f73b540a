//! The one thread from which processes are started.
//!
//! bubblewrap's `--die-with-parent` means the *thread* that started it. Threads of the runtime
//! come and go, so a thread of its own starts everything and lives as long as the [`Launcher`].
//! It is as nice as jobs shall be, and they inherit that: no program has to be started for it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::warn;

use super::cgroup::Visit;
use super::confine::Confinement;
use super::{DiskTurn, Policy, Tools, User};

#[derive(Debug)]
pub(super) struct Launcher {
    requests: mpsc::Sender<Request>,
}

struct Request {
    line: Vec<OsString>,
    inherited: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
    user: Option<User>,
    visit: Option<Visit>,
    processors: Vec<usize>,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Launcher {
    /// Starts the thread and has it give way as `policy` says.
    pub(super) fn start(tools: &Tools, policy: &Policy) -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel::<Request>();
        let (tools, policy) = (tools.clone(), policy.clone());
        thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            // A job that takes more than its turn is better than none, but its owner hears of it.
            if let Err(error) = give_way(&tools, &policy) {
                warn!(event = "no_priority", "priority and affinity of jobs: {error}");
            }
            let usual = sched_getaffinity(None);
            for mut request in incoming {
                let child = on_processors(&usual, &mut request);
                // Nobody waits any more: dropping the child kills it.
                let _ = request.reply.send(child);
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `line` as the user and, if possible, in the group of `confinement`, with `inherited`
    /// as the only descriptors that it gets besides the standard three: `stdin`, or nothing to
    /// read, and pipes.
    pub(super) async fn spawn(
        &self,
        line: Vec<OsString>,
        inherited: Vec<OwnedFd>,
        stdin: Option<OwnedFd>,
        confinement: &Confinement,
    ) -> io::Result<Child> {
        let (user, visit) = (confinement.user(), confinement.visit());
        let (reply, child) = oneshot::channel();
        let gone = || io::Error::other("the launcher thread has ended");
        let runtime = Handle::current();
        let processors = confinement.processors.clone();
        let request = Request { line, inherited, stdin, user, visit, processors, runtime, reply };
        self.requests.send(request).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

/// Lowers the standing of this thread, and with it that of everything that it starts.
fn give_way(tools: &Tools, policy: &Policy) -> io::Result<()> {
    // The node itself may have been started nicer than that.
    let nice = i32::from(policy.nice).max(getpriority_process(None)?);
    setpriority_process(None, nice)?;
    if !policy.processors.is_empty() {
        sched_setaffinity(None, &set_of(&policy.processors))?;
    }
    let class: &[&str] = match policy.disk_turn {
        DiskTurn::BestEffort => &["-c", "2", "-n", "6"],
        DiskTurn::Idle => &["-c", "3"],
    };
    ionice(&tools.ionice, class)
}

fn set_of(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for processor in processors.iter().filter(|number| **number < CpuSet::MAX_CPU) {
        set.set(*processor);
    }
    set
}

/// Launches from the processors of the run, which its processes inherit, and goes back to the usual
/// ones. A run that cannot be kept to them is not begun: something may be mined on the others.
fn on_processors(usual: &rustix::io::Result<CpuSet>, request: &mut Request) -> io::Result<Child> {
    if request.processors.is_empty() {
        return launch(request);
    }
    let usual = usual.as_ref().map_err(|error| io::Error::from(*error))?;
    sched_setaffinity(None, &set_of(&request.processors))?;
    let child = launch(request);
    sched_setaffinity(None, usual)?;
    child
}

/// The kernel's call for it is in no safe library; the program is started once.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn ionice(program: &Path, class: &[&str]) -> io::Result<()> {
    let thread = gettid().as_raw_pid().to_string();
    let ended = std::process::Command::new(program)
        .args(class)
        .args(["-p", &thread])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("ionice: {ended}"))) }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn launch(request: &mut Request) -> io::Result<Child> {
    let _guard = request.runtime.enter();
    let (program, arguments) =
        request.line.split_first().ok_or_else(|| io::Error::other("empty command line"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(request.stdin.take().map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(user) = request.user {
        // With the user id, the groups of root go as well.
        command.gid(user.id).uid(user.id);
    }
    // Only this thread makes a descriptor inheritable, and closes it before the next start.
    for descriptor in &request.inherited {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    let child = match &request.visit {
        Some(visit) => visit.during(|| command.spawn()),
        None => command.spawn(),
    };
    for descriptor in &request.inherited {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    child
}
