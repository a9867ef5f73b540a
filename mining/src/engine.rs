//! Engines: what mines. Two kinds, one shape, so that one policy and one set of metrics serve both.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::algorithm::Algorithm;

/// What an engine may take now. The default is nothing, with the memory kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How many threads may run; 0 pauses.
    pub threads: usize,
    /// The processors on which they may run; empty for all that the process may use.
    pub processors: Vec<usize>,
    /// Give the dataset's memory back. It is built again when threads are allowed without this.
    pub give_memory_back: bool,
}

/// Something that mines until it is dropped.
pub trait Engine: Send + Sync {
    /// Sets what it may take from now on. Returns at once; threads that are not allowed any more
    /// let go of their processor after the hash they are at.
    fn allow(&self, allowance: &Allowance);

    /// How many threads have not let go of their processor yet.
    fn busy_threads(&self) -> usize;

    /// How it stands.
    fn status(&self) -> Status;
}

/// What an engine is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// No pool has given work yet, or none does at present.
    Waiting {
        /// Why.
        reason: String,
    },
    /// The dataset is being built.
    Preparing {
        /// How much is done, in thousandths.
        done_permille: u64,
    },
    /// It hashes.
    Mining,
    /// Nothing is allowed.
    Paused,
    /// It cannot mine.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// How an engine stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `native` or `xmrig`.
    pub engine: &'static str,
    /// What is computed; `None` before the first job.
    pub algorithm: Option<Algorithm>,
    /// What it is at.
    #[serde(flatten)]
    pub phase: Phase,
    /// How many threads run.
    pub threads: usize,
    /// How many could.
    pub threads_most: usize,
    /// How fast.
    pub hashrate: Hashrate,
    /// How many hashes since the start.
    pub hashes: u64,
    /// What became of the shares.
    pub shares: Shares,
    /// The pool, where one is connected.
    pub pool: Option<Connection>,
    /// Memory that it holds, in bytes.
    pub memory_bytes: u64,
    /// How often a dataset was built.
    pub datasets_built: u64,
    /// How long building the dataset took last.
    pub dataset_took: Option<Duration>,
    /// Pages, mode and threads in words: `pages thp 100 %, jit, 2 threads, fast mode`.
    pub in_force: String,
}

impl Status {
    /// That of an engine of which nothing is known yet.
    pub fn unknown(engine: &'static str) -> Self {
        Self {
            engine,
            algorithm: None,
            phase: Phase::Waiting { reason: "it has just been started".to_owned() },
            threads: 0,
            threads_most: 0,
            hashrate: Hashrate::default(),
            hashes: 0,
            shares: Shares::default(),
            pool: None,
            memory_bytes: 0,
            datasets_built: 0,
            dataset_took: None,
            in_force: String::new(),
        }
    }
}

/// Hashes per second over three windows, as miners know them; `None` until a window is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Hashrate {
    /// Over 10 seconds.
    pub ten_secs: Option<f64>,
    /// Over a minute.
    pub minute: Option<f64>,
    /// Over 15 minutes.
    pub quarter_hour: Option<f64>,
    /// The best of the 10-second windows.
    pub highest: Option<f64>,
    /// Of one thread while it hashes, over the last minute or so of that. Unlike the windows it
    /// does not sink in a pause: it says what hashing would bring.
    pub of_thread: Option<f64>,
}

/// Counters of shares. `found` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// Below the target.
    pub found: u64,
    /// Paid.
    pub accepted: u64,
    /// Refused by the pool.
    pub rejected: u64,
    /// Of a job that had been replaced.
    pub stale: u64,
    /// Never answered.
    pub lost: u64,
    /// Sent, and not answered yet.
    pub under_way: u64,
    /// The sum of the difficulties of those that were accepted.
    pub accepted_difficulty: u64,
    /// Why some were rejected or lost, and how many each; at most 32 reasons, the rest as `other`.
    pub reasons: BTreeMap<String, u64>,
}

/// A pool that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Where it is; no login, no password.
    pub url: String,
    /// For how long, in seconds.
    pub uptime_secs: u64,
    /// The difficulty of its shares.
    pub difficulty: u64,
    /// The height of its block, where it tells.
    pub height: Option<u64>,
    /// How long the last answer took, in milliseconds.
    pub ping_ms: Option<u64>,
    /// How often a connection ended since the start.
    pub failures: u64,
}
