//! The engine that is not ours: the owner's own XMRig, for graphics processors and for tuning that
//! takes root's rights, driven through its HTTP API.
//!
//! One thread keeps it as it is wanted: started, stopped, paused, on so many threads. It is looked
//! at once a second. What cannot be done with it: giving memory back while it is paused. So one that
//! the node has started is ended instead, and begun anew later.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use reqwest::Url;
use tokio::sync::watch;

use crate::engine::{Allowance, Engine, Phase, Status};
use crate::notice::Listener;
use crate::stats::Pace;

mod api;
mod child;
mod driver;
mod own;
mod processors;

pub use child::Program;

/// Which XMRig.
#[derive(Clone)]
pub enum Which {
    /// One that is started when it may run. Its API gets the token on a port of the loopback
    /// interface.
    Started {
        /// What is started.
        program: Program,
        /// A text that nobody can guess.
        token: String,
    },
    /// One that runs already.
    Running {
        /// Where its API is.
        url: Url,
        /// Its access token.
        token: String,
        /// A file that keeps what it was like before, until it has got that back.
        kept: PathBuf,
    },
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens are nobody's business.
        match self {
            Self::Started { program, .. } => {
                f.debug_struct("Started").field("program", program).finish_non_exhaustive()
            }
            Self::Running { url, kept, .. } => f
                .debug_struct("Running")
                .field("url", &url.as_str())
                .field("kept", kept)
                .finish_non_exhaustive(),
        }
    }
}

/// The engine. It begins with nothing allowed.
pub struct Xmrig {
    shared: Arc<Shared>,
    allowed: watch::Sender<Allowance>,
    driver: Option<JoinHandle<()>>,
}

/// What is known of it.
struct Shared {
    status: Mutex<Status>,
    /// What one thread brings, over pauses and ends of XMRig.
    pace: Mutex<Pace>,
    begun: Instant,
    /// How many threads it was last made to use, as far as it has said so.
    busy: AtomicUsize,
}

impl Xmrig {
    /// Begins to keep it.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(which: Which, listener: Listener) -> io::Result<Self> {
        let status = Mutex::new(Status::unknown("xmrig"));
        let shared = Arc::new(Shared {
            status,
            pace: Mutex::default(),
            begun: Instant::now(),
            busy: AtomicUsize::new(0),
        });
        let (allowed, wanted) = watch::channel(Allowance::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let driver = driver::Driver::new(which, listener, Arc::clone(&shared), wanted);
        // A child ends with the thread that has started it: with this one, which ends after it.
        let driver = thread::Builder::new()
            .name("xmrig".to_owned())
            .spawn(move || runtime.block_on(driver.run()))?;
        Ok(Self { shared, allowed, driver: Some(driver) })
    }
}

impl Shared {
    fn set_status(&self, mut status: Status) {
        let threads = if status.phase == Phase::Mining { status.threads } else { 0 };
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.record(self.begun.elapsed(), status.hashrate.ten_secs, threads);
        status.hashrate.of_thread = pace.of_thread();
        drop(pace);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Engine for Xmrig {
    fn allow(&self, allowance: &Allowance) {
        // The thread ends only with this.
        let _ = self.allowed.send(allowance.clone());
    }

    fn busy_threads(&self) -> usize {
        self.shared.busy.load(Ordering::Acquire)
    }

    fn status(&self) -> Status {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Xmrig {
    fn drop(&mut self) {
        // Its thread sees that nobody allows anything any more, ends the child, and itself.
        let (nobody, _) = watch::channel(Allowance::default());
        drop(std::mem::replace(&mut self.allowed, nobody));
        if let Some(driver) = self.driver.take() {
            // One that panicked has nothing more to end.
            let _ = driver.join();
        }
    }
}
