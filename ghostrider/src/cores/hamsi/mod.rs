//! Hamsi-512: a linear code expands eight bytes to 512 bits, a permutation mixes them with the
//! chaining value, and half of the result is kept.
//! Source: Küçük, "The Hash Function Hamsi", version of 2009.

mod code;

use super::Digest;

/// The starting value: an address, four bytes to a word.
const START: &[u8; 64] = b"steelpark Arenberg 10, bus 2446, B-3001 Leuven-Heverlee, Belgium";

/// The constants of P.
const CONSTANTS: [u32; 32] = [
    0xff00f0f0, 0xccccaaaa, 0xf0f0cccc, 0xff00aaaa, 0xccccaaaa, 0xf0f0ff00, 0xaaaacccc, 0xf0f0ff00,
    0xf0f0cccc, 0xaaaaff00, 0xccccff00, 0xaaaaf0f0, 0xaaaaf0f0, 0xff00cccc, 0xccccf0f0, 0xff00aaaa,
    0xccccaaaa, 0xff00f0f0, 0xff00aaaa, 0xf0f0cccc, 0xf0f0ff00, 0xccccaaaa, 0xf0f0ff00, 0xaaaacccc,
    0xaaaaff00, 0xf0f0cccc, 0xaaaaf0f0, 0xccccff00, 0xff00cccc, 0xaaaaf0f0, 0xff00aaaa, 0xccccf0f0,
];

/// The constants of Pf, the last permutation.
const LAST_CONSTANTS: [u32; 32] = [
    0xcaf9639c, 0x0ff0f9c0, 0x639c0ff0, 0xcaf9f9c0, 0x0ff0f9c0, 0x639ccaf9, 0xf9c00ff0, 0x639ccaf9,
    0x639c0ff0, 0xf9c0caf9, 0x0ff0caf9, 0xf9c0639c, 0xf9c0639c, 0xcaf90ff0, 0x0ff0639c, 0xcaf9f9c0,
    0x0ff0f9c0, 0xcaf9639c, 0xcaf9f9c0, 0x639c0ff0, 0x639ccaf9, 0x0ff0f9c0, 0x639ccaf9, 0xf9c00ff0,
    0xf9c0caf9, 0x639c0ff0, 0xf9c0639c, 0x0ff0caf9, 0xcaf90ff0, 0xf9c0639c, 0xcaf9f9c0, 0x0ff0639c,
];

/// Replaces words of the state, four at a time, by a function of them. A macro, so that the indices
/// are known and no word has to wait in memory.
macro_rules! replace {
    ($state:ident, $function:ident, $([$a:literal, $b:literal, $c:literal, $d:literal]),*) => {$(
        [$state[$a], $state[$b], $state[$c], $state[$d]] =
            $function([$state[$a], $state[$b], $state[$c], $state[$d]]);
    )*};
}

/// Hamsi-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut chain = [0; 16];
    for (word, bytes) in chain.iter_mut().zip(START.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    let (blocks, rest) = message.as_chunks::<8>();
    for block in blocks {
        compress(&mut chain, *block, &CONSTANTS, 6);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    compress(&mut chain, last, &CONSTANTS, 6);
    compress(&mut chain, (8 * message.len() as u64).to_be_bytes(), &LAST_CONSTANTS, 12);

    let mut digest = [0; 64];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(chain) {
        *bytes = word.to_be_bytes();
    }
    digest
}

fn compress(chain: &mut [u32; 16], block: [u8; 8], constants: &[u32; 32], rounds: u32) {
    let mut state = concatenate(&code::encode(block), chain);
    for round in 0..rounds {
        for (word, constant) in state.iter_mut().zip(constants) {
            *word ^= constant;
        }
        state[1] ^= round;

        replace!(state, substitute, [0, 8, 16, 24], [1, 9, 17, 25], [2, 10, 18, 26]);
        replace!(state, substitute, [3, 11, 19, 27], [4, 12, 20, 28], [5, 13, 21, 29]);
        replace!(state, substitute, [6, 14, 22, 30], [7, 15, 23, 31]);
        // The diagonals, then four words of each row.
        replace!(state, diffuse, [0, 9, 18, 27], [1, 10, 19, 28], [2, 11, 20, 29]);
        replace!(state, diffuse, [3, 12, 21, 30], [4, 13, 22, 31], [5, 14, 23, 24]);
        replace!(state, diffuse, [6, 15, 16, 25], [7, 8, 17, 26]);
        replace!(state, diffuse, [0, 2, 5, 7], [16, 19, 21, 22]);
        replace!(state, diffuse, [9, 11, 12, 14], [25, 26, 28, 31]);
    }
    // The truncation T keeps the first and the third row.
    for i in 0..8 {
        chain[i] ^= state[i];
        chain[i + 8] ^= state[i + 16];
    }
}

/// Message and chaining value in pairs of words: each pair of columns of a row has one of each, on
/// the first and the third row the message first, on the others the chaining value.
fn concatenate(message: &[u32; 16], chain: &[u32; 16]) -> [u32; 32] {
    let mut state = [0; 32];
    for pair in 0..16 {
        // Pair k of the state holds words 2 * (k / 2) of the message or the chaining value.
        let source = if (pair + pair / 4) % 2 == 0 { message } else { chain };
        let from = pair / 2 * 2;
        state[2 * pair..2 * pair + 2].copy_from_slice(&source[from..from + 2]);
    }
    state
}

/// Serpent's S-box S2, `8 6 7 9 3 c a f d 1 e 4 0 b 5 2`, on 32 columns at once, by the
/// specification's sequence of instructions.
#[inline(always)]
fn substitute([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    let mut t = a;
    a = (a & c) ^ d;
    c = c ^ b ^ a;
    d = (d | t) ^ b;
    t ^= c;
    b = d;
    d = (d | t) ^ a;
    a &= b;
    t ^= a;
    b = b ^ d ^ t;
    [c, d, b, !t]
}

/// The linear transformation of Serpent.
#[inline(always)]
fn diffuse([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    a = a.rotate_left(13);
    c = c.rotate_left(3);
    b = (b ^ a ^ c).rotate_left(1);
    d = (d ^ c ^ (a << 3)).rotate_left(7);
    a = (a ^ b ^ d).rotate_left(5);
    c = (c ^ d ^ (b << 7)).rotate_left(22);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitution_is_its_table() {
        let table = [8, 6, 7, 9, 3, 12, 10, 15, 13, 1, 14, 4, 0, 11, 5, 2];
        for (input, output) in table.into_iter().enumerate() {
            let bits = core::array::from_fn(|i| (input as u32 >> i) & 1);
            let found = substitute(bits).map(|word| word & 1);
            let expected = core::array::from_fn(|i| (output >> i) & 1);
            assert_eq!(found, expected, "input {input}");
        }
    }
}
