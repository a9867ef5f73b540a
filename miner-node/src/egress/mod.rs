//! The one way out for a job's network traffic: a proxy for `CONNECT` that knows the owner's rules,
//! resolves names itself and connects to public addresses only.
//!
//! A job keeps a network namespace with nothing in it. A door that runs inside before the job's
//! program does makes a listening socket there and hands it out (`sandbox::door`); who connects to
//! it from inside talks to this proxy. There is no route, no name server and no other socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub mod address;
mod internet;
mod proxy;
pub mod request;
pub mod rule;
mod tunnel;

pub use internet::{Internet, Outside, Question};
pub use rule::{Rule, Rules};

use crate::sandbox::WayOut;
use proxy::Proxy;

/// Connections of one job at once; more have to wait.
const MOST_CONNECTIONS: usize = 64;

/// Connections of all jobs at once, of two descriptors each; more have to wait.
const MOST_OF_NODE: usize = 512;

/// Names that one job asks for at once, and all jobs together; more have to wait. Each holds a
/// thread of the node's.
const MOST_QUESTIONS: usize = 8;
const MOST_QUESTIONS_OF_NODE: usize = 32;

/// Pause where descriptors have run out: the connection waits meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the owner lets jobs reach.
#[derive(Debug)]
pub struct Egress<O = Internet> {
    rules: Arc<Rules>,
    outside: Arc<O>,
    most_bytes: u64,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// What went through a job's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// To and from targets, in bytes.
    pub bytes: u64,
    /// Whether the job wanted more than it may have, and was cut off.
    pub is_spent: bool,
}

/// One job's way out, of which the job's own end is the [`WayOut`].
#[derive(Debug)]
pub struct Way<O = Internet> {
    door: UnixStream,
    proxy: Arc<Proxy<O>>,
    connections: Arc<Semaphore>,
}

impl<O: Outside> Egress<O> {
    /// With these rules, and at most `max_mb` MiB of traffic for each job; `None` where the rules
    /// let nothing out.
    pub fn new(rules: Rules, outside: O, max_mb: u32) -> Option<Self> {
        let (rules, outside) = (Arc::new(rules), Arc::new(outside));
        (!rules.is_empty()).then(|| Self {
            rules,
            outside,
            most_bytes: u64::from(max_mb) << 20,
            questions: Arc::new(Semaphore::new(MOST_QUESTIONS_OF_NODE)),
            connections: Arc::new(Semaphore::new(MOST_OF_NODE)),
        })
    }

    /// A way out for one job.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn way(&self) -> io::Result<(Way<O>, WayOut)> {
        let (door, out) = WayOut::pair()?;
        let proxy = Proxy {
            rules: Arc::clone(&self.rules),
            outside: Arc::clone(&self.outside),
            questions: Arc::new(Semaphore::new(MOST_QUESTIONS)),
            node_questions: Arc::clone(&self.questions),
            carried: AtomicU64::new(0),
            most_bytes: self.most_bytes,
        };
        let connections = Arc::clone(&self.connections);
        Ok((Way { door, proxy: Arc::new(proxy), connections }, out))
    }
}

impl<O: Outside> Way<O> {
    /// Serves the job until `ended`; whatever is still open then is cut. Returns what was carried.
    pub async fn serve(self, ended: &CancellationToken) -> Traffic {
        let proxy = Arc::clone(&self.proxy);
        let received = async {
            let listener = TcpListener::from_std(WayOut::received(self.door).await?)?;
            accept(listener, self.proxy, self.connections).await
        };
        tokio::select! {
            () = ended.cancelled() => {}
            served = received => if let Err(error) = served {
                warn!(event = "egress_failed", "a job's way out is closed: {error}");
                ended.cancelled().await;
            }
        }
        Traffic { bytes: proxy.carried.load(Ordering::Relaxed), is_spent: proxy.is_spent() }
    }
}

async fn accept<O: Outside>(
    listener: TcpListener,
    proxy: Arc<Proxy<O>>,
    of_node: Arc<Semaphore>,
) -> io::Result<()> {
    let of_job = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Dropped with this future: then all connections are.
    let mut connections = JoinSet::new();
    loop {
        // Never closed. The job's own limit comes first: who is at it holds nothing of the node's.
        let Ok(own) = Arc::clone(&of_job).acquire_owned().await else { return Ok(()) };
        let Ok(shared) = Arc::clone(&of_node).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if passes(&error) => {
                debug!(event = "egress", "not accepted for now: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let proxy = Arc::clone(&proxy);
        connections.spawn(async move {
            if let Err(error) = proxy.serve(stream).await {
                debug!(event = "egress", "connection: {error}");
            }
            drop((own, shared));
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Whether what went wrong at accepting says nothing about the listening socket.
fn passes(error: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::CONNABORTED];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

#[cfg(test)]
mod tests;
