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
const PRIME: i32 = 257;

/// The powers of 41, a 256th root of unity modulo 257, as the layers take them: the layer that joins
/// halves of `n` has its `n` factors from index `n`.
const FACTORS: [i32; 256] = factors();

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
    round::<0>(chain, &keys[0..8]);
    round::<1>(chain, &keys[8..16]);
    round::<2>(chain, &keys[16..24]);
    round::<3>(chain, &keys[24..32]);
    step::<3>(chain, 32, &before[0], multiplex);
    step::<3>(chain, 33, &before[1], multiplex);
    step::<3>(chain, 34, &before[2], multiplex);
    step::<3>(chain, 35, &before[3], multiplex);
}

fn round<const ROUND: usize>(state: &mut State, keys: &[[u32; 8]]) {
    step::<ROUND>(state, 8 * ROUND, &keys[0], multiplex);
    step::<ROUND>(state, 8 * ROUND + 1, &keys[1], multiplex);
    step::<ROUND>(state, 8 * ROUND + 2, &keys[2], multiplex);
    step::<ROUND>(state, 8 * ROUND + 3, &keys[3], multiplex);
    step::<ROUND>(state, 8 * ROUND + 4, &keys[4], majority);
    step::<ROUND>(state, 8 * ROUND + 5, &keys[5], majority);
    step::<ROUND>(state, 8 * ROUND + 6, &keys[6], majority);
    step::<ROUND>(state, 8 * ROUND + 7, &keys[7], majority);
}

/// Always inlined: with its index known, the rotations are constants and the partners a shuffle.
#[inline(always)]
fn step<const ROUND: usize>(
    state: &mut State,
    index: usize,
    key: &[u32; 8],
    choose: impl Fn(u32, u32, u32) -> u32,
) {
    let rotations = ROTATIONS[ROUND];
    let (first, second) = (rotations[index % 4], rotations[(index + 1) % 4]);
    let [a, b, c, d] = *state;
    let mut rotated = [0; 8];
    for j in 0..8 {
        rotated[j] = a[j].rotate_left(first);
    }
    let mut mixed = [0; 8];
    for j in 0..8 {
        let sum = d[j].wrapping_add(key[j]).wrapping_add(choose(a[j], b[j], c[j]));
        let partner = rotated[j ^ PARTNERS[index % 7]];
        mixed[j] = sum.rotate_left(second).wrapping_add(partner);
    }
    *state = [mixed, rotated, b, c];
}

#[inline(always)]
fn multiplex(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

#[inline(always)]
fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y) | ((x | y) & z)
}

/// The message as 32 keys of eight words: the transform, then pairs of its values, lifted to
/// -128..=128, times 185 or 233.
fn expand(block: &[u8; 128], last: bool) -> [[u32; 8]; 32] {
    let mut values = [0; 256];
    for (value, byte) in values.iter_mut().zip(block) {
        *value = i32::from(*byte);
    }
    values[255] = 1;
    values[253] = i32::from(last);
    let values = transform(values).map(lift);

    let (mut near, mut even, mut odd) = ([0; 128], [0; 64], [0; 64]);
    for i in 0..128 {
        near[i] = pair(values[2 * i], values[2 * i + 1], 185);
    }
    for i in 0..64 {
        even[i] = pair(values[2 * i], values[2 * i + 128], 233);
        odd[i] = pair(values[2 * i + 1], values[2 * i + 129], 233);
    }
    let (near, even, odd) = (near.as_chunks().0, even.as_chunks().0, odd.as_chunks().0);
    ORDER.map(|row| match row {
        0..16 => near[row],
        16..24 => even[row - 16],
        _ => odd[row - 24],
    })
}

/// The inner code: two values in one word.
fn pair(low: i32, high: i32, factor: i32) -> u32 {
    ((low * factor) as u32 & 0xffff) | ((high * factor) as u32) << 16
}

/// The representative of least magnitude, -128 to 128, of what is within 2^17.
fn lift(value: i32) -> i32 {
    let value = reduce(reduce(value));
    if value > 128 { value - PRIME } else { value }
}

/// Something congruent and smaller: 256 is -1.
fn reduce(value: i32) -> i32 {
    (value & 255) - (value >> 8)
}

/// y_i = the sum of x_j times 41^(ij), modulo 257 but not reduced: eight layers of butterflies. What
/// is at most `b` before a layer is at most `2b + 255` after it, so nothing overflows.
fn transform(values: [i32; 256]) -> [i32; 256] {
    let mut result: [i32; 256] =
        core::array::from_fn(|i| values[usize::from((i as u8).reverse_bits())]);
    layer::<1>(&mut result);
    layer::<2>(&mut result);
    layer::<4>(&mut result);
    layer::<8>(&mut result);
    layer::<16>(&mut result);
    layer::<32>(&mut result);
    layer::<64>(&mut result);
    layer::<128>(&mut result);
    result
}

/// Joins halves of `HALF` values: a constant, so that the compiler finds vectors.
fn layer<const HALF: usize>(values: &mut [i32; 256]) {
    let factors = &FACTORS[HALF..2 * HALF];
    for pair in values.chunks_exact_mut(2 * HALF) {
        let (left, right) = pair.split_at_mut(HALF);
        for i in 0..HALF {
            let turned = reduce(right[i] * factors[i]);
            (left[i], right[i]) = (left[i] + turned, left[i] - turned);
        }
    }
}

const fn factors() -> [i32; 256] {
    let mut factors = [0; 256];
    let mut half = 1;
    while half < 256 {
        let (mut i, mut power, mut exponent) = (0, 1, 0);
        while i < half {
            factors[half + i] = power;
            i += 1;
            // A half of n takes every (128/n)th power.
            while exponent < i * (128 / half) {
                power = power * 41 % PRIME;
                exponent += 1;
            }
        }
        half *= 2;
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_is_its_definition() {
        let values: [i32; 256] = core::array::from_fn(|j| (j * j + 7) as i32 % PRIME);
        let mut powers = [1; 256];
        for i in 1..256 {
            powers[i] = powers[i - 1] * 41 % PRIME;
        }
        for (i, found) in transform(values).into_iter().enumerate() {
            let sum: i32 = values.iter().enumerate().map(|(j, x)| x * powers[i * j % 256]).sum();
            assert_eq!(found.rem_euclid(PRIME), sum % PRIME, "value {i}");
            assert_eq!(lift(found).rem_euclid(PRIME), sum % PRIME, "value {i}");
            assert!((-128..=128).contains(&lift(found)), "value {i}");
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        for found in transform([255; 256]) {
            assert!(found.abs() < 1 << 17);
        }
    }
}
