//! GhostRider, the proof of work of Raptoreum: 80 bytes of block header to 32 bytes, as fast as the
//! best miner.
//!
//! What lives here: the hash, and nothing of mining. What does not: pools, targets, nonces, threads.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

mod aes;
mod blake;
pub mod cores;
pub mod cryptonight;
#[cfg(feature = "std")]
mod hasher;
mod plan;
mod rotation;
#[cfg(feature = "std")]
mod scratchpad;
#[cfg(feature = "std")]
mod tuning;

#[cfg(feature = "std")]
pub use hasher::Hasher;
pub use plan::Plan;
pub use rotation::{Rotation, VariantSet};
#[cfg(feature = "std")]
pub use scratchpad::Scratchpad;
#[cfg(feature = "std")]
pub use tuning::Tuning;

/// A block header.
pub type Header = [u8; 80];

/// The hash of a header: a little-endian number of 256 bits when compared with a target.
pub type Hash = [u8; 32];

/// How many headers a batch can have.
pub const MAX_BATCH: usize = 8;

/// The hash of one header. Takes memory for it and gives it back: to hash many, keep a [`Hasher`].
///
/// ```
/// // The first block of Raptoreum: version, previous block, transactions, time, bits, nonce.
/// let transactions = 0x5394264ca7175792acc6512bc1ddbc5b_u128.to_be_bytes();
/// let transactions = [transactions, 0x6a087cab0a54ee72ddac6824c28ba487_u128.to_be_bytes()];
/// let end = [0x40, 0x53, 0x39, 0x60, 0xff, 0x1f, 0x00, 0x20, 0x6a, 0x04, 0x00, 0x00];
/// let mut header = [0; 80];
/// header[0] = 4;
/// header[36..68].copy_from_slice(transactions.as_flattened());
/// header[68..].copy_from_slice(&end);
///
/// let hash = ghostrider::hash(&header);
/// assert_eq!(hash[..4], [0x48, 0xaa, 0xa5, 0xcf]);
/// assert_eq!(hash[28..], [0x36, 0x18, 0x1d, 0x00]);
/// ```
#[cfg(feature = "std")]
#[must_use]
pub fn hash(header: &Header) -> Hash {
    Hasher::with_plan(Plan::new(cryptonight::Kernel::best())).hash(header)
}

/// The examples of the README, as tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
