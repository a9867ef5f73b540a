//! Proof-of-work for idle processors.
//!
//! What a pool pays for is a hash below a target, so nothing here changes how a hash comes about:
//! RandomX is the reference implementation, reached through [`randomx`]; GhostRider is the crate of
//! that name. [`hasher`] has the threads that search, and lets go of a processor between two hashes. This crate knows nothing of jobs,
//! wallets or coordinators.

pub mod algorithm;
pub mod engine;
pub mod ghostrider;
pub mod hasher;
pub mod host;
pub mod native;
pub mod notice;
pub mod policy;
pub mod pool;
pub mod randomx;
mod shares;
pub mod stats;
pub mod summary;
pub mod target;
pub mod work;
pub mod xmrig;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use engine::Engine;
pub use hasher::{Hasher, Share};
pub use native::Native;
pub use notice::Notice;
pub use target::Target;
pub use work::{BadWork, NonceRange, Work};
pub use xmrig::Xmrig;
