//! CryptoNight with the AES instructions of x86-64, several hashes interleaved: while one waits for
//! memory, the others work.

mod mix;
mod stream;
mod wide;

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

use super::{Block, Proceed, STEP, State, Variant};
use stream::Stream;

/// Runs `N` hashes from their Keccak states to the folded texts; the scratchpads lie one behind the
/// other in `pads`, `variant.used_blocks()` each. `false` where they were given up.
#[target_feature(enable = "aes,sse4.1")]
pub(super) fn run<const N: usize>(
    variant: Variant,
    states: &mut [State; N],
    pads: &mut [Block],
    proceed: Proceed<'_>,
) -> bool {
    let streams = fill(variant, states, pads);
    let finished = mix::sse::run(variant, states, pads, proceed);
    if finished {
        fold(variant, states, &streams, pads);
    }
    finished
}

/// The same, with AVX2's encodings in the loop.
#[target_feature(enable = "aes,avx2,bmi2")]
pub(super) fn run_avx<const N: usize>(
    variant: Variant,
    states: &mut [State; N],
    pads: &mut [Block],
    proceed: Proceed<'_>,
) -> bool {
    let streams = fill(variant, states, pads);
    let finished = mix::avx::run(variant, states, pads, proceed);
    if finished {
        fold(variant, states, &streams, pads);
    }
    finished
}

/// The same, and with AES on two blocks at once where two hashes are filled or folded together.
#[target_feature(enable = "aes,avx2,bmi2,vaes")]
pub(super) fn run_wide<const N: usize>(
    variant: Variant,
    states: &mut [State; N],
    pads: &mut [Block],
    proceed: Proceed<'_>,
) -> bool {
    let streams = fill_pairs(variant, states, pads);
    let finished = mix::avx::run(variant, states, pads, proceed);
    if finished {
        fold_pairs(variant, states, &streams, pads);
    }
    finished
}

#[target_feature(enable = "aes,sse4.1")]
fn fill<const N: usize>(variant: Variant, states: &[State; N], pads: &mut [Block]) -> [Stream; N] {
    let mut streams = states.each_ref().map(|state| Stream::new(state));
    let pads = pads.chunks_exact_mut(variant.used_blocks());
    for (stream, pad) in streams.iter_mut().zip(pads) {
        stream.fill(pad);
    }
    streams
}

#[target_feature(enable = "aes,sse4.1")]
fn fold<const N: usize>(
    variant: Variant,
    states: &mut [State; N],
    streams: &[Stream; N],
    pads: &[Block],
) {
    let above = variant.blocks() - variant.used_blocks();
    let pads = pads.chunks_exact(variant.used_blocks());
    for ((state, stream), pad) in states.iter_mut().zip(streams).zip(pads) {
        stream.fold(state, pad, above);
    }
}

#[target_feature(enable = "aes,avx2,vaes")]
fn fill_pairs<const N: usize>(
    variant: Variant,
    states: &[State; N],
    pads: &mut [Block],
) -> [Stream; N] {
    let pad_blocks = variant.used_blocks();
    let mut streams = states.each_ref().map(|state| Stream::new(state));
    let (pairs, odd) = streams.as_chunks_mut::<2>();
    let mut fields = pads.chunks_exact_mut(2 * pad_blocks);
    for (pair, pads) in pairs.iter_mut().zip(&mut fields) {
        wide::fill(pair, pads.split_at_mut(pad_blocks).into());
    }
    if let [stream] = odd {
        stream.fill(fields.into_remainder());
    }
    streams
}

#[target_feature(enable = "aes,avx2,vaes")]
fn fold_pairs<const N: usize>(
    variant: Variant,
    states: &mut [State; N],
    streams: &[Stream; N],
    pads: &[Block],
) {
    let pad_blocks = variant.used_blocks();
    let above = variant.blocks() - pad_blocks;
    let (pairs, odd) = states.as_chunks_mut::<2>();
    let (stream_pairs, odd_streams) = streams.as_chunks::<2>();
    let fields = pads.chunks_exact(2 * pad_blocks);
    let last = fields.remainder();
    for ((states, streams), pads) in pairs.iter_mut().zip(stream_pairs).zip(fields) {
        wide::fold(states, streams, pads.split_at(pad_blocks).into(), above);
    }
    if let ([state], [stream]) = (odd, odd_streams) {
        stream.fold(state, last, above);
    }
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn load(block: &Block) -> __m128i {
    // SAFETY: a block is 16 readable bytes, and this load needs no alignment.
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    unsafe {
        _mm_loadu_si128(block.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn store(block: &mut Block, value: __m128i) {
    // SAFETY: a block is 16 writable bytes, and this store needs no alignment.
    #[expect(unsafe_code, reason = "vector stores take pointers")]
    unsafe {
        _mm_storeu_si128(block.as_mut_ptr().cast(), value);
    }
}

/// On memory so small that Miri and valgrind can follow; whole hashes are in `tests/`.
#[cfg(test)]
mod tests {
    use super::super::{Kernel, portable};
    use super::*;

    const BLOCKS: usize = 64;

    fn states<const N: usize>() -> [State; N] {
        core::array::from_fn(|i| State::new(&[i as u8; 64]))
    }

    fn filled(states: &[State], extra: usize) -> Vec<Block> {
        let blocks = states.iter().flat_map(|state| {
            let mut stream = portable::Stream::new(state);
            let blocks: Vec<Block> =
                (0..(BLOCKS + extra) / 8).flat_map(|_| stream.next()).collect();
            blocks
        });
        blocks.collect()
    }

    fn has(kernel: &str) -> bool {
        Kernel::available().any(|available| available.name() == kernel)
    }

    #[expect(unsafe_code, reason = "the instructions were asked for")]
    fn mixes_as_the_portable_one<const N: usize>() {
        let states = states::<N>();
        let mut expected = filled(&states, 0);
        for (state, pad) in states.iter().zip(expected.chunks_exact_mut(BLOCKS)) {
            assert!(portable::mix(state, pad, 50, &mut || true));
        }
        if has("aes") {
            let mut found = filled(&states, 0);
            // SAFETY: just asked.
            let finished =
                unsafe { mix::sse::mix::<N, BLOCKS>(&states, &mut found, 50, &mut || true) };
            assert!(finished);
            assert_eq!(found, expected, "{N}-way");
        }
        if has("avx") {
            let mut found = filled(&states, 0);
            // SAFETY: just asked.
            let finished =
                unsafe { mix::avx::mix::<N, BLOCKS>(&states, &mut found, 50, &mut || true) };
            assert!(finished);
            assert_eq!(found, expected, "{N}-way with AVX2");
        }
    }

    #[test]
    fn the_loop_does_what_the_portable_one_does() {
        mixes_as_the_portable_one::<1>();
        mixes_as_the_portable_one::<2>();
        mixes_as_the_portable_one::<3>();
        mixes_as_the_portable_one::<4>();
        mixes_as_the_portable_one::<6>();
        mixes_as_the_portable_one::<8>();
    }

    #[test]
    #[expect(unsafe_code, reason = "the instructions were asked for")]
    fn the_streams_fill_and_fold_as_the_portable_one() {
        const ABOVE: usize = 32;
        let pads = filled(&states::<2>(), 0);
        let mut expected = states::<2>();
        for (state, pad) in
            expected.iter_mut().zip(filled(&states::<2>(), ABOVE).chunks(BLOCKS + ABOVE))
        {
            portable::fold(state, pad.iter().copied());
        }
        let expected = expected.map(|state| state.text());

        if has("aes") {
            let mut found = states::<2>();
            for (state, pad) in found.iter_mut().zip(pads.chunks(BLOCKS)) {
                let mut filled = [[0; 16]; BLOCKS];
                // SAFETY: just asked.
                unsafe {
                    let mut stream = Stream::new(state);
                    stream.fill(&mut filled);
                    stream.fold(state, pad, ABOVE);
                }
                assert_eq!(filled[..], *pad);
            }
            assert_eq!(found.map(|state| state.text()), expected);
        }
        if has("vaes") {
            let mut found = states::<2>();
            let mut filled = vec![[0; 16]; 2 * BLOCKS];
            // SAFETY: just asked.
            unsafe {
                let mut streams = [Stream::new(&found[0]), Stream::new(&found[1])];
                wide::fill(&mut streams, filled.split_at_mut(BLOCKS).into());
                wide::fold(&mut found, &streams, pads.split_at(BLOCKS).into(), ABOVE);
            }
            assert_eq!(filled, pads);
            assert_eq!(found.map(|state| state.text()), expected);
        }
    }
}
