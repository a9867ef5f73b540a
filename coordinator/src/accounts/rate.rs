//! How often a key may call: a bucket that is full after a minute of silence.
//!
//! Pure arithmetic on one number, the moment at which the bucket will be full again. A limit that
//! changes (a miner's grows with its slots) keeps the debt.

use protocol::Timestamp;

const MINUTE_MICROS: i64 = 60_000_000;

/// What is left to one key.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    full_at: i64,
}

/// How a call stands to its key's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls per minute, and at once.
    pub limit: u32,
    /// Calls left now.
    pub remaining: u32,
    /// Seconds until all of them are left again.
    pub reset_secs: u64,
    /// Over the limit: seconds until the next call is let through.
    pub retry_after_secs: Option<u64>,
}

impl Bucket {
    /// A full bucket.
    pub const fn full() -> Self {
        Self { full_at: 0 }
    }

    /// Whether nothing is owed: such a bucket can be forgotten.
    pub const fn is_full(&self, now: Timestamp) -> bool {
        self.full_at <= now.micros()
    }

    /// Takes one call out, if there is one.
    pub fn take(&mut self, now: Timestamp, limit: u32) -> Rate {
        let now = now.micros();
        // A call costs a microsecond at least, however high the limit.
        let cost = (MINUTE_MICROS / i64::from(limit.max(1))).max(1);
        // A clock that was set back must not lock a key out for longer than an empty bucket does.
        let owed = (self.full_at - now).clamp(0, MINUTE_MICROS);
        let after = owed + cost;
        let over = after - MINUTE_MICROS;
        let owed = if over > 0 { owed } else { after };
        self.full_at = now + owed;
        Rate {
            limit,
            remaining: u32::try_from((MINUTE_MICROS - owed) / cost).unwrap_or(0),
            reset_secs: secs(owed),
            retry_after_secs: (over > 0).then(|| secs(over)),
        }
    }
}

/// Whole seconds, rounded up.
fn secs(micros: i64) -> u64 {
    u64::try_from((micros + 999_999) / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000_000).plus_secs(secs)
    }

    #[test]
    fn the_burst_is_the_limit_and_comes_back_with_time() {
        let mut bucket = Bucket::full();
        for left in (0..60).rev() {
            let rate = bucket.take(at(0), 60);
            assert_eq!((rate.remaining, rate.retry_after_secs), (left, None));
        }
        let over = bucket.take(at(0), 60);
        assert_eq!(
            over,
            Rate { limit: 60, remaining: 0, reset_secs: 60, retry_after_secs: Some(1) }
        );
        assert_eq!(bucket.take(at(1), 60).retry_after_secs, None);
        assert!(!bucket.is_full(at(60)));
        assert!(bucket.is_full(at(61)));
        assert_eq!(bucket.take(at(61), 60).remaining, 59);
    }

    #[test]
    fn a_limit_that_changes_keeps_the_debt() {
        let mut bucket = Bucket::full();
        for _ in 0..240 {
            bucket.take(at(0), 240);
        }
        assert!(bucket.take(at(0), 480).retry_after_secs.is_some());
        assert!(bucket.take(at(0), 240).retry_after_secs.is_some());
    }

    #[test]
    fn a_limit_beyond_the_clock_s_grain_is_as_good_as_none() {
        let mut bucket = Bucket::full();
        for limit in [60_000_001, u32::MAX] {
            assert_eq!(bucket.take(at(0), limit).retry_after_secs, None);
        }
    }

    #[test]
    fn a_clock_set_back_costs_a_minute_at_most() {
        let mut bucket = Bucket::full();
        bucket.take(at(3600), 60);
        assert_eq!(bucket.take(at(0), 60).retry_after_secs, Some(1));
        assert_eq!(bucket.take(at(1), 60).retry_after_secs, None);
    }
}
