//! Pools: where work comes from and shares go to.
//!
//! What lives here: what all dialects have in common. Each dialect is a module whose parsers and
//! rules do no I/O; [`start`] connects them. What does not: how a hash comes about, and when one is
//! computed.
//!
//! Whoever mines takes [`Event`]s and gives every share to [`Pools::submit`]: which of them is
//! stale is known here. A share may belong to any job that came since [`Event::Connected`].

use std::fmt;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::work::Work;

mod backoff;
pub mod bitcoin;
pub mod daemon;
pub mod dialect;
mod failover;
pub mod monero;
mod session;
mod settings;
mod stratum;
mod transport;

pub use failover::{BadPools, Pools, start};
pub use settings::{
    Address, BadAddress, BadFingerprint, Dialect, Fingerprint, Scheme, Settings, Timing,
};

/// What pools are told about the program.
pub const AGENT: &str = concat!("aitbc-miner/", env!("CARGO_PKG_VERSION"));

/// A pool's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Ours: no two jobs of a process have the same one, whatever the pools call them. It goes back
    /// with a solution.
    pub number: u64,
    /// The pool's own name of it.
    pub id: String,
    /// What is to be computed.
    pub algorithm: Algorithm,
    /// The seed of the dataset, for algorithms that have one.
    pub seed: Option<[u8; 32]>,
    /// The seed that comes next, where the pool tells.
    pub next_seed: Option<[u8; 32]>,
    /// The height of the block, where the pool tells.
    pub height: Option<u64>,
    /// The bytes, the nonces and the target.
    pub work: Work,
    /// What was added to the pool's own bytes so that nonces are new (Bitcoin-style `extranonce2`,
    /// the reserved bytes of a template); empty where a dialect has nothing like it.
    pub extra_nonce: Vec<u8>,
}

/// A share on its way to the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The sender's number for it, given back with the [`Verdict`].
    pub number: u64,
    /// [`Job::number`].
    pub job: u64,
    /// The nonce.
    pub nonce: u32,
    /// The hash.
    pub hash: [u8; 32],
}

/// What became of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The pool pays for it.
    Accepted,
    /// The pool does not, and said why.
    Rejected(String),
    /// It belongs to a job that has been replaced: not sent, or refused for this reason.
    Stale,
    /// No answer came: the connection ended before.
    Lost(String),
}

/// What a pool tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It took our login.
    Connected {
        /// The pool.
        url: String,
    },
    /// There is other work; what was begun before is stale.
    Job(Job),
    /// It answered, or never will.
    Answered {
        /// [`Solution::number`].
        number: u64,
        /// What became of it.
        verdict: Verdict,
        /// How long it took.
        after: Duration,
    },
    /// The connection ended; what was handed out is void.
    Disconnected {
        /// The pool.
        url: String,
        /// Why.
        reason: String,
        /// When the next try begins.
        again_in: Duration,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Rejected(reason) => write!(f, "rejected: {reason}"),
            Self::Stale => f.write_str("stale"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
        }
    }
}
