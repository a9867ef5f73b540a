//! SIMD-512: a Feistel of eight lanes, keyed by the message through a number-theoretic transform.
//! Source: Leurent, Bouillaguet, Fouque, "SIMD Is a Message Digest", tweaked version of 2009.

use super::Digest;

/// The state: A, B, C and D, eight words each.
type State = [[u32; 8]; 4];

/// The starting value for 512 bits of output.
const START: State = [
    [
        0x0ba16b95, 0x72f999ad, 0x9fecc2ae, 0xba3264fc, 0x5e894929, 0x8e9f30e5, 0x2f1daa37,
        0xf0f2c558,
    ],
    [
        0xac506643, 0xa90635a5, 0xe25b878b, 0xaab7878f, 0x88817f7a, 0x0a02892b, 0x559a7550,
        0x598f657e,
    ],
    [
        0x7eef60a1, 0x6b70e3e8, 0x9c1714d1, 0xb958e2a8, 0xab02675e, 0xed1c014f, 0xcd8d65bb,
        0xfdb7a257,
    ],
    [
        0x09254899, 0xd699c7bc, 0x9019b6dc, 0x2b9022e4, 0x8fa14956, 0x21bf9bd3, 0xb94d0943,
        0x6ffddc22,
    ],
];

/// The prime of the transform.
const PRIME: u32 = 257;

/// The powers of 41, a 256th root of unity modulo 257.
const ROOTS: [u32; 256] = powers_of_root();

/// Which eight pairs of the transform key which step, from the specification's permutation P.
const ORDER: [usize; 32] = [
    4, 6, 0, 2, 7, 5, 3, 1, 15, 11, 12, 8, 9, 13, 10, 14, 17, 18, 23, 20, 22, 21, 16, 19, 30, 24,
    25, 31, 27, 29, 28, 26,
];

/// The rotations of the four rounds.
const ROTATIONS: [[u32; 4]; 4] =
    [[3, 23, 17, 27], [28, 19, 22, 7], [29, 9, 15, 5], [4, 13, 10, 25]];

/// In step i, lane j is joined by lane `j ^ PARTNERS[i % 7]`.
const PARTNERS: [usize; 7] = [1, 6, 2, 3, 5, 7, 4];

/// SIMD-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut chain = START;
    let (blocks, rest) = message.as_chunks::<128>();
    for block in blocks {
        compress(&mut chain, block, false);
    }
    if !rest.is_empty() {
        let mut block = [0; 128];
        block[..rest.len()].copy_from_slice(rest);
        compress(&mut chain, &block, false);
    }
    let mut length = [0; 128];
    length[..8].copy_from_slice(&(8 * message.len() as u64).to_le_bytes());
    compress(&mut chain, &length, true);

    let mut digest = [0; 64];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(chain.as_flattened()) {
        *bytes = word.to_le_bytes();
    }
    digest
}

fn compress(chain: &mut State, block: &[u8; 128], last: bool) {
    let before = *chain;
    for (word, bytes) in chain.as_flattened_mut().iter_mut().zip(block.as_chunks().0) {
        *word ^= u32::from_le_bytes(*bytes);
    }
    let keys = expand(block, last);
    for (index, key) in keys.iter().enumerate() {
        let choose = if index % 8 < 4 { multiplex } else { majority };
        step(chain, index, &ROTATIONS[index / 8], key, choose);
    }
    for (i, key) in before.iter().enumerate() {
        step(chain, 32 + i, &ROTATIONS[3], key, multiplex);
    }
}

fn step(
    state: &mut State,
    index: usize,
    rotations: &[u32; 4],
    key: &[u32; 8],
    choose: fn(u32, u32, u32) -> u32,
) {
    let (first, second) = (rotations[index % 4], rotations[(index + 1) % 4]);
    let [a, b, c, d] = *state;
    let rotated = a.map(|word| word.rotate_left(first));
    let mixed = core::array::from_fn(|j| {
        d[j].wrapping_add(key[j])
            .wrapping_add(choose(a[j], b[j], c[j]))
            .rotate_left(second)
            .wrapping_add(rotated[j ^ PARTNERS[index % 7]])
    });
    *state = [mixed, rotated, b, c];
}

fn multiplex(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y) | ((x | y) & z)
}

/// The message as 32 keys of eight words: the transform, then pairs of its values, lifted to
/// -128..=128, times 185 or 233.
fn expand(block: &[u8; 128], last: bool) -> [[u32; 8]; 32] {
    let mut values = [0; 256];
    for (value, byte) in values.iter_mut().zip(block) {
        *value = u32::from(*byte);
    }
    values[255] = 1;
    values[253] = u32::from(last);
    let values = transform(values).map(lift);

    core::array::from_fn(|i| {
        let row = ORDER[i];
        core::array::from_fn(|j| {
            let (low, high, factor) = match row {
                0..16 => (16 * row + 2 * j, 16 * row + 2 * j + 1, 185),
                16..24 => (16 * (row - 16) + 2 * j, 16 * (row - 16) + 2 * j + 128, 233),
                _ => (16 * (row - 24) + 2 * j + 1, 16 * (row - 24) + 2 * j + 129, 233),
            };
            let [low, high] = [low, high].map(|index| (values[index] * factor) as u32);
            (low & 0xffff) | (high << 16)
        })
    })
}

/// The representative of least magnitude.
fn lift(value: u32) -> i32 {
    let value = value as i32;
    if value > 128 { value - PRIME as i32 } else { value }
}

/// y_i = the sum of x_j times 41^(ij), modulo 257: eight layers of butterflies.
fn transform(values: [u32; 256]) -> [u32; 256] {
    let mut result: [u32; 256] =
        core::array::from_fn(|i| values[usize::from((i as u8).reverse_bits())]);
    let mut half = 1;
    while half < 256 {
        for pair in result.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (i, (a, b)) in left.iter_mut().zip(right).enumerate() {
                let turned = *b * ROOTS[i * 128 / half] % PRIME;
                (*a, *b) = ((*a + turned) % PRIME, (*a + PRIME - turned) % PRIME);
            }
        }
        half *= 2;
    }
    result
}

const fn powers_of_root() -> [u32; 256] {
    let mut powers = [1; 256];
    let mut i = 1;
    while i < 256 {
        powers[i] = powers[i - 1] * 41 % PRIME;
        i += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_is_its_definition() {
        let values: [u32; 256] = core::array::from_fn(|j| (j * j + 7) as u32 % PRIME);
        let found = transform(values);
        for (i, found) in found.into_iter().enumerate() {
            let sum: u32 = values.iter().enumerate().map(|(j, x)| x * ROOTS[i * j % 256]).sum();
            assert_eq!(found, sum % PRIME, "value {i}");
        }
    }
}
