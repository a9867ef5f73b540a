//! What endings add to the days of the miners that had the jobs. Pure; the SQL is in `store`.

pub mod store;

use std::collections::BTreeMap;

use protocol::{JobState, Timestamp};

use super::store::{Ending, Requeue};
use crate::dispatch::store::LeaseRow;

/// What a miner's day gains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Attempts that were accepted.
    pub completed: i32,
    /// Attempts that failed; below zero where a late result made one good.
    pub failed: i32,
    /// From lease to accepted proof, in microseconds.
    pub busy_us: i64,
}

/// By the numbers of the miners, in their order.
pub fn by_miner(now: Timestamp, endings: &[Ending], requeues: &[Requeue]) -> BTreeMap<i64, Work> {
    let ended = endings.iter().filter_map(|ending| of_ending(now, ending));
    let back = requeues.iter().filter_map(|requeue| of_failure(&requeue.row));
    let mut miners: BTreeMap<i64, Work> = BTreeMap::new();
    for (miner_no, more) in ended.chain(back) {
        let work = miners.entry(miner_no).or_default();
        work.completed += more.completed;
        work.failed += more.failed;
        work.busy_us = work.busy_us.saturating_add(more.busy_us);
    }
    miners
}

/// What was called off, or never taken, is nobody's work.
fn of_ending(now: Timestamp, ending: &Ending) -> Option<(i64, Work)> {
    let row = &ending.row;
    match ending.outcome {
        JobState::Completed => {
            let holder = row.holder.as_ref()?;
            let busy = now.since(holder.leased_at).as_micros();
            let work = Work {
                completed: 1,
                // It counted as failed when its lease lapsed.
                failed: -i32::from(!row.state.is_leased()),
                busy_us: i64::try_from(busy).unwrap_or(0),
            };
            Some((holder.miner_no, work))
        }
        JobState::Failed if row.state.is_leased() => of_failure(row),
        _ => None,
    }
}

fn of_failure(row: &LeaseRow) -> Option<(i64, Work)> {
    let holder = row.holder.as_ref()?;
    Some((holder.miner_no, Work { failed: 1, ..Work::default() }))
}
