//! The place of a job in the queue: what makes the shares of clients fair. Pure.

/// The most that one step of priority lets a job leave the queue earlier, in microseconds of rank. A
/// client that always says 9 pays for it with its own later jobs.
const PRIORITY_STEP: i64 = 60_000_000;

/// How many jobs like itself one step of priority lets a job overtake at most: however short it may
/// run, a bounded number.
const PRIORITY_JOBS: i64 = 16;

/// How much rank a second that a job may run costs, in microseconds.
const COST_PER_SEC: i64 = 1_000;

/// A client's share of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// How much larger it is than that of a client of weight 1.
    pub weight: i64,
    /// Where its last job stands.
    pub last_rank: i64,
}

impl Share {
    /// The place of the client's next job, where jobs of rank `served` are handed out now.
    ///
    /// One client's jobs follow each other at the pace of their cost. A client that comes later
    /// starts where the others are served, not where they end: neither behind what they queued
    /// before it came, nor in front of them for what they used while it was away.
    pub fn next(&mut self, served: i64, max_runtime_s: u32, priority: u8) -> i64 {
        let cost = i64::from(max_runtime_s) * COST_PER_SEC / self.weight.max(1);
        let cost = cost.max(1);
        let step = PRIORITY_STEP.min(cost.saturating_mul(PRIORITY_JOBS));
        self.last_rank = self.last_rank.max(served).saturating_add(cost);
        self.last_rank - i64::from(priority) * step
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An hour in which a client with 100,000 jobs and one that submits a job each minute share a
    /// fleet that starts `per_min` jobs a minute. Returns the longest time, in starts, that a job of
    /// the second waited, and how many of its jobs started.
    fn hour(per_min: usize) -> (usize, usize) {
        let share = Share { weight: 1, last_rank: 0 };
        let (mut many, mut few) = (share, share);
        let mut served = 0;
        let mut queue: BTreeSet<(i64, usize, bool)> =
            (0..100_000).map(|n| (many.next(served, 3600, 0), n, false)).collect();
        let (mut starts, mut longest, mut started) = (0, 0, 0);
        for _ in 0..60 {
            queue.insert((few.next(served, 3600, 0), starts + 200_000, true));
            for _ in 0..per_min {
                let (rank, n, is_few) = queue.pop_first().unwrap();
                served = served.max(rank);
                if is_few {
                    longest = longest.max(starts - (n - 200_000));
                    started += 1;
                }
                starts += 1;
            }
        }
        (longest, started)
    }

    #[test]
    fn whoever_asks_for_less_than_a_share_is_served_at_once_by_slow_and_fast_fleets() {
        for per_min in [4, 60, 1_000] {
            let (longest, started) = hour(per_min);
            assert!(longest <= 2, "{per_min} a minute: waited for {longest}");
            assert_eq!(started, 60, "{per_min} a minute");
        }
    }

    #[test]
    fn priority_overtakes_a_bounded_number_of_jobs() {
        for (max_runtime_s, weight) in [(1, 1), (1, 1_000), (60, 1), (3_600, 1), (604_800, 1)] {
            let mut share = Share { weight, last_rank: 0 };
            let old = share.next(0, max_runtime_s, 0);
            let urgent = |_: &i32| share.next(0, max_runtime_s, 9) < old;
            let overtakes = (0..100_000).filter(urgent).count();
            let bound = if max_runtime_s > 3_600 { 0 } else { 143 };
            assert_eq!(overtakes, bound, "{max_runtime_s} s, weight {weight}");
        }
    }

    #[test]
    fn nobody_pays_for_what_it_used_while_it_was_alone() {
        let mut many = Share { weight: 1, last_rank: 0 };
        let served = (0..1_000).map(|_| many.next(0, 3600, 0)).max().unwrap();
        let mut late = Share { weight: 1, last_rank: 0 };
        assert_eq!(late.next(served, 3600, 0), many.next(served, 3600, 0));
    }
}
