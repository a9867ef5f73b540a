//! How long a pool is left alone after a failure.

use std::time::Duration;

/// The pause after `failures` failures in a row: `first`, doubled with each one, at most `longest`;
/// of that, by `random`, between three quarters and all, so that a pool that comes back is not
/// called by all its miners at once.
pub fn pause(failures: u32, first: Duration, longest: Duration, random: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    let quarter = whole / 4;
    let share = u128::from(random) * quarter.as_nanos() / u128::from(u32::MAX);
    whole - quarter + Duration::from_nanos(u64::try_from(share).unwrap_or(0))
}

/// Numbers that spread pauses: nothing depends on nobody guessing them.
#[derive(Debug)]
pub struct Spread(u64);

impl Spread {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next(&mut self) -> u32 {
        // Knuth's MMIX; its upper half is good enough for pauses.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let most = |failures| pause(failures, SECOND, 60 * SECOND, u32::MAX);
        let pauses: Vec<_> = (1..9).map(|failures| most(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(most(u32::MAX), 60 * SECOND);
        assert_eq!(most(0), SECOND);
    }

    #[test]
    fn pauses_are_spread_over_their_last_quarter() {
        let mut spread = Spread::new(7);
        let pauses: Vec<_> =
            (0..100).map(|_| pause(3, SECOND, 60 * SECOND, spread.next())).collect();
        assert!(pauses.iter().all(|pause| (3 * SECOND..=4 * SECOND).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < SECOND * 13 / 4));
        assert!(pauses.iter().any(|pause| *pause > SECOND * 15 / 4));
    }
}
