//! The place of a job in the queue: what makes the shares of clients fair. Pure.

/// The most that one step of priority lets a job leave the queue earlier, in microseconds of rank. A
/// client that always says 9 pays for it with its own later jobs.
const PRIORITY_STEP: i64 = 60_000_000;

/// How many jobs like itself one step of priority lets a job overtake at most: however short it may
/// run, a bounded number.
const PRIORITY_JOBS: i64 = 16;

/// How much rank a second that a job may run costs, in microseconds.
const COST_PER_SEC: i64 = 1_000;

/// A client's share of the queue, of one kind of slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// How much larger it is than that of a client of weight 1.
    pub weight: i64,
    /// Where its last job stands, but for its priority.
    pub last_rank: i64,
    /// What jobs cost that were canceled before anybody had them, while others stood behind them.
    pub forgone: i64,
}

/// The place of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its place in the queue.
    pub rank: i64,
    /// The same, but for its priority.
    pub reserved: i64,
    /// What it took of its client's share.
    pub cost: i64,
}

impl Share {
    /// The place of the client's next job, where jobs of rank `served` are handed out now.
    ///
    /// One client's jobs follow each other at the pace of their cost. A client that comes later
    /// starts where the others are served, not where they end: neither behind what they queued
    /// before it came, nor in front of them for what they used while it was away.
    pub fn next(&mut self, served: i64, max_runtime_s: u32, priority: u8) -> Place {
        let cost = i64::from(max_runtime_s) * COST_PER_SEC / self.weight.max(1);
        let cost = cost.max(1);
        let step = PRIORITY_STEP.min(cost.saturating_mul(PRIORITY_JOBS));
        self.last_rank = self.last_rank.max(served).saturating_add(cost);
        // What was canceled before stays behind this job, which holds its place.
        self.forgone = 0;
        let reserved = self.last_rank;
        Place { rank: reserved - i64::from(priority) * step, reserved, cost }
    }

    /// A job that nobody had was canceled; `live`: the highest place that a live job of the client
    /// reserved, at least 0.
    ///
    /// What canceled jobs cost is given back as far as none of the client's jobs stands behind them,
    /// in whichever order they are canceled; what others cost never is.
    pub fn give_back(&mut self, cost: i64, live: i64) {
        let forgone = self.forgone.saturating_add(cost);
        let last_rank = self.last_rank.saturating_sub(forgone).max(live).min(self.last_rank);
        self.forgone = forgone - (self.last_rank - last_rank);
        self.last_rank = last_rank;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of_weight(weight: i64) -> Share {
        Share { weight, last_rank: 0, forgone: 0 }
    }

    /// An hour in which a client with 100,000 jobs and one that submits a job each minute share a
    /// fleet that starts `per_min` jobs a minute. Returns the longest time, in starts, that a job of
    /// the second waited, and how many of its jobs started.
    fn hour(per_min: usize) -> (usize, usize) {
        let share = of_weight(1);
        let (mut many, mut few) = (share, share);
        let mut served = 0;
        let mut queue: BTreeSet<(i64, usize, bool)> =
            (0..100_000).map(|n| (many.next(served, 3600, 0).rank, n, false)).collect();
        let (mut starts, mut longest, mut started) = (0, 0, 0);
        for _ in 0..60 {
            queue.insert((few.next(served, 3600, 0).rank, starts + 200_000, true));
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
            let mut share = of_weight(weight);
            let old = share.next(0, max_runtime_s, 0).rank;
            let urgent = |_: &i32| share.next(0, max_runtime_s, 9).rank < old;
            let overtakes = (0..100_000).filter(urgent).count();
            let bound = if max_runtime_s > 3_600 { 0 } else { 143 };
            assert_eq!(overtakes, bound, "{max_runtime_s} s, weight {weight}");
        }
    }

    #[test]
    fn nobody_pays_for_what_it_used_while_it_was_alone() {
        let mut many = of_weight(1);
        let served = (0..1_000).map(|_| many.next(0, 3600, 0).rank).max().unwrap();
        let mut late = of_weight(1);
        assert_eq!(late.next(served, 3600, 0), many.next(served, 3600, 0));
    }

    #[test]
    fn what_is_canceled_is_given_back_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut share = of_weight(1);
            let before = share.next(500, 1, 0);
            let burst = [1, 2, 3].map(|runtime| share.next(0, runtime, 9));
            let mut live = burst.to_vec();
            for n in order {
                live.retain(|place| *place != burst[n]);
                let last = live.iter().map(|place| place.reserved).fold(before.reserved, i64::max);
                share.give_back(burst[n].cost, last);
                assert!(share.last_rank >= last);
            }
            assert_eq!((share.last_rank, share.forgone), (before.reserved, 0), "{order:?}");
        }
    }

    #[test]
    fn what_was_canceled_before_another_job_came_stays_given_away() {
        let mut share = of_weight(1);
        let first = share.next(0, 1, 0);
        let second = share.next(0, 1, 0);
        share.give_back(first.cost, second.reserved);
        assert_eq!(share.last_rank, second.reserved);
        let third = share.next(0, 1, 0);
        share.give_back(third.cost, 0);
        assert_eq!(share.last_rank, second.reserved);
    }
}
