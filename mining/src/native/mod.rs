//! The native engine: pools' jobs in, shares out, hashed by the lanes of this process.
//!
//! One thread, the [`driver`], takes what pools and lanes tell and decides what the lanes hash with;
//! what takes long happens in [`forge`] and [`ahead`]. Whoever sets an allowance only sets flags.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::engine::{Allowance, Engine, Phase, Status};
use crate::hasher::{self, Hasher};
use crate::host::{self, LaneThread};
use crate::notice::Listener;
use crate::pool::{self, Solution, Verdict};

mod ahead;
mod board;
mod driver;
mod forge;
mod inbox;
mod link;
mod material;
mod seats;
mod supply;

use ahead::Leave;
use board::Board;
use driver::Driver;
use forge::Forged;

pub use forge::FAST_NEEDS_BYTES;
pub use inbox::Inbox;
pub use link::CannotStart;

/// What is said when the driver is gone; the words of its panic are in the log.
const ENDED: &str = "a fault in this program has ended mining; only a restart helps";

/// How it mines.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How many threads at most; `None`: as many as the caches of the processors feed.
    pub threads: Option<usize>,
    /// On what pages the dataset lies.
    pub pages: Pages,
    /// Never with a dataset: 256 MiB instead of 2.3 GiB, and a ninth of the hashrate.
    pub light: bool,
    /// Compiled programs are never writable and executable at once.
    pub secure: bool,
    /// Whether everybody else goes first.
    pub priority: Priority,
}

/// Who goes first where there is more to do than processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// Everybody else: mining gets what is left over, which may be nothing at all.
    #[default]
    Idle,
    /// Nobody: for a machine that does nothing but mine.
    Normal,
}

impl Priority {
    /// Gives it to the calling thread.
    fn take(self) {
        if self == Self::Idle {
            host::yield_to_all();
        }
    }
}

/// On what pages a dataset lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pages {
    /// Large ones that the kernel puts together: no rights needed, and given back like any other.
    #[default]
    Transparent,
    /// Huge ones that the kernel is permitted to put together, where root allows; given back like
    /// any other.
    Surplus,
    /// Huge ones that the owner has reserved.
    Reserved,
    /// Small ones: about 0.6 of the hashrate.
    Small,
}

/// Where shares go.
pub trait Outlet: Send {
    /// Sends a share to the pool that its job came from. What became of it is told later.
    ///
    /// # Errors
    /// What became of it, where that is known at once.
    fn submit(&self, solution: Solution) -> Result<(), Verdict>;

    /// All nonces of the job of this number are tried.
    fn exhausted(&self, job: u64);
}

/// What the driver is told.
#[derive(Debug)]
enum Message {
    Pool(pool::Event),
    /// The newest one is to be fetched.
    Job,
    Lane(hasher::Event),
    Forged(Box<Forged>),
    Allowed,
    End,
}

impl From<hasher::Event> for Message {
    fn from(event: hasher::Event) -> Self {
        Self::Lane(event)
    }
}

/// The native engine. It begins with nothing allowed.
pub struct Native {
    common: Arc<Common>,
    inbox: Sender<Message>,
    driver: Option<JoinHandle<()>>,
}

/// What the driver and those who ask have in common.
struct Common {
    hasher: Hasher,
    threads: Arc<[LaneThread]>,
    /// The processors on which it mines where an allowance names none.
    homes: Vec<usize>,
    seating: Mutex<Seating>,
    leave: Arc<Leave>,
    board: Mutex<Board>,
}

/// Who may run where.
#[derive(Debug, Default)]
struct Seating {
    allowance: Allowance,
    /// The processor to which each lane is bound, where that is known.
    pins: Vec<Option<usize>>,
    /// Nobody tells the lanes what to hash any more: nothing runs.
    ended: bool,
}

impl Native {
    /// Starts its threads, all of them parked. `connect` gets the way for what pools tell, and
    /// returns the way for shares; it is dropped with the engine.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start<O: Outlet + 'static>(
        settings: Settings,
        listener: Listener,
        connect: impl FnOnce(Inbox) -> O,
    ) -> io::Result<Self> {
        let homes = host::for_mining();
        let lanes = settings.threads.unwrap_or(homes.len()).max(1);
        let threads: Arc<[_]> = (0..lanes).map(|_| LaneThread::default()).collect();
        let (inbox, messages) = channel();
        let entering = Arc::clone(&threads);
        let priority = settings.priority;
        let hasher = Hasher::start(lanes, &inbox, move |lane| {
            priority.take();
            entering[lane].enter();
        })?;
        let seating = Seating { pins: vec![None; lanes], ..Seating::default() };
        let common = Arc::new(Common {
            hasher,
            threads,
            homes,
            seating: Mutex::new(seating),
            leave: Arc::default(),
            board: Mutex::default(),
        });
        let way = Inbox::new(inbox.clone());
        let outlet = Box::new(connect(way.clone()));
        let driver = Driver::new(Arc::clone(&common), settings, listener, way, outlet);
        let driver = thread::Builder::new().name("mining".to_owned()).spawn(move || {
            let _ended = Ended(Arc::clone(&driver.common));
            driver.run(&messages);
        })?;
        Ok(Self { common, inbox, driver: Some(driver) })
    }
}

impl Common {
    fn seating(&self) -> MutexGuard<'_, Seating> {
        self.seating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processors on which it may run, as far as it may run at all.
    fn processors(&self) -> Vec<usize> {
        self.seating().processors(&self.homes).to_vec()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When it is dropped, however that comes about, nothing runs any more.
struct Ended(Arc<Common>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut seating = self.0.seating();
        seating.ended = true;
        self.0.leave.set(false);
        self.0.hasher.set_running(0);
    }
}

impl Engine for Native {
    fn allow(&self, allowance: &Allowance) {
        self.common.allow(allowance);
        // It ended only if it panicked; then nothing can be done here.
        let _ = self.inbox.send(Message::Allowed);
    }

    fn busy_threads(&self) -> usize {
        let hasher = &self.common.hasher;
        hasher.lanes() - hasher.parked() + self.common.leave.busy()
    }

    fn status(&self) -> Status {
        let hasher = &self.common.hasher;
        let (allowed, ended) = {
            let seating = self.common.seating();
            (seating.threads(), seating.ended)
        };
        let board = self.common.board();
        let phase = match &board.phase {
            _ if ended => Phase::Failed { reason: ENDED.to_owned() },
            Phase::Failed { .. } => board.phase.clone(),
            _ if allowed == 0 => Phase::Paused,
            phase => phase.clone(),
        };
        let threads = hasher.lanes() - hasher.parked();
        Status {
            engine: "native",
            algorithm: board.algorithm,
            phase,
            threads,
            threads_most: hasher.lanes(),
            hashrate: board.hashrate,
            hashes: hasher.hashes(),
            shares: board.shares.clone(),
            pool: board.connection(),
            memory_bytes: board.memory_bytes,
            datasets_built: board.datasets_built,
            dataset_took: board.dataset_took,
            in_force: board.in_force(threads),
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.common.hasher.set_running(0);
        let _ = self.inbox.send(Message::End);
        if let Some(driver) = self.driver.take() {
            // One that panicked has nothing more to end.
            let _ = driver.join();
        }
    }
}
