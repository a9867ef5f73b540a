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
