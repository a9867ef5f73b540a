//! Which cores and which CryptoNights a header asks for: read from the nibbles of the previous
//! block's hash, so that all headers of one job agree.

use crate::cores::Core;
use crate::cryptonight::Variant;

/// The order of work for one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// All fifteen cores; five before each CryptoNight.
    pub cores: [Core; 15],
    /// The three CryptoNights.
    pub variants: [Variant; 3],
}

impl Rotation {
    /// The order for a header: only bytes 4 to 35, the hash of the previous block, count.
    #[must_use]
    pub fn of(header: &crate::Header) -> Self {
        let seed = &header[4..36];
        let cores: [usize; 15] = select(seed);
        let variants: [usize; 6] = select(seed);
        Self {
            cores: cores.map(|index| Core::ALL[index]),
            variants: [0, 1, 2].map(|i| Variant::ALL[variants[i]]),
        }
    }
}

/// The numbers below `N`, in the order in which the nibbles (the low one of each byte first), modulo
/// `N`, first name them; those that no nibble names come last, ascending.
fn select<const N: usize>(seed: &[u8]) -> [usize; N] {
    let nibbles = seed.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let named = nibbles.map(|nibble| usize::from(nibble) % N);
    let mut order = [0; N];
    let mut seen = [false; N];
    let mut count = 0;
    for index in named.chain(0..N) {
        if !seen[index] {
            seen[index] = true;
            order[count] = index;
            count += 1;
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_numbers_come_last_and_ascending() {
        assert_eq!(select::<6>(&[0; 32]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(select::<6>(&[0x53; 32]), [3, 5, 0, 1, 2, 4]);
    }

    #[test]
    fn nibble_15_is_core_0_and_cryptonight_3() {
        assert_eq!(select::<15>(&[0xff; 32])[..2], [0, 1]);
        assert_eq!(select::<6>(&[0xff; 32])[..2], [3, 0]);
    }
}
