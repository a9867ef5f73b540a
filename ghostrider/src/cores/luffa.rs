//! Luffa-512, version 2: five 256-bit permutations side by side.
//! Source: De Canniere, Sato, Watanabe, "Hash Function Luffa: Specification", version 2.0.1, 2009.

use super::Digest;

type Lane = [u32; 8];

/// The starting value of the five lanes.
const START: [Lane; 5] = [
    [
        0x6d251e69, 0x44b051e0, 0x4eaa6fb4, 0xdbf78465, 0x6e292011, 0x90152df4, 0xee058139,
        0xdef610bb,
    ],
    [
        0xc3b44b95, 0xd9d2f256, 0x70eee9a0, 0xde099fa3, 0x5d9b0557, 0x8fc944b3, 0xcf1ccf0e,
        0x746cd581,
    ],
    [
        0xf7efc89d, 0x5dba5781, 0x04016ce5, 0xad659c05, 0x0306194f, 0x666d1836, 0x24aa230a,
        0x8b264ae7,
    ],
    [
        0x858075d5, 0x36d79cce, 0xe571f7d7, 0x204b1f67, 0x35870c6a, 0x57e9e923, 0x14bcb808,
        0x7cde72ce,
    ],
    [
        0x6c68e9be, 0x5ec41e22, 0xc825b7c7, 0xaffb4363, 0xf5df3999, 0x0fc688f1, 0xb07224cc,
        0x03e86cea,
    ],
];

/// Per lane and step, what is added to words 0 and 4.
const CONSTANTS: [[[u32; 2]; 8]; 5] = [
    [
        [0x303994a6, 0xe0337818],
        [0xc0e65299, 0x441ba90d],
        [0x6cc33a12, 0x7f34d442],
        [0xdc56983e, 0x9389217f],
        [0x1e00108f, 0xe5a8bce6],
        [0x7800423d, 0x5274baf4],
        [0x8f5b7882, 0x26889ba7],
        [0x96e1db12, 0x9a226e9d],
    ],
    [
        [0xb6de10ed, 0x01685f3d],
        [0x70f47aae, 0x05a17cf4],
        [0x0707a3d4, 0xbd09caca],
        [0x1c1e8f51, 0xf4272b28],
        [0x707a3d45, 0x144ae5cc],
        [0xaeb28562, 0xfaa7ae2b],
        [0xbaca1589, 0x2e48f1c1],
        [0x40a46f3e, 0xb923c704],
    ],
    [
        [0xfc20d9d2, 0xe25e72c1],
        [0x34552e25, 0xe623bb72],
        [0x7ad8818f, 0x5c58a4a4],
        [0x8438764a, 0x1e38e2e7],
        [0xbb6de032, 0x78e38b9d],
        [0xedb780c8, 0x27586719],
        [0xd9847356, 0x36eda57f],
        [0xa2c78434, 0x703aace7],
    ],
    [
        [0xb213afa5, 0xe028c9bf],
        [0xc84ebe95, 0x44756f91],
        [0x4e608a22, 0x7e8fce32],
        [0x56d858fe, 0x956548be],
        [0x343b138f, 0xfe191be2],
        [0xd0ec4e3d, 0x3cb226e5],
        [0x2ceb4882, 0x5944a28e],
        [0xb3ad2208, 0xa1c4c355],
    ],
    [
        [0xf0d2e9e3, 0x5090d577],
        [0xac11d7fa, 0x2d1925ab],
        [0x1bcb66f2, 0xb46496ac],
        [0x6f2d9bc9, 0xd1925ab0],
        [0x78602649, 0x29131ab6],
        [0x8edae952, 0x0fc053c3],
        [0x3b6ba548, 0x3f014f0c],
        [0xedae9520, 0xfc053c31],
    ],
];

/// Luffa-512 of the message.
pub(super) fn hash(message: &[u8]) -> Digest {
    let mut lanes = START;
    let (blocks, rest) = message.as_chunks::<32>();
    for block in blocks {
        absorb(&mut lanes, block);
    }
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    absorb(&mut lanes, &last);

    let mut digest = [0; 64];
    for half in digest.as_chunks_mut::<32>().0 {
        absorb(&mut lanes, &[0; 32]);
        let sum = lanes.into_iter().reduce(xor).unwrap_or_default();
        for (bytes, word) in half.as_chunks_mut().0.iter_mut().zip(sum) {
            *bytes = word.to_be_bytes();
        }
    }
    digest
}

fn absorb(lanes: &mut [Lane; 5], block: &[u8; 32]) {
    inject(lanes, block);
    for (index, (lane, constants)) in lanes.iter_mut().zip(&CONSTANTS).enumerate() {
        for word in &mut lane[4..] {
            *word = word.rotate_left(index as u32);
        }
        for constants in constants {
            step(lane, *constants);
        }
    }
}

/// The message injection MI for five lanes (section 4.2): a sum into all, a ring forwards, a ring
/// backwards, then the message times 1, x, x^2 ...
fn inject(lanes: &mut [Lane; 5], block: &[u8; 32]) {
    let sum = double(lanes.iter().copied().reduce(xor).unwrap_or_default());
    let summed = lanes.map(|lane| xor(lane, sum));
    let forwards: [Lane; 5] = core::array::from_fn(|i| xor(double(summed[i]), summed[(i + 1) % 5]));
    let backwards: [Lane; 5] =
        core::array::from_fn(|i| xor(double(forwards[i]), forwards[(i + 4) % 5]));

    let mut message = Lane::default();
    for (word, bytes) in message.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for (lane, mixed) in lanes.iter_mut().zip(backwards) {
        *lane = xor(mixed, message);
        message = double(message);
    }
}

fn xor(a: Lane, b: Lane) -> Lane {
    core::array::from_fn(|i| a[i] ^ b[i])
}

/// Multiplies by x in GF(2^8)^32, modulo x^8 + x^4 + x^3 + x + 1: word i holds the bits of x^i.
fn double(a: Lane) -> Lane {
    [a[7], a[0] ^ a[7], a[1], a[2] ^ a[7], a[3] ^ a[7], a[4], a[5], a[6]]
}

fn step(lane: &mut Lane, constants: [u32; 2]) {
    let [a0, a1, a2, a3, a4, a5, a6, a7] = *lane;
    let low = sub_crumb([a0, a1, a2, a3]);
    // The upper words enter in another order.
    let [b5, b6, b7, b4] = sub_crumb([a5, a6, a7, a4]);
    let high = [b4, b5, b6, b7];
    for i in 0..4 {
        (lane[i], lane[i + 4]) = mix_word(low[i], high[i]);
    }
    lane[0] ^= constants[0];
    lane[4] ^= constants[1];
}

/// The 4-bit S-box `d e 0 1 5 a 7 6 b 3 9 c f 8 2 4` on 32 columns at once, by the specification's
/// sequence of instructions.
fn sub_crumb([mut r0, mut r1, mut r2, mut r3]: [u32; 4]) -> [u32; 4] {
    let mut r4 = r0;
    r0 |= r1;
    r2 ^= r3;
    r1 = !r1;
    r0 ^= r3;
    r3 &= r4;
    r1 ^= r3;
    r3 ^= r2;
    r2 &= r0;
    r0 = !r0;
    r2 ^= r1;
    r1 |= r3;
    r4 ^= r1;
    r3 ^= r2;
    r2 &= r1;
    r1 ^= r0;
    [r4, r1, r2, r3]
}

fn mix_word(mut a: u32, mut b: u32) -> (u32, u32) {
    b ^= a;
    a = a.rotate_left(2) ^ b;
    b = b.rotate_left(14) ^ a;
    a = a.rotate_left(10) ^ b;
    (a, b.rotate_left(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_crumb_is_its_table() {
        let table = [13, 14, 0, 1, 5, 10, 7, 6, 11, 3, 9, 12, 15, 8, 2, 4];
        for (input, output) in table.into_iter().enumerate() {
            let bits = core::array::from_fn(|i| (input as u32 >> i) & 1);
            let found = sub_crumb(bits).map(|word| word & 1);
            let expected = core::array::from_fn(|i| (output >> i) & 1);
            assert_eq!(found, expected, "input {input}");
        }
    }
}
