//! What a hash must stay below.

/// The bound of a share: the last eight bytes of its hash, as a little-endian number, are below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(u64);

impl Target {
    /// The bound itself.
    pub const fn new(bound: u64) -> Self {
        Self(bound)
    }

    /// The bound for which `difficulty` hashes are needed on average; 0 counts as 1.
    pub const fn of_difficulty(difficulty: u64) -> Self {
        Self(u64::MAX / if difficulty == 0 { 1 } else { difficulty })
    }

    /// The bound as Monero-style pools write it: 8 hexadecimal digits of a little-endian number,
    /// which is the upper half rounded down the way that pools round it, or 16 digits of all.
    /// `None` for anything else, and for a bound of 0, below which nothing is.
    ///
    /// Source: XMRig's `Job::setTarget` by behaviour; p2pool rounds the same way.
    pub fn from_pool(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        let bound = match *bytes.as_slice() {
            [a, b, c, d] => {
                let upper = u32::from_le_bytes([a, b, c, d]);
                u64::MAX / (u64::from(u32::MAX / if upper == 0 { return None } else { upper }))
            }
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => return None,
        };
        (bound > 0).then_some(Self(bound))
    }

    /// Whether `hash` is a share.
    pub fn is_met_by(self, hash: &[u8; 32]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = *hash;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) < self.0
    }

    /// How many hashes a share takes on average.
    pub fn difficulty(self) -> u64 {
        u64::MAX.checked_div(self.0).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_write_half_of_it_or_all() {
        // b88d0600 is difficulty 10,000 in XMRig's documentation of the protocol.
        assert_eq!(Target::from_pool("b88d0600").unwrap().difficulty(), 10_000);
        assert_eq!(Target::from_pool("ffffffff").unwrap().difficulty(), 1);
        assert_eq!(Target::from_pool("0100000000000000"), Some(Target::new(1)));
        for wrong in ["", "00000000", "0000000000000000", "b88d06", "zz8d0600", "b88d060000"] {
            assert_eq!(Target::from_pool(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_below_counts() {
        let mut hash = [0xff; 32];
        hash[24..].copy_from_slice(&5_u64.to_le_bytes());
        assert!(Target::new(6).is_met_by(&hash));
        assert!(!Target::new(5).is_met_by(&hash));
        assert!(Target::of_difficulty(0).is_met_by(&hash));
    }
}
