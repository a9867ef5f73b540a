//! One piece of work: the bytes to hash, the place of the nonce in them, and what counts as a share.

use std::ops::Range;

use crate::ghostrider::HEADER_BYTES;
use crate::target::Target;

/// Where Monero's blobs have their nonce.
pub const MONERO_NONCE_AT: usize = 39;

/// Where Bitcoin-style headers of 80 bytes have theirs.
pub const HEADER_NONCE_AT: usize = 76;

/// The longest blob, in bytes: what XMRig accepts.
const LONGEST_BLOB: usize = 407;

/// The length of a nonce, in bytes.
const NONCE_BYTES: usize = 4;

/// The nonces that may be tried: the lower bits run, the upper ones stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceRange {
    fixed: u32,
    count: u64,
}

impl NonceRange {
    /// All of them.
    pub const ALL: Self = Self { fixed: 0, count: 1 << 32 };

    /// Those whose uppermost byte is `top`, as proxies ("nicehash") hand them out.
    pub const fn below_byte(top: u8) -> Self {
        Self { fixed: (top as u32) << 24, count: 1 << 24 }
    }

    /// The first `count` of all.
    pub const fn first(count: u32) -> Self {
        Self { fixed: 0, count: count as u64 }
    }

    /// The nonce number `index`; `None` behind the last one.
    pub fn get(self, index: u64) -> Option<u32> {
        (index < self.count).then(|| self.fixed | u32::try_from(index).unwrap_or(u32::MAX))
    }
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    blob: Vec<u8>,
    nonce_at: Range<usize>,
    /// Which nonces may be tried.
    pub nonces: NonceRange,
    /// What counts as a share.
    pub target: Target,
}

/// Why something is no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWork {
    /// Longer than any blob.
    #[error("a blob of {0} bytes is longer than {LONGEST_BLOB}")]
    TooLong(usize),
    /// The nonce would lie outside of it.
    #[error("a blob of {0} bytes has no room for a nonce")]
    NoNonce(usize),
    /// Not as long as a header.
    #[error("{0} bytes are no header, which has {HEADER_BYTES}")]
    NoHeader(usize),
}

impl Work {
    /// Work on `blob`, whose nonce is at `nonce_at`, in bytes from its beginning.
    ///
    /// # Errors
    /// A blob that is too long, or has no room for the nonce.
    pub fn new(
        blob: Vec<u8>,
        nonce_at: usize,
        nonces: NonceRange,
        target: Target,
    ) -> Result<Self, BadWork> {
        if blob.len() > LONGEST_BLOB {
            return Err(BadWork::TooLong(blob.len()));
        }
        let end = nonce_at.checked_add(NONCE_BYTES).filter(|end| *end <= blob.len());
        let end = end.ok_or(BadWork::NoNonce(blob.len()))?;
        Ok(Self { blob, nonce_at: nonce_at..end, nonces, target })
    }

    /// The bytes, with whatever nonce they came with.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Writes the nonce into a copy of the blob.
    pub fn put_nonce(&self, blob: &mut [u8], nonce: u32) {
        if let Some(place) = blob.get_mut(self.nonce_at.clone()) {
            place.copy_from_slice(&nonce.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_its_place() {
        let work = |length, at| Work::new(vec![0; length], at, NonceRange::ALL, Target::new(1));
        assert_eq!(work(42, 39).unwrap_err(), BadWork::NoNonce(42));
        assert_eq!(work(43, usize::MAX).unwrap_err(), BadWork::NoNonce(43));
        assert_eq!(work(408, 39).unwrap_err(), BadWork::TooLong(408));
        let work = work(43, MONERO_NONCE_AT).unwrap();
        let mut blob = work.blob().to_vec();
        work.put_nonce(&mut blob, 0x0403_0201);
        assert_eq!(blob[39..], [1, 2, 3, 4]);
    }

    #[test]
    fn a_proxy_keeps_the_upper_byte() {
        let range = NonceRange::below_byte(0xab);
        assert_eq!(range.get(0), Some(0xab00_0000));
        assert_eq!(range.get((1 << 24) - 1), Some(0xabff_ffff));
        assert_eq!(range.get(1 << 24), None);
        assert_eq!(NonceRange::ALL.get(u64::from(u32::MAX)), Some(u32::MAX));
        assert_eq!(NonceRange::ALL.get(1 << 32), None);
    }
}
