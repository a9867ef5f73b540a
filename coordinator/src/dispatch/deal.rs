//! Dealing: which of the claimable jobs goes to which of the waiting miners. Pure.

use std::collections::{HashMap, HashSet};

use protocol::JobId;
use protocol::job::SlotKind;

use super::matching::{self, Needs};
use crate::miners::Miner;

/// A job that can be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The job.
    pub job_id: JobId,
    /// Its class.
    pub class_id: i32,
    /// Its place in the queue.
    pub rank: i64,
    /// Miners that must not get it.
    pub excluded: Vec<i64>,
    /// How long it may run, in seconds.
    pub max_runtime_s: i32,
}

/// A miner at the counter.
#[derive(Debug, Clone)]
pub struct Hand {
    /// Which miner.
    pub miner_no: i64,
    /// The classes that it can take.
    pub classes: HashSet<i32>,
}

/// How many more jobs a miner may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// On processor slots.
    pub cpu: u32,
    /// On GPU slots.
    pub gpu: u32,
    /// In all.
    pub total: u32,
}

/// How many jobs a miner holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// On processor slots.
    pub cpu: u32,
    /// On GPU slots.
    pub gpu: u32,
}

/// What a miner says is left of it beside the jobs that it has; what is absent is as it registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Memory in MiB.
    pub ram_mb: Option<u32>,
    /// Processor threads.
    pub cpu_threads: Option<u32>,
    /// Scratch space in MiB.
    pub disk_mb: Option<u32>,
}

impl Left {
    /// Whether a job of these needs could begin at once. Which could ever, is for
    /// [`matching::unmet`] to say.
    pub fn holds(&self, needs: &Needs) -> bool {
        [
            (needs.ram_mb, self.ram_mb),
            (needs.cpu_threads, self.cpu_threads),
            (needs.disk_mb, self.disk_mb),
        ]
        .into_iter()
        .all(|(needed, left)| left.is_none_or(|left| needed <= left))
    }
}

impl Room {
    /// What is left to a miner that holds so much.
    pub fn left(miner: &Miner, load: Load) -> Self {
        // The script works on one job at a time, whatever it says.
        let most = if miner.registered { miner.capabilities.concurrency } else { 1 };
        Self {
            cpu: matching::slots(miner, SlotKind::Cpu).saturating_sub(load.cpu),
            gpu: matching::slots(miner, SlotKind::Gpu).saturating_sub(load.gpu),
            total: most.saturating_sub(load.cpu.saturating_add(load.gpu)),
        }
    }

    /// Takes a place, if there is one.
    pub fn take(&mut self, kind: SlotKind) -> bool {
        let places = match kind {
            SlotKind::Cpu => &mut self.cpu,
            SlotKind::Gpu => &mut self.gpu,
        };
        if *places == 0 || self.total == 0 {
            return false;
        }
        *places -= 1;
        self.total -= 1;
        true
    }

    /// Whether a job of this kind would find a place.
    pub fn has(&self, kind: SlotKind) -> bool {
        let mut copy = *self;
        copy.take(kind)
    }
}

/// Deals at most one job to each hand: jobs in order of rank, each to the hand that has the fewest
/// other choices, and among those to the one that came first.
pub fn deal(
    mut candidates: Vec<Candidate>,
    hands: &[Hand],
    room: &mut HashMap<i64, Room>,
    kind_of: impl Fn(i32) -> SlotKind,
) -> Vec<(usize, Candidate)> {
    candidates.sort_by_key(|candidate| (candidate.rank, candidate.job_id));
    let mut open: Vec<usize> = (0..hands.len()).collect();
    let mut dealt = Vec::new();
    for candidate in candidates {
        let kind = kind_of(candidate.class_id);
        let fits = |hand: &Hand| {
            hand.classes.contains(&candidate.class_id)
                && !candidate.excluded.contains(&hand.miner_no)
                && room.get(&hand.miner_no).is_some_and(|room| room.has(kind))
        };
        let best = open
            .iter()
            .enumerate()
            .filter(|(_, hand)| fits(&hands[**hand]))
            .min_by_key(|(_, hand)| hands[**hand].classes.len());
        let Some((position, hand)) = best.map(|(position, hand)| (position, *hand)) else {
            continue;
        };
        if let Some(room) = room.get_mut(&hands[hand].miner_no) {
            room.take(kind);
        }
        open.remove(position);
        dealt.push((hand, candidate));
        if open.is_empty() {
            break;
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128, class_id: i32, rank: i64) -> Candidate {
        let job_id = JobId::from_u128(n);
        Candidate { job_id, class_id, rank, excluded: Vec::new(), max_runtime_s: 60 }
    }

    fn hand(miner_no: i64, classes: &[i32]) -> Hand {
        Hand { miner_no, classes: classes.iter().copied().collect() }
    }

    fn room(miners: &[i64]) -> HashMap<i64, Room> {
        miners.iter().map(|no| (*no, Room { cpu: 1, gpu: 0, total: 1 })).collect()
    }

    fn dealt(
        jobs: Vec<Candidate>,
        hands: &[Hand],
        room: &mut HashMap<i64, Room>,
    ) -> Vec<(usize, u128)> {
        let mut dealt: Vec<_> = deal(jobs, hands, room, |_| SlotKind::Cpu)
            .into_iter()
            .map(|(hand, job)| (hand, job.job_id.as_u128()))
            .collect();
        dealt.sort_unstable();
        dealt
    }

    #[test]
    fn lowest_rank_first() {
        let jobs = vec![job(1, 1, 30), job(2, 1, 10), job(3, 1, 20)];
        let hands = [hand(1, &[1]), hand(2, &[1])];
        assert_eq!(dealt(jobs, &hands, &mut room(&[1, 2])), [(0, 2), (1, 3)]);
    }

    #[test]
    fn who_has_little_left_gets_what_fits() {
        let needs: Needs = serde_json::from_value(serde_json::json!({
            "workload": "hash", "runner": "builtin", "slot": "cpu", "unit_price": "1",
            "ram_mb": 1000, "cpu_threads": 2,
        }))
        .unwrap();
        assert!(Left::default().holds(&needs));
        let left = Left { ram_mb: Some(1000), cpu_threads: Some(2), disk_mb: Some(0) };
        assert!(left.holds(&needs));
        assert!(!Left { ram_mb: Some(999), ..left }.holds(&needs));
        assert!(!Left { cpu_threads: Some(1), ..left }.holds(&needs));
    }

    #[test]
    fn the_pickier_miner_is_served_first() {
        let jobs = vec![job(1, 1, 10), job(2, 2, 20)];
        let hands = [hand(1, &[1, 2]), hand(2, &[1])];
        assert_eq!(dealt(jobs, &hands, &mut room(&[1, 2])), [(0, 2), (1, 1)]);
    }

    #[test]
    fn excluded_miners_get_the_next() {
        let mut first = job(1, 1, 10);
        first.excluded.push(1);
        let hands = [hand(1, &[1])];
        assert_eq!(dealt(vec![first, job(2, 1, 20)], &hands, &mut room(&[1])), [(0, 2)]);
    }

    #[test]
    fn a_miner_that_asks_twice_gets_no_more_than_it_has_room_for() {
        let jobs = vec![job(1, 1, 10), job(2, 1, 20)];
        let hands = [hand(1, &[1]), hand(1, &[1])];
        assert_eq!(dealt(jobs, &hands, &mut room(&[1])), [(0, 1)]);
    }
}
