//! Before which lease a miner holds none, as far as is known: where a look at what it holds begins.
//!
//! In PostgreSQL's index of held jobs a miner's past leases come first until they are cleaned up,
//! which nobody can do as long as any older transaction is open. Leases are numbered by a sequence
//! while their miner is locked, and a lease that is over comes back under another number: what a look
//! did not find, none will find later.

use std::collections::HashMap;

use super::store::HeldJob;

/// The lowest number of a lease that each miner held, by the number of the miner.
#[derive(Debug, Default)]
pub(super) struct Holdings(HashMap<i64, i64>);

/// Above this many miners, all are forgotten.
const MAX_MINERS: usize = 1_000_000;

impl Holdings {
    /// From which number to look, for each of these miners.
    pub fn since(&self, miners: impl Iterator<Item = i64>) -> impl Iterator<Item = (i64, i64)> {
        miners.map(|no| (no, self.0.get(&no).copied().unwrap_or(i64::MIN)))
    }

    /// All that some miners held when they were locked, and what they got then, committed.
    pub fn hold<'a>(&mut self, held: impl Iterator<Item = &'a HeldJob>) {
        let mut lowest: HashMap<i64, i64> = HashMap::new();
        for held in held {
            let number = lowest.entry(held.miner_no).or_insert(held.lease_no);
            *number = held.lease_no.min(*number);
        }
        if self.0.len() > MAX_MINERS {
            self.forget();
        }
        self.0.extend(lowest);
    }

    /// What was known may be of another database.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use protocol::job::{Lease, SlotKind};
    use protocol::{JobId, LeaseToken, Timestamp};

    use super::*;

    fn held(miner_no: i64, lease_no: i64) -> HeldJob {
        let expires_at = Timestamp::of_day(20_000);
        let token = LeaseToken::from_u128(1);
        HeldJob {
            job_id: JobId::from_u128(1),
            miner_no,
            slot: SlotKind::Cpu,
            attempt: 1,
            event_seq: 1,
            lease: Lease { token, fence: 1, expires_at, deadline: expires_at },
            lease_no,
        }
    }

    #[test]
    fn a_look_begins_at_the_oldest_lease_that_was_held() {
        let mut holdings = Holdings::default();
        let since = |holdings: &Holdings| holdings.since([1, 2].into_iter()).collect::<Vec<_>>();
        assert_eq!(since(&holdings), [(1, i64::MIN), (2, i64::MIN)]);
        holdings.hold([held(1, 7), held(1, 5), held(2, 6)].iter());
        assert_eq!(since(&holdings), [(1, 5), (2, 6)]);
        // The first is over; of the other miner nothing was looked for.
        holdings.hold([held(1, 7), held(1, 9)].iter());
        assert_eq!(since(&holdings), [(1, 7), (2, 6)]);
        holdings.forget();
        assert_eq!(since(&holdings), [(1, i64::MIN), (2, i64::MIN)]);
    }
}
