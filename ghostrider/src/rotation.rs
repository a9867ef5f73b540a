//! Which cores and which CryptoNights a header asks for: read from the nibbles of the previous
//! block's hash, so that all headers of one job agree.

use core::fmt;

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

/// Three different CryptoNights, in any order: what decides how long the hashes of a block take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantSet([Variant; 3]);

impl VariantSet {
    /// How many there are.
    pub const COUNT: usize = 20;

    /// All of them, by number, as XMRig's `--rotation` counts them too.
    pub fn all() -> impl Iterator<Item = Self> {
        let all = || Variant::ALL.into_iter();
        let pairs = all().flat_map(move |a| all().filter(move |b| a < *b).map(move |b| (a, b)));
        pairs.flat_map(move |(a, b)| all().filter(move |c| b < *c).map(move |c| Self([a, b, c])))
    }

    /// The three, ascending.
    #[must_use]
    pub const fn variants(self) -> [Variant; 3] {
        self.0
    }

    /// How often a block asks for these three: of the 16 values of a nibble, three name each of the
    /// first four CryptoNights and two each of the last two. Over all sets the sum is 1.
    #[must_use]
    pub fn probability(self) -> f64 {
        let of = |variant| if variant < Variant::Turtle { 3.0 / 16.0 } else { 2.0 / 16.0 };
        let [a, b, c] = self.0.map(of);
        let of_order = |[a, b, c]: [f64; 3]| a * b / (1.0 - a) * c / (1.0 - a - b);
        let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]];
        orders.into_iter().map(of_order).sum()
    }

    /// The hash of a previous block, as it stands in a header, that asks for these three.
    #[must_use]
    pub fn example(self) -> [u8; 32] {
        let [a, b, c] = self.0.map(|variant| variant as u8);
        let mut previous = [c | c << 4; 32];
        previous[0] = a | b << 4;
        previous
    }
}

/// As `dark dark-lite fast`.
impl fmt::Display for VariantSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, variant) in self.0.into_iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(variant.name().trim_start_matches("cn/"))?;
        }
        Ok(())
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
    fn sets_are_all_there_is() {
        let sets: Vec<VariantSet> = VariantSet::all().collect();
        assert_eq!(sets.len(), VariantSet::COUNT);
        let sum: f64 = sets.iter().map(|set| set.probability()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        // Without a turtle, with one, with both.
        for (set, probability) in [(0, 0.078), (2, 0.048), (9, 0.029)] {
            assert!((sets[set].probability() - probability).abs() < 5e-4, "{:?}", sets[set]);
        }
        assert_eq!(sets[19].to_string(), "lite turtle turtle-lite");
        for set in sets {
            let mut header = [0; 80];
            header[4..36].copy_from_slice(&set.example());
            assert_eq!(Rotation::of(&header).variants, set.variants());
        }
    }

    #[test]
    fn nibble_15_is_core_0_and_cryptonight_3() {
        assert_eq!(select::<15>(&[0xff; 32])[..2], [0, 1]);
        assert_eq!(select::<6>(&[0xff; 32])[..2], [3, 0]);
    }
}
