//! Which nonces of which bytes are tried: pools send the same job again, to those that come back,
//! say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How many different bytes are remembered: more than a pool has jobs for in one block.
const MOST: usize = 64;

/// Bytes that were hashed, the last ones first, and the nonce that comes next for each.
#[derive(Debug, Default)]
pub(super) struct Tried(VecDeque<(Vec<u8>, Arc<AtomicU64>)>);

impl Tried {
    /// Which nonce of `bytes` comes next.
    pub(super) fn next_nonce(&mut self, bytes: &[u8]) -> Arc<AtomicU64> {
        let known = self.0.iter().position(|(of, _)| of == bytes);
        let entry = known.and_then(|place| self.0.remove(place));
        let entry = entry.unwrap_or_else(|| (bytes.to_vec(), Arc::default()));
        let next = Arc::clone(&entry.1);
        self.0.push_front(entry);
        self.0.truncate(MOST);
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut tried = Tried::default();
        tried.next_nonce(b"one").store(7, Ordering::Relaxed);
        let now = |tried: &mut Tried, bytes: &[u8]| tried.next_nonce(bytes).load(Ordering::Relaxed);
        assert_eq!(now(&mut tried, b"other"), 0);
        for number in 0..MOST as u64 - 1 {
            now(&mut tried, &number.to_le_bytes());
        }
        assert_eq!(now(&mut tried, b"one"), 0, "{MOST} came after it");
        tried.next_nonce(b"one").store(8, Ordering::Relaxed);
        for number in 0..MOST as u64 - 1 {
            now(&mut tried, &number.to_le_bytes());
        }
        assert_eq!(now(&mut tried, b"one"), 8);
        assert_eq!(tried.0.len(), MOST);
    }
}
