//! BLAKE-512 and BLAKE-256 as of the SHA-3 final: a core, and one of CryptoNight's last hashes.
//! Written here because the crate that has both gives other results without the standard library.
//! Source: Aumasson, Henzen, Meier, Phan, "SHA-3 proposal BLAKE", version 1.4, 2011.

/// The digits of pi: BLAKE-512's constants; BLAKE-256's are the halves of the first eight.
const PI: [u64; 16] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
    0xd131_0ba6_98df_b5ac,
    0x2ffd_72db_d01a_dfb7,
    0xb8e1_afed_6a26_7e96,
    0xba7c_9045_f12c_7f99,
    0x24a1_9947_b391_6cf7,
    0x0801_f2e2_858e_fc16,
    0x6369_20d8_7157_4e69,
];

/// The order of message words and constants; after ten rounds it starts again.
const ORDER: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// The function G on four words of the state. A macro, as the two sizes are: with its indices known,
/// the state stays in registers.
macro_rules! mix {
    (
        $state:ident, $message:ident, $constants:ident, $order:ident, $rotations:expr, $group:expr,
        [$a:expr, $b:expr, $c:expr, $d:expr]
    ) => {
        let (x, y) = ($order[2 * $group], $order[2 * $group + 1]);
        let keys = [$message[x] ^ $constants[y], $message[y] ^ $constants[x]];
        for (half, key) in keys.into_iter().enumerate() {
            $state[$a] = $state[$a].wrapping_add($state[$b]).wrapping_add(key);
            $state[$d] = ($state[$d] ^ $state[$a]).rotate_right($rotations[2 * half]);
            $state[$c] = $state[$c].wrapping_add($state[$d]);
            $state[$b] = ($state[$b] ^ $state[$c]).rotate_right($rotations[2 * half + 1]);
        }
    };
}

/// The two sizes differ in their words and in these numbers.
macro_rules! blake {
    (
        $(#[$doc:meta])* $hash:ident, $compress:ident, $word:ty, $length:ty, $rounds:expr,
        $rotations:expr, $start:expr, $constant:expr
    ) => {
        $(#[$doc])*
        pub(crate) fn $hash(message: &[u8]) -> [u8; 8 * size_of::<$word>()] {
            const BLOCK: usize = 16 * size_of::<$word>();
            const TAIL: usize = size_of::<$length>();
            let bits = 8 * message.len() as $length;
            let mut chain: [$word; 8] = $start;
            let (blocks, rest) = message.as_chunks::<BLOCK>();
            for (index, block) in blocks.iter().enumerate() {
                $compress(&mut chain, block, 8 * (BLOCK * (index + 1)) as $length);
            }
            let mut last = [0; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            last[rest.len()] = 0x80;
            // A block without a bit of the message has the counter 0.
            let mut counter = if rest.is_empty() { 0 } else { bits };
            if rest.len() >= BLOCK - TAIL {
                $compress(&mut chain, &last, counter);
                last = [0; BLOCK];
                counter = 0;
            }
            last[BLOCK - TAIL - 1] |= 1;
            last[BLOCK - TAIL..].copy_from_slice(&bits.to_be_bytes());
            $compress(&mut chain, &last, counter);

            let mut digest = [0; 8 * size_of::<$word>()];
            for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(chain) {
                *bytes = word.to_be_bytes();
            }
            digest
        }

        fn $compress(chain: &mut [$word; 8], block: &[u8; 16 * size_of::<$word>()], counter: $length) {
            const CONSTANTS: [$word; 16] = {
                let mut constants = [0; 16];
                let mut i = 0;
                while i < 16 {
                    constants[i] = $constant(i);
                    i += 1;
                }
                constants
            };
            let mut message: [$word; 16] = [0; 16];
            for (word, bytes) in message.iter_mut().zip(block.as_chunks().0) {
                *word = <$word>::from_be_bytes(*bytes);
            }
            let mut state = [0; 16];
            state[..8].copy_from_slice(chain);
            state[8..].copy_from_slice(&CONSTANTS[..8]);
            let (low, high) = (counter as $word, (counter >> <$word>::BITS) as $word);
            for (word, count) in state[12..].iter_mut().zip([low, low, high, high]) {
                *word ^= count;
            }
            for round in 0..$rounds {
                let order = &ORDER[round % 10];
                mix!(state, message, CONSTANTS, order, $rotations, 0, [0, 4, 8, 12]);
                mix!(state, message, CONSTANTS, order, $rotations, 1, [1, 5, 9, 13]);
                mix!(state, message, CONSTANTS, order, $rotations, 2, [2, 6, 10, 14]);
                mix!(state, message, CONSTANTS, order, $rotations, 3, [3, 7, 11, 15]);
                mix!(state, message, CONSTANTS, order, $rotations, 4, [0, 5, 10, 15]);
                mix!(state, message, CONSTANTS, order, $rotations, 5, [1, 6, 11, 12]);
                mix!(state, message, CONSTANTS, order, $rotations, 6, [2, 7, 8, 13]);
                mix!(state, message, CONSTANTS, order, $rotations, 7, [3, 4, 9, 14]);
            }
            for i in 0..8 {
                chain[i] ^= state[i] ^ state[i + 8];
            }
        }
    };
}

const fn constant_512(i: usize) -> u64 {
    PI[i]
}

const fn constant_256(i: usize) -> u32 {
    (PI[i / 2] >> (32 * ((i + 1) % 2))) as u32
}

blake!(
    /// BLAKE-512 of the message.
    hash_512, compress_512, u64, u128, 16, [32, 25, 16, 11],
    [
        0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1,
        0x510e_527f_ade6_82d1, 0x9b05_688c_2b3e_6c1f, 0x1f83_d9ab_fb41_bd6b, 0x5be0_cd19_137e_2179,
    ],
    constant_512
);

blake!(
    /// BLAKE-256 of the message.
    hash_256, compress_256, u32, u64, 14, [16, 12, 8, 7],
    [
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
        0x5be0cd19,
    ],
    constant_256
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sizes_hash_the_specifications_examples() {
        // Section 2.1.8 and 2.2.8: one zero byte.
        assert_eq!(
            hex::encode(hash_256(&[0])),
            "0ce8d4ef4dd7cd8d62dfded9d4edb0a774ae6a41929a74da23109e8f11139c87"
        );
        assert_eq!(hex::encode(&hash_512(&[0])[..16]), "97961587f6d970faba6d2478045de6d1");
    }
}
