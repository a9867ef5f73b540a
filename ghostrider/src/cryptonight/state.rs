//! What comes before and after the scratchpad: the Keccak state of one hash, the parts that the
//! loop reads from it, and the final hash.

use groestl::Digest as _;

use super::{Block, Output};

/// The rate of Keccak in CryptoNight, in bytes.
const RATE: usize = 136;

/// The Keccak state of one hash. As 200 bytes: 0 to 31 key the filling, 32 to 63 the folding, 64 to
/// 191 are the text that is filled from and folded into.
pub(super) struct State {
    words: [u64; 25],
    tweak: u64,
}

impl State {
    /// Keccak-1600 of the input, all 200 bytes of it.
    ///
    /// # Panics
    /// If the input has less than 43 bytes: variant 1 reads bytes 35 to 42.
    pub(super) fn new(input: &[u8]) -> Self {
        assert!(input.len() >= 43, "CryptoNight variant 1 needs at least 43 bytes of input");
        let mut words = [0; 25];
        let (blocks, rest) = input.as_chunks::<RATE>();
        for block in blocks {
            absorb(&mut words, block);
        }
        let mut last = [0; RATE];
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = 0x01;
        last[RATE - 1] |= 0x80;
        absorb(&mut words, &last);
        let bytes: [u8; 8] = core::array::from_fn(|i| input[35 + i]);
        Self { tweak: u64::from_le_bytes(bytes) ^ words[24], words }
    }

    /// What variant 1 mixes into the upper half of every second write.
    pub(super) fn tweak(&self) -> u64 {
        self.tweak
    }

    /// Where the loop starts: `a` and `b`.
    pub(super) fn registers(&self) -> [[u64; 2]; 2] {
        let w = &self.words;
        [[w[0] ^ w[4], w[1] ^ w[5]], [w[2] ^ w[6], w[3] ^ w[7]]]
    }

    pub(super) fn fill_key(&self) -> [u8; 32] {
        self.bytes(0)
    }

    pub(super) fn fold_key(&self) -> [u8; 32] {
        self.bytes(4)
    }

    pub(super) fn text(&self) -> [Block; 8] {
        core::array::from_fn(|i| self.bytes(8 + 2 * i))
    }

    pub(super) fn set_text(&mut self, text: &[Block; 8]) {
        for (word, bytes) in self.words[8..].iter_mut().zip(text.as_flattened().as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    }

    fn bytes<const N: usize>(&self, first_word: usize) -> [u8; N] {
        let mut bytes = [0; N];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.words[first_word..]) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    /// Keccak-f once more, then the hash that the first two bits name.
    pub(super) fn finish(mut self) -> Output {
        permute(&mut self.words);
        let bytes: [u8; 200] = self.bytes(0);
        match bytes[0] & 3 {
            0 => crate::blake::hash_256(&bytes),
            1 => groestl::Groestl256::digest(bytes).into(),
            2 => jh::Jh256::digest(bytes).into(),
            _ => skein::Skein512::<skein::digest::consts::U32>::digest(bytes).into(),
        }
    }
}

fn absorb(words: &mut [u64; 25], block: &[u8; RATE]) {
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word ^= u64::from_le_bytes(*bytes);
    }
    permute(words);
}

fn permute(words: &mut [u64; 25]) {
    keccak::Keccak::new().with_f1600(|permutation| permutation(words));
}
