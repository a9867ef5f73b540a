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

pub use internet::{Internet, Outside};
pub use rule::{Rule, Rules};

use crate::sandbox::WayOut;
use proxy::Proxy;

/// Connections of one job at once; more have to wait.
const MOST_CONNECTIONS: usize = 64;

/// What the owner lets jobs reach.
#[derive(Debug)]
pub struct Egress<O = Internet> {
    rules: Arc<Rules>,
    outside: Arc<O>,
}

/// One job's way out, of which the job's own end is the [`WayOut`].
#[derive(Debug)]
pub struct Way<O = Internet> {
    door: UnixStream,
    proxy: Arc<Proxy<O>>,
}

impl<O: Outside> Egress<O> {
    /// With these rules; `None` where they let nothing out.
    pub fn new(rules: Rules, outside: O) -> Option<Self> {
        let (rules, outside) = (Arc::new(rules), Arc::new(outside));
        (!rules.is_empty()).then_some(Self { rules, outside })
    }

    /// A way out for one job.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn way(&self) -> io::Result<(Way<O>, WayOut)> {
        let (door, out) = WayOut::pair()?;
        let (rules, outside) = (Arc::clone(&self.rules), Arc::clone(&self.outside));
        let proxy = Proxy { rules, outside, carried: AtomicU64::new(0) };
        Ok((Way { door, proxy: Arc::new(proxy) }, out))
    }
}

impl<O: Outside> Way<O> {
    /// Serves the job until `ended`; whatever is still open then is cut. Returns how many bytes
    /// were carried, both ways together.
    pub async fn serve(self, ended: &CancellationToken) -> u64 {
        let proxy = Arc::clone(&self.proxy);
        tokio::select! {
            () = ended.cancelled() => {}
            served = self.accept() => if let Err(error) = served {
                warn!(event = "egress_failed", "a job's way out is closed: {error}");
                ended.cancelled().await;
            }
        }
        proxy.carried.load(Ordering::Relaxed)
    }

    async fn accept(self) -> io::Result<()> {
        let listener = TcpListener::from_std(WayOut::received(self.door).await?)?;
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        // Dropped with this future: then all connections are.
        let mut connections = JoinSet::new();
        loop {
            // Never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
            let (stream, _) = listener.accept().await?;
            let proxy = Arc::clone(&self.proxy);
            connections.spawn(async move {
                if let Err(error) = proxy.serve(stream).await {
                    debug!(event = "egress", "connection: {error}");
                }
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

#[cfg(test)]
mod tests;
