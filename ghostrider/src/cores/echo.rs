//! ECHO-512: AES on words of 128 bits.
//! Source: Benadjila and others, "SHA-3 Proposal: ECHO", version 2.0, 2010.

use super::{Digest, haifa};
use crate::aes::{self, Columns};

/// A state of 4 x 4 words of 128 bits, column by column.
type State = [Columns; 16];

const ROUNDS: u32 = 10;

/// ECHO-512 of the message, without salt.
pub(super) fn hash(message: &[u8]) -> Digest {
    // Every word of the starting value is the output's length in bits.
    let mut chain = [[512, 0, 0, 0]; 8];
    let end = |bits: u128| {
        let mut end = [0; 18];
        end[..2].copy_from_slice(&512u16.to_le_bytes());
        end[2..].copy_from_slice(&bits.to_le_bytes());
        end
    };
    haifa::chain(message, end, |block, counter| compress(&mut chain, block, counter));

    let mut digest = [0; 64];
    for (bytes, columns) in digest.as_chunks_mut().0.iter_mut().zip(chain) {
        *bytes = aes::bytes(columns);
    }
    digest
}

fn compress(chain: &mut [Columns; 8], block: &[u8; 128], counter: u128) {
    let mut start = [[0; 4]; 16];
    start[..8].copy_from_slice(chain);
    for (word, bytes) in start[8..].iter_mut().zip(block.as_chunks().0) {
        *word = aes::columns(bytes);
    }
    let mut state = start;
    let mut key = counter;
    for _ in 0..ROUNDS {
        for word in &mut state {
            *word = aes::round(aes::round(*word, aes::columns(&key.to_le_bytes())), [0; 4]);
            key = key.wrapping_add(1);
        }
        state = mix_columns(shift_rows(state));
    }
    for i in 0..8 {
        let sum = |j: usize| start[i][j] ^ start[i + 8][j] ^ state[i][j] ^ state[i + 8][j];
        chain[i] = core::array::from_fn(sum);
    }
}

/// BIG.ShiftRows: row r goes r columns to the left.
fn shift_rows(state: State) -> State {
    core::array::from_fn(|i| {
        let (column, row) = (i / 4, i % 4);
        state[4 * ((column + row) % 4) + row]
    })
}

/// BIG.MixColumns: AES's MixColumns on the bytes that are at the same place in a column's words.
fn mix_columns(state: State) -> State {
    core::array::from_fn(|i| {
        let (column, row) = (i / 4 * 4, i % 4);
        let word = |offset: usize| state[column + (row + offset) % 4];
        let (a, b, c, d) = (word(0), word(1), word(2), word(3));
        core::array::from_fn(|j| double(a[j] ^ b[j]) ^ b[j] ^ c[j] ^ d[j])
    })
}

/// Four bytes at once times x in AES's field.
fn double(word: u32) -> u32 {
    let carries = (word >> 7) & 0x0101_0101;
    ((word & 0x7f7f_7f7f) << 1) ^ (carries * 0x1b)
}
