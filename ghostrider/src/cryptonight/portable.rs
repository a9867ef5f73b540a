//! CryptoNight without special instructions: works everywhere, and is what the other paths are
//! compared with.

use super::{Block, Proceed, STEP, State, Variant};
use crate::aes::{self, Columns};

/// What variant 1 turns in bits 4 and 5 of byte 11, by two bits for each value of bits 5, 4, 0.
const TURNS: u32 = 0x7531;

/// Runs one hash from its Keccak state to the folded text, on a scratchpad of
/// `variant.used_blocks()`; `false` where it was given up.
pub(super) fn run(
    variant: Variant,
    state: &mut State,
    pad: &mut [Block],
    proceed: Proceed<'_>,
) -> bool {
    let mut stream = Stream::new(state);
    for blocks in pad.as_chunks_mut().0 {
        *blocks = stream.next();
    }
    if !mix(state, pad, variant.iterations(), proceed) {
        return false;
    }
    let above = (variant.blocks() - variant.used_blocks()) / 8;
    let above = (0..above).flat_map(|_| stream.next());
    fold(state, pad.iter().copied().chain(above));
    true
}

/// The blocks that fill a scratchpad: each eight are the eight before them, encrypted.
pub(super) struct Stream {
    keys: [Columns; 10],
    text: [Columns; 8],
}

impl Stream {
    pub(super) fn new(state: &State) -> Self {
        Self { keys: aes::expand_key(&state.fill_key()), text: text(state) }
    }

    pub(super) fn next(&mut self) -> [Block; 8] {
        self.text = self.text.map(|block| encrypt(block, &self.keys));
        self.text.map(aes::bytes)
    }
}

/// Folds the blocks, as many as the definition fills, into the state's text.
pub(super) fn fold(state: &mut State, blocks: impl Iterator<Item = Block>) {
    let keys = aes::expand_key(&state.fold_key());
    let mut folded = text(state);
    for (i, block) in blocks.enumerate() {
        let text = &mut folded[i % 8];
        *text = encrypt(xor(*text, aes::columns(&block)), &keys);
    }
    state.set_text(&folded.map(aes::bytes));
}

fn text(state: &State) -> [Columns; 8] {
    state.text().map(|block| aes::columns(&block))
}

fn encrypt(block: Columns, keys: &[Columns; 10]) -> Columns {
    keys.iter().fold(block, |block, key| aes::round(block, *key))
}

fn xor(a: Columns, b: Columns) -> Columns {
    core::array::from_fn(|i| a[i] ^ b[i])
}

/// The memory-hard loop: an AES round on one random block, a multiplication on another.
pub(super) fn mix(
    state: &State,
    pad: &mut [Block],
    iterations: usize,
    proceed: Proceed<'_>,
) -> bool {
    let mask = pad.len() - 1;
    let index = |address: u64| (address >> 4) as usize & mask;
    let tweak = state.tweak();
    let [mut a, mut b] = state.registers();
    for iteration in 0..iterations {
        if iteration % STEP == 0 && !proceed() {
            return false;
        }
        let block = &mut pad[index(a[0])];
        let c = words(&aes::bytes(aes::round(aes::columns(block), aes::columns(&bytes(a)))));
        *block = turn(bytes([b[0] ^ c[0], b[1] ^ c[1]]));

        let block = &mut pad[index(c[0])];
        let d = words(block);
        let product = u128::from(c[0]) * u128::from(d[0]);
        a[0] = a[0].wrapping_add((product >> 64) as u64);
        a[1] = a[1].wrapping_add(product as u64);
        *block = bytes([a[0], a[1] ^ tweak]);
        a = [a[0] ^ d[0], a[1] ^ d[1]];
        b = c;
    }
    true
}

/// Variant 1's change of byte 11.
fn turn(mut block: Block) -> Block {
    let byte = u32::from(block[11]);
    let index = ((byte >> 3) & 6) | (byte & 1);
    block[11] ^= ((TURNS >> (2 * index)) as u8 & 3) << 4;
    block
}

fn words(block: &Block) -> [u64; 2] {
    let value = u128::from_le_bytes(*block);
    [value as u64, (value >> 64) as u64]
}

fn bytes([low, high]: [u64; 2]) -> Block {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}
