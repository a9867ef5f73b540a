//! Filling a scratchpad from the text and folding it back, eight blocks at a time.

#![expect(
    clippy::needless_range_loop,
    reason = "an iterator is not always inlined into a function with other instructions"
)]

use core::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_xor_si128};

use super::{Block, State, load, store};
use crate::aes;

pub(super) type Keys = [__m128i; 10];
pub(super) type Text = [__m128i; 8];

/// The blocks that fill a scratchpad: each eight are the eight before them, encrypted.
pub(super) struct Stream {
    pub(super) keys: Keys,
    pub(super) text: Text,
}

impl Stream {
    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn new(state: &State) -> Self {
        Self { keys: keys(&state.fill_key()), text: text(state) }
    }

    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn fill(&mut self, pad: &mut [Block]) {
        let mut text = self.text;
        for blocks in pad.as_chunks_mut::<8>().0 {
            text = encrypt(text, &self.keys);
            store_text(blocks, text);
        }
        self.text = text;
    }

    /// Folds the scratchpad, then `above` blocks more as the stream goes on.
    #[target_feature(enable = "aes,sse4.1")]
    pub(super) fn fold(&self, state: &mut State, pad: &[Block], above: usize) {
        let keys = keys(&state.fold_key());
        let mut folded = text(state);
        for blocks in pad.as_chunks::<8>().0 {
            for i in 0..8 {
                folded[i] = _mm_xor_si128(folded[i], load(&blocks[i]));
            }
            folded = encrypt(folded, &keys);
        }
        let mut text = self.text;
        for _ in 0..above / 8 {
            text = encrypt(text, &self.keys);
            for i in 0..8 {
                folded[i] = _mm_xor_si128(folded[i], text[i]);
            }
            folded = encrypt(folded, &keys);
        }
        let mut text = [[0; 16]; 8];
        store_text(&mut text, folded);
        state.set_text(&text);
    }
}

#[inline]
#[target_feature(enable = "aes,sse4.1")]
fn encrypt(mut text: Text, keys: &Keys) -> Text {
    for round in 0..10 {
        for i in 0..8 {
            text[i] = _mm_aesenc_si128(text[i], keys[round]);
        }
    }
    text
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn store_text(blocks: &mut [Block; 8], text: Text) {
    for i in 0..8 {
        store(&mut blocks[i], text[i]);
    }
}

#[target_feature(enable = "sse4.1")]
pub(super) fn keys(key: &[u8; 32]) -> Keys {
    let columns = aes::expand_key(key);
    core::array::from_fn(|i| load(&aes::bytes(columns[i])))
}

#[target_feature(enable = "sse4.1")]
pub(super) fn text(state: &State) -> Text {
    let blocks = state.text();
    core::array::from_fn(|i| load(&blocks[i]))
}
