//! The door of a job that may reach somebody: a listening socket in its network namespace, made by
//! the node's own program before the job's, and handed to the node through a socket pair.
//!
//! A socket stays in the namespace in which it was made, whoever holds it. So the node accepts
//! there what the job's programs connect to, and nothing needs to be shown or bound inside, nor
//! has anything to run beside the job. The pair is the door's standard input, which is how a
//! descriptor is found without a number; the job's program gets none of it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;

/// The hidden subcommand behind which [`open`] is.
pub const SUBCOMMAND: &str = "door";

/// Where programs find the proxy, in a namespace in which nobody else is.
const PORT: u16 = 3128;

/// The names under which programs look for a proxy; many know the small ones only.
const VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The job's end of a way out.
#[derive(Debug, Clone)]
pub struct WayOut {
    socket: Arc<OwnedFd>,
}

/// A way out, and the program that opens its door.
#[derive(Debug, Clone)]
pub struct Door {
    /// The way.
    pub way: WayOut,
    /// The node's own program, on the host.
    pub executable: PathBuf,
}

impl WayOut {
    /// A new one: the node's end, and the job's.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn pair() -> io::Result<(UnixStream, Self)> {
        let (ours, socket) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((ours, Self { socket: Arc::new(socket.into()) }))
    }

    /// Waits at the node's end for the listening socket.
    ///
    /// # Errors
    /// Where something else comes, or nothing does.
    pub async fn received(ours: UnixStream) -> io::Result<TcpListener> {
        let ours = tokio::net::UnixStream::from_std(ours)?;
        let socket = ours.async_io(Interest::READABLE, || receive(&ours)).await?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Door {
    /// The standard input of what is started.
    pub(super) fn stdin(&self) -> io::Result<OwnedFd> {
        self.way.socket.try_clone()
    }

    /// The environment by which programs find the proxy.
    pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
        let proxy = format!("http://{}:{PORT}", Ipv4Addr::LOCALHOST);
        VARIABLES.into_iter().map(move |name| (name.to_owned(), proxy.clone()))
    }
}

/// Makes the door, hands it out, and becomes `program`. Comes back only where that failed.
#[expect(clippy::disallowed_methods, reason = "it becomes the job's program, inside the sandbox")]
pub fn open(program: &Path, arguments: &[String]) -> io::Error {
    match hand_out() {
        Ok(()) => Command::new(program).args(arguments).stdin(Stdio::null()).exec(),
        Err(error) => error,
    }
}

fn hand_out() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(io::stdin(), &[IoSlice::new(b".")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// One descriptor. Only the door can have sent it: the job's program has no end of the pair.
fn receive(ours: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(ours, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("the door was not opened"))
}
