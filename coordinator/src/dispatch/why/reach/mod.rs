//! Who could run a job, and what keeps the others from it: the matcher's own rules, asked of each
//! miner, and counted. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::why::{Reach, Reason};
use protocol::{Amount, Timestamp};

use super::words;
use crate::controls::InForce;
use crate::dispatch::deal::{Load, Room};
use crate::dispatch::matching::{self, Barred, Needs, Unmet};
use crate::miners::Miner;

/// The most names of one miner that are looked at for what is on offer.
const MAX_OFFERS: usize = 64;

/// The miners, as the answer sees them.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Heard of lately, with what each holds.
    pub online: Vec<(Arc<Miner>, Load)>,
    /// Known, but silent since.
    pub silent: Vec<(Arc<Miner>, Timestamp)>,
    /// Whom the operator bars.
    pub in_force: Arc<InForce>,
}

/// A job for which somebody is sought.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it needs.
    pub needs: &'a Needs,
    /// Miners that must not get it.
    pub excluded: &'a [i64],
    /// What keeps it from everybody.
    pub hold: Option<Hold>,
}

/// What keeps a job from everybody, whoever could run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No jobs are handed out.
    Paused,
    /// It waits to be tried again until then.
    Retry(Timestamp),
}

/// The first thing that keeps a miner from a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    Unmet(Unmet),
    Barred(Barred),
    Excluded,
    Busy,
    Held(Hold),
}

impl Obstacle {
    /// Whether a miner that meets it can run the job, only not now.
    const fn passes(&self) -> bool {
        matches!(self, Self::Busy | Self::Held(_))
    }

    pub(super) const fn requirement(&self) -> &'static str {
        match self {
            Self::Unmet(unmet) => unmet.requirement(),
            Self::Barred(Barred::Drain) => "drain",
            Self::Barred(Barred::Banned(_)) => "banned",
            Self::Excluded => "excluded",
            Self::Busy => "busy",
            Self::Held(Hold::Paused) => "paused",
            Self::Held(Hold::Retry(_)) => "retry",
        }
    }
}

/// What first keeps a miner from a job; `None`: it gets it when it asks.
fn obstacle(
    wanted: &Wanted<'_>,
    miner: &Miner,
    load: Load,
    in_force: &InForce,
) -> Option<Obstacle> {
    let Wanted { needs, excluded, hold } = *wanted;
    if let Some(unmet) = matching::unmet(needs, miner) {
        return Some(Obstacle::Unmet(unmet));
    }
    if let Some(barred) = matching::barred(miner, in_force) {
        return Some(Obstacle::Barred(barred));
    }
    if excluded.contains(&miner.no) {
        return Some(Obstacle::Excluded);
    }
    if !Room::left(miner, load).has(needs.slot) {
        return Some(Obstacle::Busy);
    }
    hold.map(Obstacle::Held)
}

/// Asks every miner.
pub fn reach(wanted: &Wanted<'_>, fleet: &Fleet, now: Timestamp) -> Reach {
    let online = fleet.online.len() as u64;
    let (mut able, mut free) = (0, 0);
    let mut tallies: BTreeMap<&'static str, Tally<'_>> = BTreeMap::new();
    for (miner, load) in &fleet.online {
        let Some(obstacle) = obstacle(wanted, miner, *load, &fleet.in_force) else {
            able += 1;
            free += 1;
            continue;
        };
        able += u64::from(obstacle.passes());
        let best = Best::of(&obstacle, miner);
        let tally = tallies.entry(obstacle.requirement()).or_insert_with(|| Tally {
            obstacle,
            count: 0,
            best: Best::Nothing,
        });
        tally.count += 1;
        tally.best.improve(best);
    }
    let reason = |tally: Tally<'_>| tally.reason(wanted.needs, online);
    let mut reasons: Vec<Reason> = tallies.into_values().map(reason).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons.extend(offline(wanted, fleet, now));
    Reach { online, able, free, reasons }
}

/// The silent miners that could run the job if they came back.
fn offline(wanted: &Wanted<'_>, fleet: &Fleet, now: Timestamp) -> Option<Reason> {
    let could = fleet.silent.iter().filter(|(miner, _)| {
        matching::can_take(wanted.needs, miner, &fleet.in_force)
            && !wanted.excluded.contains(&miner.no)
    });
    let (mut count, mut last) = (0, None);
    for (_, seen_at) in could {
        count += 1;
        last = last.max(Some(*seen_at));
    }
    let ago = words::ago(now, last?);
    let was = if count == 1 { "was" } else { "were" };
    let miners = words::count(count, "known miner");
    let message = format!("{miners} could run it but {was} last heard of {ago}");
    let requirement = "offline".to_owned();
    Some(Reason { requirement, count, needed: None, best: Some(ago), message })
}

/// The answer in a sentence, for a job that nobody can be given: `None` where somebody can run it.
pub fn nobody(reach: &Reach) -> Option<String> {
    if reach.able > 0 {
        return None;
    }
    let (offline, here): (Vec<_>, Vec<_>) =
        reach.reasons.iter().partition(|reason| reason.requirement == "offline");
    let mut text = match here[..] {
        [] => "no miner is online".to_owned(),
        [reason] => reason.message.clone(),
        _ => {
            let online = reach.online;
            let parts = here.iter().map(|reason| {
                let said = reason.message.split_once(": ").map_or("", |(_, said)| said);
                format!("{} of them: {said}", reason.count)
            });
            let parts: Vec<String> = parts.collect();
            format!("{online} miners online, none can run it. {}", parts.join(". "))
        }
    };
    for reason in offline {
        text.push_str(". ");
        text.push_str(&reason.message);
    }
    Some(text)
}

/// How many miners one kind of obstacle keeps, and how near they come.
struct Tally<'a> {
    obstacle: Obstacle,
    count: u64,
    best: Best<'a>,
}

/// The nearest to what is needed that is there.
enum Best<'a> {
    Nothing,
    Most(u32),
    Least(Amount),
    Newest(&'a str),
    Offers(BTreeMap<&'a str, u64>),
}

impl<'a> Best<'a> {
    fn of(obstacle: &Obstacle, miner: &'a Miner) -> Self {
        let has = &miner.capabilities;
        let Obstacle::Unmet(unmet) = obstacle else { return Self::Nothing };
        match unmet {
            Unmet::Workload => Self::offers(has.workloads.iter().map(|name| name.as_str())),
            Unmet::Runner => Self::offers(has.runners.iter().map(|kind| kind.as_str())),
            Unmet::Command => Self::offers(has.commands.iter().flatten().map(String::as_str)),
            Unmet::Model(_) => Self::offers(has.models.iter().map(|name| name.as_str())),
            Unmet::Engine => Self::offers(has.engines.iter().map(|name| name.as_str())),
            Unmet::Region => Self::offers(has.region.iter().map(|name| name.as_str())),
            Unmet::Vram(have)
            | Unmet::Ram(have)
            | Unmet::Disk(have)
            | Unmet::CpuThreads(have)
            | Unmet::Runtime(have) => Self::Most(*have),
            Unmet::Cuda => {
                let versions = has.gpus.iter().filter_map(|gpu| gpu.cuda.as_deref());
                let newest = versions.max_by_key(|version| matching::version(version));
                newest.map_or(Self::Nothing, Self::Newest)
            }
            Unmet::Price(least) => Self::Least(*least),
            Unmet::Slot | Unmet::Network | Unmet::GpuLost => Self::Nothing,
        }
    }

    fn offers(names: impl Iterator<Item = &'a str>) -> Self {
        Self::Offers(names.take(MAX_OFFERS).map(|name| (name, 1)).collect())
    }

    fn improve(&mut self, other: Self) {
        match (self, other) {
            (Self::Most(a), Self::Most(b)) => *a = b.max(*a),
            (Self::Least(a), Self::Least(b)) => *a = b.min(*a),
            (Self::Newest(a), Self::Newest(b)) if matching::version(b) > matching::version(a) => {
                *a = b;
            }
            (Self::Offers(all), Self::Offers(more)) => {
                for (name, count) in more {
                    *all.entry(name).or_default() += count;
                }
            }
            (this @ Self::Nothing, other) => *this = other,
            _ => {}
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Most(most) => Some(most.to_string()),
            Self::Least(least) => Some(least.to_string()),
            Self::Newest(version) => Some((*version).to_owned()),
            Self::Offers(names) => words::names(names),
        }
    }
}

impl Tally<'_> {
    fn reason(self, needs: &Needs, online: u64) -> Reason {
        let requirement = self.obstacle.requirement();
        let needed = needed(&self.obstacle, needs);
        let best = self.best.text();
        let (what, nearest) = phrase(&self.obstacle, needs, best.as_deref());
        let nearest = nearest.map_or(String::new(), |nearest| format!("; {nearest}"));
        let miners = words::count(online, "miner");
        let message = if self.count == online {
            format!("{miners} online, none {what}{nearest}")
        } else {
            format!("{} of {miners} online: none {what}{nearest}", self.count)
        };
        Reason { requirement: requirement.to_owned(), count: self.count, needed, best, message }
    }
}

/// What the job needs of the kind that is not met.
fn needed(obstacle: &Obstacle, needs: &Needs) -> Option<String> {
    match obstacle {
        Obstacle::Unmet(unmet) => unmet.needed(needs),
        Obstacle::Held(Hold::Retry(due_at)) => Some(due_at.to_string()),
        Obstacle::Busy => Some(needs.slot.to_string()),
        Obstacle::Barred(_) | Obstacle::Excluded | Obstacle::Held(Hold::Paused) => None,
    }
}

/// What none of the miners does or has, and how near the nearest comes.
fn phrase(obstacle: &Obstacle, needs: &Needs, best: Option<&str>) -> (String, Option<String>) {
    let nearest = |text: &str| best.map(|best| format!("{text} {best}"));
    let needed = needed(obstacle, needs).unwrap_or_default();
    let requirement = obstacle.requirement();
    let what = match obstacle {
        Obstacle::Barred(Barred::Drain) => "takes new jobs: draining".to_owned(),
        // Why is between the operator and the miner.
        Obstacle::Barred(Barred::Banned(_)) => "gets jobs: banned by the operator".to_owned(),
        Obstacle::Excluded => "may have it again: each said that it cannot run it".to_owned(),
        Obstacle::Busy => format!("has a free {} slot", needs.slot),
        Obstacle::Held(Hold::Paused) => "is given jobs: dispatch is paused".to_owned(),
        Obstacle::Held(Hold::Retry(due_at)) => format!("is given it before {due_at}"),
        Obstacle::Unmet(unmet) => match unmet {
            Unmet::Workload => format!("offers the workload {needed}"),
            Unmet::Runner => format!("has the runner {needed}"),
            Unmet::Command => format!("allows the command {needed}"),
            Unmet::Slot => format!("has a {needed} slot"),
            Unmet::GpuLost => "has its GPU: lost, and nothing new offered since".to_owned(),
            Unmet::Vram(_) | Unmet::Ram(_) | Unmet::Disk(_) | Unmet::CpuThreads(_) => {
                format!("has {requirement} >= {needed}")
            }
            Unmet::Runtime(_) => format!("runs a job for {needed} s"),
            Unmet::Cuda => format!("has cuda >= {needed}"),
            Unmet::Model(_) if needs.models.len() > 1 => format!("has all the models {needed}"),
            Unmet::Model(_) => format!("has the model {needed}"),
            Unmet::Engine => format!("has the engine {needed}"),
            Unmet::Region => format!("stands in the region {needed}"),
            Unmet::Network => "lets jobs reach out to the network".to_owned(),
            Unmet::Price(_) => "works for that price".to_owned(),
        },
    };
    let nearest = match obstacle {
        Obstacle::Unmet(unmet) => match unmet {
            Unmet::Workload => nearest("on offer:"),
            Unmet::Runner | Unmet::Model(_) | Unmet::Engine | Unmet::Region => {
                nearest("there are:")
            }
            Unmet::Command => nearest("allowed:"),
            Unmet::Vram(_) | Unmet::Ram(_) | Unmet::Disk(_) | Unmet::CpuThreads(_) => {
                nearest("the largest has")
            }
            Unmet::Runtime(_) => nearest("the longest run in seconds is"),
            Unmet::Cuda => nearest("the newest is"),
            Unmet::Price(_) => {
                nearest("the lowest asks").map(|asks| format!("{asks}, the job pays {needed}"))
            }
            Unmet::Slot | Unmet::Network | Unmet::GpuLost => None,
        },
        _ => None,
    };
    (what, nearest)
}

#[cfg(test)]
mod tests;
