//! The wire of the AITBC compute market: types, ids, amounts, error codes, receipts and signing.
//!
//! Everything that two programs must agree on lives here and nowhere else. There is no I/O, no
//! clock and no randomness in this crate: time, keys and random bytes come in as arguments.

#![deny(clippy::float_arithmetic)]

pub mod admin;
pub mod amount;
pub mod canonical;
pub mod client;
pub mod control;
pub mod error;
pub mod event;
pub mod hash;
pub mod id;
pub mod job;
pub mod miner;
pub mod payout;
pub mod proof;
pub mod receipt;
#[cfg(feature = "openapi")]
mod schema;
pub mod signing;
pub mod time;
pub mod wallet;
pub mod why;

pub use amount::{Amount, Units};
pub use error::{ErrorBody, ErrorCode, FailureCode};
pub use hash::Sha256Hex;
pub use id::{JobId, LeaseToken, Name};
pub use job::{Job, JobState};
pub use miner::MinerCapabilities;
pub use proof::Proof;
pub use receipt::Receipt;
pub use time::Timestamp;

/// The protocol version that this build speaks; sent in [`PROTOCOL_HEADER`].
pub const PROTOCOL_VERSION: u32 = 1;

/// The oldest protocol version that a coordinator of this build still serves.
pub const OLDEST_PROTOCOL_VERSION: u32 = 1;

/// Header in which a node states its protocol version. Without it the peer is taken for the
/// seed's shell script and served.
pub const PROTOCOL_HEADER: &str = "x-aitbc-protocol";

/// Content type of every JSON reply.
pub const JSON_CONTENT_TYPE: &str = "application/json; charset=utf-8";
