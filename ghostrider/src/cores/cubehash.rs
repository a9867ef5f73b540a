//! CubeHash16/32-512 with 160 rounds before and after (the version of 2009, "CubeHash160+16/32+160").
//! Written here because the crate that has it needs the standard library.
//! Source: Bernstein, "CubeHash specification (2.B.1)", 2009.

use super::Digest;

/// The 32 words, those whose index has no highest bit and those that have one.
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
        let (mut low, mut high) = (self.low, self.high);
        for _ in 0..count {
            (low, high) = half_round::<7, 8, 2>(low, high);
            (low, high) = half_round::<11, 4, 1>(low, high);
        }
        (self.low, self.high) = (low, high);
    }
}

/// Add, rotate, swap, exclusive-or, swap. The halves of a round differ only in the rotation and in
/// which bit of the index is swapped: constants, so that the compiler finds vectors.
#[inline(always)]
fn half_round<const ROTATION: u32, const LOW_SWAP: usize, const HIGH_SWAP: usize>(
    low: [u32; 16],
    high: [u32; 16],
) -> ([u32; 16], [u32; 16]) {
    let (mut next_low, mut sum, mut next_high) = ([0; 16], [0; 16], [0; 16]);
    for i in 0..16 {
        sum[i] = high[i].wrapping_add(low[i]);
    }
    for i in 0..16 {
        next_low[i] = low[i ^ LOW_SWAP].rotate_left(ROTATION) ^ sum[i];
    }
    for i in 0..16 {
        next_high[i] = sum[i ^ HIGH_SWAP];
    }
    (next_low, next_high)
}
