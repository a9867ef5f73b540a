//! Filling a scratchpad from the text and folding it back, eight blocks at a time.

use core::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_xor_si128};

use super::{Block, State, load, store};
use crate::aes;

type Keys = [__m128i; 10];
type Text = [__m128i; 8];

/// The blocks that fill a scratchpad: each eight are the eight before them, encrypted.
pub(super) struct Stream {
    keys: Keys,
    text: Text,
}

impl Stream {
    #[target_feature(enable = "aes,avx2")]
    pub(super) fn new(state: &State) -> Self {
        Self { keys: keys(&state.fill_key()), text: text(state) }
    }

    #[target_feature(enable = "aes,avx2")]
    pub(super) fn fill(&mut self, pad: &mut [Block]) {
        let mut text = self.text;
        for blocks in pad.as_chunks_mut::<8>().0 {
            text = encrypt(text, &self.keys);
            for (block, text) in blocks.iter_mut().zip(text) {
                store(block, text);
            }
        }
        self.text = text;
    }

    /// Folds the scratchpad, then `above` blocks more as the stream goes on.
    #[target_feature(enable = "aes,avx2")]
    pub(super) fn fold(mut self, state: &mut State, pad: &[Block], above: usize) {
        let keys = keys(&state.fold_key());
        let mut folded = text(state);
        for blocks in pad.as_chunks::<8>().0 {
            for (text, block) in folded.iter_mut().zip(blocks) {
                *text = _mm_xor_si128(*text, load(block));
            }
            folded = encrypt(folded, &keys);
        }
        for _ in 0..above / 8 {
            self.text = encrypt(self.text, &self.keys);
            for (text, block) in folded.iter_mut().zip(self.text) {
                *text = _mm_xor_si128(*text, block);
            }
            folded = encrypt(folded, &keys);
        }
        let mut text = [[0; 16]; 8];
        for (block, text) in text.iter_mut().zip(folded) {
            store(block, text);
        }
        state.set_text(&text);
    }
}

#[inline]
#[target_feature(enable = "aes,avx2")]
fn encrypt(mut text: Text, keys: &Keys) -> Text {
    for key in keys {
        for block in &mut text {
            *block = _mm_aesenc_si128(*block, *key);
        }
    }
    text
}

#[target_feature(enable = "avx2")]
fn keys(key: &[u8; 32]) -> Keys {
    let columns = aes::expand_key(key);
    core::array::from_fn(|i| load(&aes::bytes(columns[i])))
}

#[target_feature(enable = "avx2")]
fn text(state: &State) -> Text {
    let blocks = state.text();
    core::array::from_fn(|i| load(&blocks[i]))
}
