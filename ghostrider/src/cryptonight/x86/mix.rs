//! The memory-hard loop, once with the instructions of 2010 and once with the shorter encodings that
//! came with AVX2: a few per cent faster where a CPU has them.

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_and_si128, _mm_cvtsi128_si64, _mm_or_si128, _mm_set_epi8,
    _mm_set_epi64x, _mm_setr_epi8, _mm_shuffle_epi8, _mm_srli_epi16, _mm_xor_si128,
};

use super::{Block, Proceed, STEP, State, Variant, load, store};

/// The registers of one hash.
#[derive(Clone, Copy)]
struct Lane {
    a: [u64; 2],
    b: __m128i,
    /// The address of the second half of an iteration.
    c: u64,
    tweak: u64,
}

impl Lane {
    #[target_feature(enable = "sse4.1")]
    fn new(state: &State) -> Self {
        let [a, [low, high]] = state.registers();
        Self { a, b: _mm_set_epi64x(high as i64, low as i64), c: 0, tweak: state.tweak() }
    }
}

/// The loop, for a set of instructions. A macro, since a function cannot be generic over them.
macro_rules! mix {
    ($instructions:literal) => {
        use super::*;

        /// The loop of the CryptoNight on `N` scratchpads one behind the other; `false` where it was
        /// given up.
        #[target_feature(enable = $instructions)]
        pub(in super::super) fn run<const N: usize>(
            variant: Variant,
            states: &[State; N],
            pads: &mut [Block],
            proceed: Proceed<'_>,
        ) -> bool {
            const DARK: usize = Variant::Dark.used_blocks();
            const DARK_LITE: usize = Variant::DarkLite.used_blocks();
            const FAST: usize = Variant::Fast.used_blocks();
            const LITE: usize = Variant::Lite.used_blocks();
            const TURTLE_LITE: usize = Variant::TurtleLite.used_blocks();
            let iterations = variant.iterations();
            match variant {
                Variant::Dark => mix::<N, DARK>(states, pads, iterations, proceed),
                // Both use 256 KiB.
                Variant::DarkLite | Variant::Turtle => {
                    mix::<N, DARK_LITE>(states, pads, iterations, proceed)
                }
                Variant::Fast => mix::<N, FAST>(states, pads, iterations, proceed),
                Variant::Lite => mix::<N, LITE>(states, pads, iterations, proceed),
                Variant::TurtleLite => mix::<N, TURTLE_LITE>(states, pads, iterations, proceed),
            }
        }

        /// `BLOCKS`, the size of a scratchpad, is a constant so that a masked index needs no check.
        #[target_feature(enable = $instructions)]
        pub(in super::super) fn mix<const N: usize, const BLOCKS: usize>(
            states: &[State; N],
            pads: &mut [Block],
            iterations: usize,
            proceed: Proceed<'_>,
        ) -> bool {
            let Some(pads) = pads.as_chunks_mut::<BLOCKS>().0.first_chunk_mut::<N>() else {
                unreachable!("the scratchpad was measured by the caller")
            };
            let index = |address: u64| (address >> 4) as usize % BLOCKS;
            let mut lanes: [Lane; N] = core::array::from_fn(|i| Lane::new(&states[i]));
            let mut left = iterations;
            while left > 0 {
                if !proceed() {
                    return false;
                }
                let step = left.min(STEP);
                for _ in 0..step {
                    for i in 0..N {
                        let lane = &mut lanes[i];
                        let block = &mut pads[i][index(lane.a[0])];
                        let a = _mm_set_epi64x(lane.a[1] as i64, lane.a[0] as i64);
                        let c = _mm_aesenc_si128(load(block), a);
                        store(block, turn(_mm_xor_si128(lane.b, c)));
                        lane.b = c;
                        lane.c = _mm_cvtsi128_si64(c) as u64;
                    }
                    for i in 0..N {
                        let lane = &mut lanes[i];
                        let block = &mut pads[i][index(lane.c)];
                        let [low, high] = words(block);
                        let product = u128::from(lane.c) * u128::from(low);
                        let a = [
                            lane.a[0].wrapping_add((product >> 64) as u64),
                            lane.a[1].wrapping_add(product as u64),
                        ];
                        *block = bytes([a[0], a[1] ^ lane.tweak]);
                        lane.a = [a[0] ^ low, a[1] ^ high];
                    }
                }
                left -= step;
            }
            true
        }
    };
}

pub(super) mod sse {
    mix!("aes,sse4.1");
}

pub(super) mod avx {
    mix!("aes,avx2,bmi2");
}

/// Variant 1's change of byte 11: bits 5, 4 and 0 of it, moved together, look up what to turn.
#[inline]
#[target_feature(enable = "sse4.1")]
fn turn(block: __m128i) -> __m128i {
    // A lane of all ones in every other byte looks up nothing.
    const NONE: i8 = -128;
    let bits = _mm_set_epi8(0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let others = _mm_set_epi8(
        NONE, NONE, NONE, NONE, 0, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    );
    let turns = _mm_setr_epi8(0x10, 0, 0x30, 0, 0x10, 0x10, 0x30, 0x10, 0, 0, 0, 0, 0, 0, 0, 0);
    let bits = _mm_and_si128(block, bits);
    let index = _mm_or_si128(_mm_or_si128(bits, _mm_srli_epi16::<3>(bits)), others);
    _mm_xor_si128(block, _mm_shuffle_epi8(turns, index))
}

#[inline]
fn words(block: &Block) -> [u64; 2] {
    let value = u128::from_le_bytes(*block);
    [value as u64, (value >> 64) as u64]
}

#[inline]
fn bytes([low, high]: [u64; 2]) -> Block {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}
