//! Fugue-512: 36 columns of four bytes that rotate past an S-box and a matrix.
//! Source: Halevi, Hall, Jutla, "The Hash Function Fugue", 2009.

use super::Digest;
use crate::aes;

/// The last 16 columns of the starting state; the first 20 are zero.
const START: [u32; 16] = [
    0x8807a57e, 0xe616af75, 0xc5d3e4db, 0xac9ab027, 0xd915f117, 0xb6eecc54, 0x06e8020b, 0x4a92efd1,
    0xaac6e2c9, 0xddb21398, 0xcae65838, 0x437f203f, 0x25ea78e7, 0x951fddd6, 0xda6ed11d, 0xe13e3567,
];

/// The coefficients of the matrix M of SMIX: row i is this, i places to the right.
const MATRIX: [u8; 4] = [1, 4, 7, 1];

/// For each byte, what it adds to its column, substituted, if it is in row 0: M's first column times
/// it. In row i it is the same, rotated.
const PRODUCTS: [u32; 256] = products();

struct State {
    /// A ring: column i of the specification is `columns[(first + i) % 36]`.
    columns: [u32; 36],
    first: usize,
}

/// Fugue-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut state = State { columns: [0; 36], first: 0 };
    state.columns[20..].copy_from_slice(&START);

    let (words, rest) = message.as_chunks::<4>();
    for word in words {
        state.absorb(u32::from_be_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        state.absorb(u32::from_be_bytes(last));
    }
    let bits = 8 * message.len() as u64;
    state.absorb((bits >> 32) as u32);
    state.absorb(bits as u32);
    state.finish();

    let mut digest = [0; 64];
    let columns = [1, 2, 3, 4, 9, 10, 11, 12, 18, 19, 20, 21, 27, 28, 29, 30];
    for (bytes, column) in digest.as_chunks_mut().0.iter_mut().zip(columns) {
        *bytes = state.at(column).to_be_bytes();
    }
    digest
}

impl State {
    fn at(&self, column: usize) -> u32 {
        self.columns[(self.first + column) % 36]
    }

    fn add(&mut self, column: usize, word: u32) {
        self.columns[(self.first + column) % 36] ^= word;
    }

    /// ROR: column i goes to i + `count`.
    fn rotate(&mut self, count: usize) {
        self.first = (self.first + 36 - count) % 36;
    }

    /// The round R: TIX, then four times ROR3, CMIX, SMIX.
    fn absorb(&mut self, word: u32) {
        self.add(22, self.at(0));
        let first = self.first;
        self.columns[first] = word;
        self.add(8, word);
        for (to, from) in [(1, 24), (4, 27), (7, 30)] {
            self.add(to, self.at(from));
        }
        for _ in 0..4 {
            self.sub_round();
        }
    }

    fn sub_round(&mut self) {
        self.rotate(3);
        for column in 0..3 {
            let word = self.at(column + 4);
            self.add(column, word);
            self.add(column + 18, word);
        }
        self.super_mix();
    }

    /// The final round G: 32 sub-rounds, then 13 times four rotations with column 0 spread.
    fn finish(&mut self) {
        for _ in 0..32 {
            self.sub_round();
        }
        for _ in 0..13 {
            for (columns, rotation) in [
                ([4, 9, 18, 27], 9),
                ([4, 10, 18, 27], 9),
                ([4, 10, 19, 27], 9),
                ([4, 10, 19, 28], 8),
            ] {
                self.spread(columns);
                self.rotate(rotation);
                self.super_mix();
            }
        }
        self.spread([4, 9, 18, 27]);
    }

    fn spread(&mut self, columns: [usize; 4]) {
        let word = self.at(0);
        for column in columns {
            self.add(column, word);
        }
    }

    /// SMIX on columns 0 to 3: with U the substituted bytes, `M U`, plus on row i the row i of
    /// `transposed M` times the sum of the row's other bytes; then row i goes i places left.
    fn super_mix(&mut self) {
        let mut product = [[0; 4]; 4];
        let mut rows = [[0; 4]; 4];
        for column in 0..4 {
            let bytes = self.at(column).to_be_bytes();
            let mut word = 0;
            for row in 0..4 {
                let byte = usize::from(bytes[row]);
                rows[row][column] = aes::SBOX[byte];
                word ^= PRODUCTS[byte].rotate_right(8 * row as u32);
            }
            product[column] = word.to_be_bytes();
        }
        let mut mixed = [[0u8; 4]; 4];
        for (row, [a, b, c, d]) in rows.into_iter().enumerate() {
            let others = a ^ b ^ c ^ d ^ rows[row][row];
            for column in 0..4 {
                let byte = product[column][row] ^ times(coefficient(column, row), others);
                mixed[(column + 4 - row) % 4][row] = byte;
            }
        }
        let first = self.first;
        for (column, bytes) in mixed.into_iter().enumerate() {
            self.columns[(first + column) % 36] = u32::from_be_bytes(bytes);
        }
    }
}

const fn coefficient(row: usize, column: usize) -> u8 {
    MATRIX[(column + 4 - row) % 4]
}

/// `byte` times 1, 4 or 7 in AES's field.
const fn times(factor: u8, byte: u8) -> u8 {
    let four = aes::double(aes::double(byte));
    match factor {
        1 => byte,
        4 => four,
        _ => four ^ aes::double(byte) ^ byte,
    }
}

const fn products() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let s = aes::SBOX[byte];
        table[byte] = u32::from_be_bytes([
            times(coefficient(0, 0), s),
            times(coefficient(1, 0), s),
            times(coefficient(2, 0), s),
            times(coefficient(3, 0), s),
        ]);
        byte += 1;
    }
    table
}
