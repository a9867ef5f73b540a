//! The claim: one transaction that leases jobs to as many waiting miners as possible.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use protocol::job::{Lease, SlotKind};
use protocol::{Job, JobId, JobState, Timestamp};
use serde_json::json;

use super::Ask;
use super::counter::{Open, Ready};
use super::deal::{self, Candidate, Hand, Load, Room};
use super::holdings::Holdings;
use super::store::{self, Grant, HeldJob, Wanted};
use super::takes::Takes;
use crate::app::{self, Clock};
use crate::config::{Config, Leases};
use crate::db::{Db, DbError, Tx};
use crate::events::{self, Event};
use crate::jobs::Spec;
use crate::miners::Miner;

/// How many more candidates than miners are fetched per class: some may exclude those that ask.
const SPARE: i64 = 4;

/// What came of a claim.
pub(super) struct Claimed {
    /// Jobs, by the number of the ask; with their class, unless they were handed out before.
    pub jobs: HashMap<usize, (Option<i32>, Job)>,
    /// Classes of which fewer jobs were found than could have been handed out.
    pub short: BTreeSet<i32>,
    /// The ranks of the jobs that were handed out, with their classes and kinds of slots.
    pub ranks: Vec<(i32, SlotKind, i64)>,
    /// The lowest rank that waited, of each class that was looked at and had any.
    pub foremost: BTreeMap<i32, i64>,
    /// Another replica was faster for some.
    pub raced: bool,
}

/// What a claim works with.
pub(super) struct Desk<'a> {
    pub db: &'a Db,
    pub clock: &'a Clock,
    pub config: &'a Config,
    pub takes: &'a Takes,
    pub holdings: &'a mut Holdings,
}

impl Desk<'_> {
    /// Leases jobs of the ready classes to those that ask.
    pub(super) async fn claim(&mut self, ready: &Ready, asks: &[Ask]) -> Result<Claimed, DbError> {
        let now = self.clock.now();
        let mut tx = self.db.write().await?;
        let miners: BTreeMap<i64, Arc<Miner>> =
            asks.iter().map(|ask| (ask.miner.no, Arc::clone(&ask.miner))).collect();
        let free = store::lock_miners(&mut tx, miners.keys().copied()).await?;
        let held = store::held_by(&mut tx, self.holdings.since(miners.keys().copied())).await?;
        let mut jobs = redeliver(&mut tx, asks, &held).await?;

        let mut room = room(asks, &held, &miners);
        let hands: Vec<Hand> = asks
            .iter()
            .enumerate()
            .map(|(i, ask)| {
                let served = jobs.contains_key(&i) || !free.contains(&ask.miner.no);
                let classes = if served { HashSet::new() } else { self.takes(ready, ask) };
                Hand { miner_no: ask.miner.no, classes }
            })
            .collect();
        let wanted = wanted(&hands, &room, ready);
        let (candidates, foremost) = store::candidates(&mut tx, now, &wanted).await?;
        let kind_of =
            |class| ready.classes.get(&class).map_or(SlotKind::Cpu, |open| open.needs.slot);
        let short = short(&wanted, &candidates);
        let dealt = deal::deal(candidates, &hands, &mut room, kind_of);
        let grants: Vec<Grant> = dealt
            .iter()
            .map(|(hand, candidate)| grant(&self.config.leases, now, &asks[*hand].miner, candidate))
            .collect();
        let granted = store::lease(&mut tx, now, &grants).await?;
        let raced = granted.len() < grants.len() || free.len() < miners.len();
        tell(&mut tx, now, &granted, &miners).await?;
        tx.commit().await?;
        let holding = held.iter().chain(granted.iter().map(|(held, _)| held));
        self.holdings.hold(holding.filter(|held| free.contains(&held.miner_no)));

        let by_job: HashMap<JobId, (usize, &Candidate)> =
            dealt.iter().map(|(hand, candidate)| (candidate.job_id, (*hand, candidate))).collect();
        let mut ranks = Vec::with_capacity(granted.len());
        for (held, spec) in granted {
            let Some((hand, candidate)) = by_job.get(&held.job_id) else { continue };
            let class = candidate.class_id;
            ranks.push((class, kind_of(class), candidate.rank));
            let job = spec.into_job(held.job_id, held.attempt, held.lease);
            jobs.insert(*hand, (Some(class), job));
        }
        Ok(Claimed { jobs, short, ranks, foremost, raced })
    }

    /// The ready classes that the one who asks can take now.
    fn takes(&self, ready: &Ready, ask: &Ask) -> HashSet<i32> {
        let can = |(class, open): &(&i32, &Open)| {
            self.takes.can_take(&ask.miner, **class) && ask.left.holds(&open.needs)
        };
        ready.classes.iter().filter(can).map(|(class, _)| *class).collect()
    }
}

/// Those of some classes that have no more queued jobs. What is left, for example for miners that
/// are not excluded from it, keeps a class ready.
pub(super) async fn exhausted(
    db: &Db,
    ready: &Ready,
    mut classes: BTreeSet<i32>,
) -> Result<BTreeSet<i32>, DbError> {
    if !classes.is_empty() {
        let from = classes
            .iter()
            .filter_map(|class| ready.classes.get(class).map(|open| (*class, open.from)));
        let mut tx = db.read().await?;
        for class in store::ready_among(&mut tx, from).await? {
            classes.remove(&class);
        }
    }
    Ok(classes)
}

/// Queues jobs again whose leases nobody heard of.
pub(super) async fn take_back(
    db: &Db,
    now: Timestamp,
    leases: &[(JobId, i64)],
) -> Result<(), DbError> {
    let mut tx = db.write().await?;
    let taken = store::take_back(&mut tx, now, leases).await?;
    let event = |(job_id, seq)| {
        let more = json!({ "returned": true });
        Event::state(job_id, seq, now, JobState::Queued, more)
    };
    let events: Vec<Event> = taken.into_iter().map(event).collect();
    events::store::append(&mut tx, &events).await?;
    tx.commit().await
}

/// A miner that never registered and has not finished its job gets it again.
async fn redeliver(
    tx: &mut Tx,
    asks: &[Ask],
    held: &[HeldJob],
) -> Result<HashMap<usize, (Option<i32>, Job)>, DbError> {
    let unfinished: Vec<(usize, &HeldJob)> = asks
        .iter()
        .enumerate()
        .filter(|(_, ask)| !ask.miner.registered)
        .filter_map(|(i, ask)| {
            held.iter().find(|held| held.miner_no == ask.miner.no).map(|held| (i, held))
        })
        .collect();
    if unfinished.is_empty() {
        return Ok(HashMap::new());
    }
    let specs = store::specs(tx, unfinished.iter().map(|(_, held)| held.job_id)).await?;
    Ok(unfinished
        .into_iter()
        .filter_map(|(i, held)| {
            let spec = specs.get(&held.job_id)?.clone();
            Some((i, (None, spec.into_job(held.job_id, held.attempt, held.lease.clone()))))
        })
        .collect())
}

/// How many more jobs each miner may hold.
fn room(asks: &[Ask], held: &[HeldJob], miners: &BTreeMap<i64, Arc<Miner>>) -> HashMap<i64, Room> {
    let mut loads: HashMap<i64, Load> = HashMap::new();
    for job in held {
        let load = loads.entry(job.miner_no).or_default();
        match job.slot {
            SlotKind::Cpu => load.cpu += 1,
            SlotKind::Gpu => load.gpu += 1,
        }
    }
    let room = |(no, miner): (&i64, &Arc<Miner>)| {
        let mut room = Room::left(miner, loads.get(no).copied().unwrap_or_default());
        let said = asks.iter().filter(|ask| ask.miner.no == *no).map(|ask| ask.slots).max();
        room.total = room.total.min(said.unwrap_or(0));
        (*no, room)
    };
    miners.iter().map(room).collect()
}

/// How many candidates of which classes are worth fetching.
fn wanted(hands: &[Hand], room: &HashMap<i64, Room>, ready: &Ready) -> BTreeMap<i32, Wanted> {
    let mut wanted: BTreeMap<i32, Wanted> = BTreeMap::new();
    for hand in hands {
        let Some(room) = room.get(&hand.miner_no) else { continue };
        for class in &hand.classes {
            let open = ready.classes.get(class).filter(|open| room.has(open.needs.slot));
            if let Some(open) = open {
                let wanted = wanted.entry(*class).or_default();
                wanted.from = open.from;
                wanted.most = wanted.most.max(SPARE) + 1;
                wanted.miners.push(hand.miner_no);
            }
        }
    }
    wanted
}

/// Classes of which fewer jobs came than were asked for.
fn short(wanted: &BTreeMap<i32, Wanted>, candidates: &[Candidate]) -> BTreeSet<i32> {
    let came = |class: i32| candidates.iter().filter(|c| c.class_id == class).count() as i64;
    wanted
        .iter()
        .filter(|(class, wanted)| came(**class) < wanted.most)
        .map(|(class, _)| *class)
        .collect()
}

fn grant(leases: &Leases, now: Timestamp, miner: &Miner, candidate: &Candidate) -> Grant {
    let runtime = i64::from(candidate.max_runtime_s);
    let deadline = now.plus_secs(runtime + i64::from(leases.margin_secs));
    // Who never registered neither acknowledges nor renews: its lease lasts as long as the job may.
    let expires_at =
        if miner.registered { now.plus_secs(i64::from(leases.ack_secs)) } else { deadline };
    Grant {
        job_id: candidate.job_id,
        miner_no: miner.no,
        miner_id: miner.id.clone(),
        tokenless: !miner.registered,
        token: app::new_lease_token(),
        expires_at: expires_at.min(deadline),
        deadline,
    }
}

/// Tells of new leases.
async fn tell(
    tx: &mut Tx,
    now: Timestamp,
    granted: &[(HeldJob, Spec)],
    miners: &BTreeMap<i64, Arc<Miner>>,
) -> Result<(), DbError> {
    let name = |no: i64| miners.get(&no).map_or("", |miner| miner.id.as_str());
    let events: Vec<Event> = granted
        .iter()
        .map(|(held, _)| {
            let Lease { fence, .. } = held.lease;
            let more = json!({
                "attempt": held.attempt, "fence": fence, "miner_id": name(held.miner_no),
            });
            Event::state(held.job_id, held.event_seq, now, JobState::Assigned, more)
        })
        .collect();
    events::store::append(tx, &events).await
}
