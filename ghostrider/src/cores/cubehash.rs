//! CubeHash16/32-512 with 160 rounds before and after (the version of 2009, "CubeHash160+16/32+160").
//! Written here because the crate that has it needs the standard library.
//! Source: Bernstein, "CubeHash specification (2.B.1)", 2009.

use super::Digest;

/// SIMD-free, but in rows of sixteen, so that the compiler finds vectors.
struct State {
    low: [u32; 16],
    high: [u32; 16],
}

/// CubeHash-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut state = State { low: [0; 16], high: [0; 16] };
    // Output bytes, block bytes, rounds per block.
    state.low[..3].copy_from_slice(&[64, 32, 16]);
    state.rounds(160);

    let (blocks, rest) = message.as_chunks::<32>();
    for block in blocks {
        state.absorb(block);
    }
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    state.absorb(&last);
    state.high[15] ^= 1;
    state.rounds(160);

    let mut digest = [0; 64];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state.low) {
        *bytes = word.to_le_bytes();
    }
    digest
}

impl State {
    fn absorb(&mut self, block: &[u8; 32]) {
        for (word, bytes) in self.low.iter_mut().zip(block.as_chunks().0) {
            *word ^= u32::from_le_bytes(*bytes);
        }
        self.rounds(16);
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.half_round(7, 8, 2);
            self.half_round(11, 4, 1);
        }
    }

    /// Add, rotate, swap, exclusive-or, swap: a half differs only in the rotation and in which bit
    /// of the index is swapped.
    fn half_round(&mut self, rotation: u32, low_swap: usize, high_swap: usize) {
        for (high, low) in self.high.iter_mut().zip(self.low) {
            *high = high.wrapping_add(low);
        }
        let rotated = self.low.map(|word| word.rotate_left(rotation));
        self.low = core::array::from_fn(|i| rotated[i ^ low_swap] ^ self.high[i]);
        let high = self.high;
        self.high = core::array::from_fn(|i| high[i ^ high_swap]);
    }
}
