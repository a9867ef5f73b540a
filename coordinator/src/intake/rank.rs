//! The place of a job in the queue: what makes the shares of clients fair. Pure.

use protocol::Timestamp;

/// How much earlier one step of priority lets a job leave the queue, in microseconds of rank: a job
/// of priority 9 overtakes what was submitted up to nine minutes before it, and nothing older.
const PRIORITY_STEP: i64 = 60_000_000;

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
    /// The place of the client's next job. One client's jobs follow each other at the pace of their
    /// cost, so that 100,000 of them do not stand in front of another client's first; and because
    /// the clock moves on for everybody, whatever waits gets ahead of what comes later.
    pub fn next(&mut self, now: Timestamp, max_runtime_s: u32, priority: u8) -> i64 {
        let cost = i64::from(max_runtime_s) * COST_PER_SEC / self.weight.max(1);
        self.last_rank = self.last_rank.max(now.micros()).saturating_add(cost.max(1));
        self.last_rank - i64::from(priority) * PRIORITY_STEP
    }
}
