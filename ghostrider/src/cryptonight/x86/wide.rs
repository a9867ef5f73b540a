//! Filling and folding two scratchpads side by side with VAES: one chain of eight blocks waits for
//! its AES rounds half of the time, two keep the unit busy.

#![expect(
    clippy::needless_range_loop,
    reason = "an iterator is not always inlined into a function with other instructions"
)]

use core::arch::x86_64::{
    __m256i, _mm256_aesenc_epi128, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set_m128i, _mm256_storeu_si256,
    _mm256_xor_si256,
};

use super::stream::{self, Stream};
use super::{Block, State};

type Keys = [__m256i; 10];
type Text = [__m256i; 4];

/// Fills the two scratchpads from their streams.
#[target_feature(enable = "aes,avx2,vaes")]
pub(super) fn fill(streams: &mut [Stream; 2], [first, second]: [&mut [Block]; 2]) {
    let keys = [widen_keys(&streams[0].keys), widen_keys(&streams[1].keys)];
    let mut texts = [widen(&streams[0].text), widen(&streams[1].text)];
    let (first, second) = (first.as_chunks_mut::<8>().0, second.as_chunks_mut::<8>().0);
    let steps = first.len().min(second.len());
    for i in 0..steps {
        texts = encrypt(texts, &keys);
        store_text(&mut first[i], &texts[0]);
        store_text(&mut second[i], &texts[1]);
    }
    streams[0].text = narrow(&texts[0]);
    streams[1].text = narrow(&texts[1]);
}

/// Folds the two scratchpads into their states, then `above` blocks of each stream.
#[target_feature(enable = "aes,avx2,vaes")]
pub(super) fn fold(
    states: &mut [State; 2],
    streams: &[Stream; 2],
    [first, second]: [&[Block]; 2],
    above: usize,
) {
    let keys = [0, 1].map(|i| widen_keys(&stream::keys(&states[i].fold_key())));
    let mut folded = [0, 1].map(|i| widen(&stream::text(&states[i])));
    let (first, second) = (first.as_chunks::<8>().0, second.as_chunks::<8>().0);
    let steps = first.len().min(second.len());
    for i in 0..steps {
        folded[0] = xor(folded[0], load_text(&first[i]));
        folded[1] = xor(folded[1], load_text(&second[i]));
        folded = encrypt(folded, &keys);
    }
    for i in 0..2 {
        let folded = fold_above(&streams[i], folded[i], &keys[i], above / 8);
        let mut text = [[0; 16]; 8];
        store_text(&mut text, &folded);
        states[i].set_text(&text);
    }
}

/// The two chains of one hash side by side, the stream one step ahead.
#[target_feature(enable = "aes,avx2,vaes")]
fn fold_above(stream: &Stream, folded: Text, fold_keys: &Keys, steps: usize) -> Text {
    let keys = [widen_keys(&stream.keys), *fold_keys];
    let mut chains = [widen(&stream.text), folded];
    for step in 0..steps {
        if step == 0 {
            [chains[0]] = encrypt([chains[0]], &[keys[0]]);
        }
        chains[1] = xor(chains[1], chains[0]);
        chains = encrypt(chains, &keys);
    }
    chains[1]
}

#[inline]
#[target_feature(enable = "vaes,avx2")]
fn encrypt<const N: usize>(mut texts: [Text; N], keys: &[Keys; N]) -> [Text; N] {
    for round in 0..10 {
        for chain in 0..N {
            for i in 0..4 {
                texts[chain][i] = _mm256_aesenc_epi128(texts[chain][i], keys[chain][round]);
            }
        }
    }
    texts
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: Text, b: Text) -> Text {
    [
        _mm256_xor_si256(a[0], b[0]),
        _mm256_xor_si256(a[1], b[1]),
        _mm256_xor_si256(a[2], b[2]),
        _mm256_xor_si256(a[3], b[3]),
    ]
}

#[target_feature(enable = "avx2")]
fn widen_keys(keys: &stream::Keys) -> Keys {
    core::array::from_fn(|i| _mm256_broadcastsi128_si256(keys[i]))
}

#[target_feature(enable = "avx2")]
fn widen(text: &stream::Text) -> Text {
    core::array::from_fn(|i| _mm256_set_m128i(text[2 * i + 1], text[2 * i]))
}

#[target_feature(enable = "avx2")]
fn narrow(text: &Text) -> stream::Text {
    core::array::from_fn(|i| match i % 2 {
        0 => _mm256_castsi256_si128(text[i / 2]),
        _ => _mm256_extracti128_si256::<1>(text[i / 2]),
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_text(blocks: &[Block; 8]) -> Text {
    let blocks = blocks.as_chunks::<2>().0;
    [load_pair(&blocks[0]), load_pair(&blocks[1]), load_pair(&blocks[2]), load_pair(&blocks[3])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_pair(blocks: &[Block; 2]) -> __m256i {
    // SAFETY: two blocks are 32 readable bytes, and this load needs no alignment.
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    unsafe {
        _mm256_loadu_si256(blocks.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_text(blocks: &mut [Block; 8], text: &Text) {
    let blocks = blocks.as_chunks_mut::<2>().0;
    for i in 0..4 {
        // SAFETY: two blocks are 32 writable bytes, and this store needs no alignment.
        #[expect(unsafe_code, reason = "vector stores take pointers")]
        unsafe {
            _mm256_storeu_si256(blocks[i].as_mut_ptr().cast(), text[i]);
        }
    }
}
