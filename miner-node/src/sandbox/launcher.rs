//! The one thread from which processes are started.
//!
//! bubblewrap's `--die-with-parent` means the *thread* that started it. Threads of the runtime
//! come and go, so a thread of its own starts everything and lives as long as the [`Launcher`].

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) struct Launcher {
    requests: mpsc::Sender<Request>,
}

struct Request {
    line: Vec<OsString>,
    status: OwnedFd,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Launcher {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel::<Request>();
        thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            for request in incoming {
                let child = launch(&request);
                // Nobody waits any more: dropping the child kills it.
                let _ = request.reply.send(child);
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `line` with `status` as the only descriptor that it inherits besides the standard
    /// three, of which output and error are pipes.
    pub(super) async fn spawn(&self, line: Vec<OsString>, status: OwnedFd) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let gone = || io::Error::other("the launcher thread has ended");
        let request = Request { line, status, runtime: Handle::current(), reply };
        self.requests.send(request).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn launch(request: &Request) -> io::Result<Child> {
    let _guard = request.runtime.enter();
    let (program, arguments) =
        request.line.split_first().ok_or_else(|| io::Error::other("empty command line"))?;
    // Only this thread makes a descriptor inheritable, and closes it before the next start.
    fcntl_setfd(&request.status, FdFlags::empty())?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    fcntl_setfd(&request.status, FdFlags::CLOEXEC)?;
    child
}
