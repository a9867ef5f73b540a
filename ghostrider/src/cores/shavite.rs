//! SHAvite-3-512: a Feistel cipher of 14 rounds on four branches, keyed by the message.
//! Source: Biham, Dunkelman, "The SHAvite-3 Hash Function", tweaked version of 2009.

use super::{Digest, haifa};
use crate::aes::{self, Columns};

/// The starting value for 512 bits of output.
const START: [Columns; 4] = [
    [0x72fccdd8, 0x79ca4727, 0x128a077b, 0x40d55aec],
    [0xd1901a06, 0x430ae307, 0xb29f5cd1, 0xdf07fbfc],
    [0x8e45d73d, 0x681ab538, 0xbde86578, 0xdd577e47],
    [0xe275eade, 0x502d9fcd, 0xb9357178, 0x022a4b9a],
];

/// Round keys of four words: 14 rounds of two halves of four.
const KEYS: usize = 14 * 8;

/// Where the counter enters the key schedule (the index of the round key), and the order of its
/// words there; the last of them is complemented.
const COUNTERS: [(usize, [usize; 4]); 4] =
    [(8, [0, 1, 2, 3]), (41, [3, 2, 1, 0]), (79, [2, 3, 0, 1]), (110, [1, 0, 3, 2])];

/// SHAvite-3-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut chain = START;
    let end = |bits: u128| {
        let mut end = [0; 18];
        end[..16].copy_from_slice(&bits.to_le_bytes());
        end[16..].copy_from_slice(&512u16.to_le_bytes());
        end
    };
    haifa::chain(message, end, |block, counter| compress(&mut chain, block, counter));

    let mut digest = [0; 64];
    for (bytes, columns) in digest.as_chunks_mut().0.iter_mut().zip(chain) {
        *bytes = aes::bytes(columns);
    }
    digest
}

fn compress(chain: &mut [Columns; 4], block: &[u8; 128], counter: u128) {
    let keys = schedule(block, counter);
    let [mut a, mut b, mut c, mut d] = *chain;
    for keys in keys.as_chunks::<8>().0 {
        a = xor(a, feistel(b, &keys[..4]));
        c = xor(c, feistel(d, &keys[4..]));
        (a, b, c, d) = (d, a, b, c);
    }
    for (chain, branch) in chain.iter_mut().zip([a, b, c, d]) {
        *chain = xor(*chain, branch);
    }
}

/// F^4: four AES rounds, each with its key before it.
fn feistel(branch: Columns, keys: &[Columns]) -> Columns {
    keys.iter().fold(branch, |x, key| aes::round(xor(x, *key), [0; 4]))
}

/// Eight round keys of the message, then by turns eight through AES and eight linear ones.
fn schedule(block: &[u8; 128], counter: u128) -> [Columns; KEYS] {
    let mut keys = [[0; 4]; KEYS];
    for (key, bytes) in keys.iter_mut().zip(block.as_chunks().0) {
        *key = aes::columns(bytes);
    }
    let counter = aes::columns(&counter.to_le_bytes());
    for i in 8..KEYS {
        let [w0, w1, w2, w3] = keys[i - 8];
        if (i / 8) % 2 == 1 {
            keys[i] = xor(aes::round([w1, w2, w3, w0], [0; 4]), keys[i - 1]);
            if let Some((_, order)) = COUNTERS.iter().find(|(index, _)| *index == i) {
                let words = order.map(|word| counter[word]);
                keys[i] = xor(keys[i], [words[0], words[1], words[2], !words[3]]);
            }
        } else {
            let [_, x1, x2, x3] = keys[i - 2];
            keys[i] = xor([w0, w1, w2, w3], [x1, x2, x3, keys[i - 1][0]]);
        }
    }
    keys
}

fn xor(a: Columns, b: Columns) -> Columns {
    core::array::from_fn(|i| a[i] ^ b[i])
}
