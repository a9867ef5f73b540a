//! Whether this machine computes the right hashes: asked before the first share is sent.

use super::{Cache, Machine, Mode, OutOfMemory};

/// Key, input and hash of the reference implementation's own test suite.
const KEY: &[u8] = b"test key 000";
const VECTORS: [(&[u8], &str); 2] = [
    (b"This is a test", "639183aae1bf4c9a35884cb46b09cad9175f04efd7684e7262a0ac1c2f0b4e3f"),
    (
        b"Lorem ipsum dolor sit amet",
        "300a0adb47603dedb42228ccb2b211104f4da45af709cd7547cd049e9489c969",
    ),
];

/// Why this machine must not mine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestFailed {
    /// It computes something else than RandomX.
    #[error("RandomX ({mode}) computes {found} instead of {expected}: faulty processor or memory")]
    Wrong {
        /// How it was computed.
        mode: Mode,
        /// What came out, in hexadecimal digits.
        found: String,
        /// What should have.
        expected: &'static str,
    },
    /// It could not be tried.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Hashes known inputs in `mode`, without a dataset. Takes about a second.
///
/// # Errors
/// Where a hash is wrong, or the memory cannot be had.
pub fn self_test(mode: Mode) -> Result<(), SelfTestFailed> {
    let cache = Cache::new(mode, KEY)?;
    let mut machine = Machine::light(&cache)?;
    for (input, expected) in VECTORS {
        let found = hex::encode(machine.hash(input));
        if found != expected {
            return Err(SelfTestFailed::Wrong { mode, found, expected });
        }
    }
    Ok(())
}
