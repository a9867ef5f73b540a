//! One AES round and the AES-256 key expansion, as plain table look-ups: what SHAvite-3, ECHO and
//! CryptoNight build on. The hardware instructions are in `cryptonight/x86`.
//!
//! Not for secrets: the look-ups take a time that depends on the data.
//! Source: FIPS 197, <https://doi.org/10.6028/NIST.FIPS.197-upd1>.

/// 16 bytes as four little-endian words: AES's columns.
pub(crate) type Columns = [u32; 4];

/// The S-box: the inverse in GF(2^8), then the affine map of FIPS 197, section 5.1.1.
pub(crate) const SBOX: [u8; 256] = sbox();

/// For each byte, its column of MixColumns after SubBytes: `2s, s, s, 3s`.
const TABLE: [u32; 256] = mix_columns_table();

/// Multiplies by x in GF(2^8), modulo x^8 + x^4 + x^3 + x + 1.
pub(crate) const fn double(byte: u8) -> u8 {
    (byte << 1) ^ ((byte >> 7) * 0x1b)
}

const fn sbox() -> [u8; 256] {
    let mut table = [0; 256];
    // `power` walks the powers of the generator 3, `inverse` those of its inverse 0xf6.
    let (mut power, mut inverse) = (1u8, 1u8);
    loop {
        table[power as usize] = affine(inverse);
        power ^= double(power);
        inverse = divide_by_three(inverse);
        if power == 1 {
            break;
        }
    }
    table[0] = affine(0);
    table
}

const fn affine(byte: u8) -> u8 {
    byte ^ byte.rotate_left(1)
        ^ byte.rotate_left(2)
        ^ byte.rotate_left(3)
        ^ byte.rotate_left(4)
        ^ 0x63
}

/// Dividing by 3 is a multiplication by 0xf6, the sum of these powers of x.
const fn divide_by_three(byte: u8) -> u8 {
    let two = double(byte);
    let four = double(two);
    let sixteen = double(double(four));
    let thirty_two = double(sixteen);
    let sixty_four = double(thirty_two);
    two ^ four ^ sixteen ^ thirty_two ^ sixty_four ^ double(sixty_four)
}

const fn mix_columns_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let s = SBOX[byte];
        table[byte] = u32::from_le_bytes([double(s), s, s, double(s) ^ s]);
        byte += 1;
    }
    table
}

/// ShiftRows, SubBytes, MixColumns, AddRoundKey: what the instruction `aesenc` does.
#[inline]
pub(crate) fn round(state: Columns, key: Columns) -> Columns {
    let column = |i: usize| {
        let byte = |row: usize| (state[(i + row) % 4] >> (8 * row)) as u8 as usize;
        TABLE[byte(0)]
            ^ TABLE[byte(1)].rotate_left(8)
            ^ TABLE[byte(2)].rotate_left(16)
            ^ TABLE[byte(3)].rotate_left(24)
            ^ key[i]
    };
    [column(0), column(1), column(2), column(3)]
}

/// The first ten round keys of AES-256 (CryptoNight leaves out the other five).
pub(crate) fn expand_key(key: &[u8; 32]) -> [Columns; 10] {
    let mut words = [0u32; 40];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mut constant = 1u8;
    for i in 8..40 {
        let mut word = words[i - 1];
        if i % 8 == 0 {
            word = substitute(word.rotate_right(8)) ^ u32::from(constant);
            constant = double(constant);
        } else if i % 8 == 4 {
            word = substitute(word);
        }
        words[i] = words[i - 8] ^ word;
    }
    core::array::from_fn(|i| core::array::from_fn(|j| words[4 * i + j]))
}

fn substitute(word: u32) -> u32 {
    u32::from_le_bytes(word.to_le_bytes().map(|byte| SBOX[usize::from(byte)]))
}

/// The columns of 16 bytes.
#[inline]
pub(crate) fn columns(bytes: &[u8; 16]) -> Columns {
    let mut columns = [0; 4];
    for (column, bytes) in columns.iter_mut().zip(bytes.as_chunks().0) {
        *column = u32::from_le_bytes(*bytes);
    }
    columns
}

/// The 16 bytes of the columns.
#[inline]
pub(crate) fn bytes(columns: Columns) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (bytes, column) in bytes.as_chunks_mut().0.iter_mut().zip(columns) {
        *bytes = column.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_box_is_that_of_fips_197() {
        assert_eq!(SBOX[..4], [0x63, 0x7c, 0x77, 0x7b]);
        assert_eq!((SBOX[0x53], SBOX[0xff]), (0xed, 0x16));
        let mut sorted = SBOX;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i));
    }

    #[test]
    fn round_is_that_of_fips_197() {
        // Appendix B, round 1: from "start of round 1" to "start of round 2".
        let hex = |text: &str| <[u8; 16]>::try_from(hex::decode(text).expect("hex")).expect("16");
        let start = columns(&hex("193de3bea0f4e22b9ac68d2ae9f84808"));
        let key = columns(&hex("a0fafe1788542cb123a339392a6c7605"));
        assert_eq!(bytes(round(start, key)), hex("a49c7ff2689f352b6b5bea43026a5049"));
    }

    #[test]
    fn key_expansion_is_that_of_fips_197() {
        // Appendix A.3.
        let key = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let keys = expand_key(&key.expect("hex").try_into().expect("32 bytes"));
        assert_eq!(hex::encode(bytes(keys[2])), "9ba354118e6925afa51a8b5f2067fcde");
        assert_eq!(hex::encode(bytes(keys[9])), "c814e20476a9fb8a5025c02d59c58239");
    }
}
