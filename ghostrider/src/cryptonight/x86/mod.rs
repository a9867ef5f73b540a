//! CryptoNight with the AES instructions of x86-64, several hashes interleaved: while one waits for
//! memory, the others work.

mod mix;
mod stream;

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

use super::{Block, State, Variant};

/// Runs `N` hashes from their Keccak states to the folded texts; the scratchpads lie one behind the
/// other in `pads`, `variant.used_blocks()` each.
#[target_feature(enable = "aes,avx2,bmi2")]
pub(super) fn run<const N: usize>(variant: Variant, states: &mut [State; N], pads: &mut [Block]) {
    match variant {
        Variant::Dark => run_sized::<N, { Variant::Dark.used_blocks() }>(variant, states, pads),
        Variant::DarkLite | Variant::Turtle => {
            run_sized::<N, { Variant::Turtle.used_blocks() }>(variant, states, pads);
        }
        Variant::Fast => run_sized::<N, { Variant::Fast.used_blocks() }>(variant, states, pads),
        Variant::Lite => run_sized::<N, { Variant::Lite.used_blocks() }>(variant, states, pads),
        Variant::TurtleLite => {
            run_sized::<N, { Variant::TurtleLite.used_blocks() }>(variant, states, pads);
        }
    }
}

/// `BLOCKS` is a constant so that a masked index needs no check.
#[target_feature(enable = "aes,avx2,bmi2")]
fn run_sized<const N: usize, const BLOCKS: usize>(
    variant: Variant,
    states: &mut [State; N],
    pads: &mut [Block],
) {
    let (pads, _) = pads.as_chunks_mut::<BLOCKS>();
    let Some(pads) = pads.first_chunk_mut::<N>() else {
        unreachable!("the scratchpad was measured by the caller")
    };
    let above = variant.blocks() - BLOCKS;
    let mut streams = states.each_ref().map(|state| stream::Stream::new(state));
    for (stream, pad) in streams.iter_mut().zip(pads.iter_mut()) {
        stream.fill(pad);
    }
    mix::mix(states, pads, variant.iterations());
    for ((state, stream), pad) in states.iter_mut().zip(streams).zip(pads) {
        stream.fold(state, pad, above);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block) -> __m128i {
    // SAFETY: a block is 16 readable bytes, and this load needs no alignment.
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    unsafe {
        _mm_loadu_si128(block.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(block: &mut Block, value: __m128i) {
    // SAFETY: a block is 16 writable bytes, and this store needs no alignment.
    #[expect(unsafe_code, reason = "vector stores take pointers")]
    unsafe {
        _mm_storeu_si128(block.as_mut_ptr().cast(), value);
    }
}
