//! What keeps a miner from the jobs in the queue: the matcher's own rules, asked of each class, and
//! counted. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Timestamp;
use protocol::why::{MinerWhy, Reason};

use super::words;
use crate::controls::InForce;
use crate::dispatch::deal::{Load, Room};
use crate::dispatch::matching::{self, Barred, Needs, Unmet};
use crate::miners::Miner;

/// The jobs of one class that nobody holds.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What they need.
    pub needs: Arc<Needs>,
    /// Those that can be claimed.
    pub queued: u64,
    /// Those of them that this miner must not get.
    pub excluded: u64,
    /// Those that wait to be tried again.
    pub delayed: u64,
}

/// What is known of the one who asks.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The miner.
    pub miner: &'a Miner,
    /// What it holds.
    pub load: Load,
    /// Whether it was heard of lately.
    pub online: bool,
    /// When it was last heard of, if it was in the last hour.
    pub seen_at: Option<Timestamp>,
    /// What the operator decided: whom it bars, and whether jobs are handed out at all.
    pub in_force: &'a InForce,
}

/// Why a miner idles, or that it need not.
pub fn why(standing: Standing<'_>, classes: &[Waiting], now: Timestamp) -> MinerWhy {
    let Standing { miner, load, .. } = standing;
    let room = Room::left(miner, load);
    let mut sheet = Sheet::default();
    let mut able = 0;
    for class in classes {
        let Waiting { needs, queued, excluded, delayed } = class;
        if let Some(unmet) = matching::unmet(needs, miner) {
            let requirement = unmet.requirement();
            sheet.add(requirement, queued + delayed, Some((unmet, needs)));
        } else if let Some(barred) = matching::barred(miner, standing.in_force) {
            let requirement = match barred {
                Barred::Drain => "drain",
                Barred::Banned(_) => "banned",
            };
            sheet.add(requirement, queued + delayed, None);
        } else {
            let excluded = (*excluded).min(*queued);
            let could = queued - excluded;
            sheet.add("excluded", excluded, None);
            sheet.add("retry", *delayed, None);
            able += could;
            let stopped = if !standing.online {
                Some("offline")
            } else if !room.has(needs.slot) {
                Some("busy")
            } else {
                (!standing.in_force.hands_out()).then_some("paused")
            };
            if let Some(requirement) = stopped {
                sheet.add(requirement, could, None);
            }
        }
    }
    let queued = classes.iter().map(|class| class.queued + class.delayed).sum();
    let reasons = sheet.reasons(standing, now);
    let inflight = u64::from(load.cpu) + u64::from(load.gpu);
    let summary = summary(standing, queued, able, &reasons, now);
    MinerWhy { miner_id: miner.id.clone(), summary, queued, able, inflight, reasons }
}

/// The answer in a sentence: what keeps the miner from all jobs comes before what keeps it from
/// some.
fn summary(
    standing: Standing<'_>,
    queued: u64,
    able: u64,
    reasons: &[Reason],
    now: Timestamp,
) -> String {
    let jobs = words::count(queued, "job");
    let wait = if queued == 1 { "waits" } else { "wait" };
    let keeps = |name: &str| reasons.iter().find(|reason| reason.requirement == name);
    if !standing.online {
        return match standing.seen_at {
            Some(at) => format!("offline: it was last heard of {}", words::ago(now, at)),
            None => "offline: it was not heard of in the last hour".to_owned(),
        };
    }
    match matching::barred(standing.miner, standing.in_force) {
        Some(Barred::Drain) => {
            return "draining: it gets no more jobs until that is taken back".to_owned();
        }
        Some(Barred::Banned(reason)) => return format!("banned by the operator: {reason}"),
        None => {}
    }
    if !standing.in_force.hands_out() {
        return "dispatch is paused: nobody is given jobs".to_owned();
    }
    match (queued, able, reasons) {
        (0, ..) => "no job waits".to_owned(),
        (_, 0, [reason]) => format!("{jobs} {wait}, it can run none: {}", reason.message),
        (_, 0, reasons) => {
            let parts: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
            format!("{jobs} {wait}, it can run none. {}", parts.join(". "))
        }
        (_, able, _) => match keeps("busy") {
            Some(busy) if busy.count == able => {
                format!("{jobs} {wait}, it can run {able}, but not now: {}", busy.message)
            }
            _ => format!("{jobs} {wait}, it can run {able}: it gets one when it asks"),
        },
    }
}

/// Counts by requirement.
#[derive(Default)]
struct Sheet<'a> {
    tallies: BTreeMap<&'static str, Tally<'a>>,
}

#[derive(Default)]
struct Tally<'a> {
    jobs: u64,
    unmet: Vec<(Unmet, &'a Needs, u64)>,
}

impl<'a> Sheet<'a> {
    fn add(
        &mut self,
        requirement: &'static str,
        jobs: u64,
        unmet: Option<(Unmet, &'a Arc<Needs>)>,
    ) {
        if jobs == 0 {
            return;
        }
        let tally = self.tallies.entry(requirement).or_default();
        tally.jobs += jobs;
        tally.unmet.extend(unmet.map(|(unmet, needs)| (unmet, needs.as_ref(), jobs)));
    }

    fn reasons(self, standing: Standing<'_>, now: Timestamp) -> Vec<Reason> {
        let reason = |(requirement, tally): (&'static str, Tally<'_>)| {
            let (needed, best) = tally.nearest(standing.miner);
            let said = said(requirement, standing, now, needed.as_deref(), best.as_deref());
            let message = format!("{} {said}", words::count(tally.jobs, "job"));
            Reason { requirement: requirement.to_owned(), count: tally.jobs, needed, best, message }
        };
        let mut reasons: Vec<Reason> = self.tallies.into_iter().map(reason).collect();
        reasons.sort_by_key(|reason| Reverse(reason.count));
        reasons
    }
}

impl Tally<'_> {
    /// Of what these jobs need, that which the miner comes nearest to; and what it has.
    fn nearest(&self, miner: &Miner) -> (Option<String>, Option<String>) {
        let has = &miner.capabilities;
        let Some((first, ..)) = self.unmet.first() else { return (None, None) };
        let least = |of: fn(&Needs) -> u32| {
            self.unmet.iter().map(|(_, needs, _)| of(needs)).min().map(|least| least.to_string())
        };
        let wanted = || {
            let mut names: BTreeMap<String, u64> = BTreeMap::new();
            for (unmet, needs, jobs) in &self.unmet {
                // Of several models, the one that is missing.
                let name = match unmet {
                    Unmet::Model(model) => Some(model.to_string()),
                    unmet => unmet.needed(needs),
                };
                *names.entry(name.unwrap_or_default()).or_default() += jobs;
            }
            words::names(&names.iter().map(|(name, jobs)| (name.as_str(), *jobs)).collect())
        };
        let offers = |names: &mut dyn Iterator<Item = &str>| {
            words::names(&names.map(|name| (name, 1)).collect())
        };
        match first {
            Unmet::Vram(have) => (least(|needs| needs.vram_mb), Some(have.to_string())),
            Unmet::Ram(have) => (least(|needs| needs.ram_mb), Some(have.to_string())),
            Unmet::Disk(have) => (least(|needs| needs.disk_mb), Some(have.to_string())),
            Unmet::CpuThreads(have) => (least(|needs| needs.cpu_threads), Some(have.to_string())),
            Unmet::Runtime(have) => (least(|needs| needs.max_runtime_s), Some(have.to_string())),
            Unmet::Price(asks) => {
                let pays = self.unmet.iter().map(|(_, needs, _)| needs.unit_price).max();
                (pays.map(|pays| pays.to_string()), Some(asks.to_string()))
            }
            Unmet::Cuda => {
                let oldest = self.unmet.iter().filter_map(|(_, needs, _)| needs.cuda.as_deref());
                let oldest = oldest.min_by_key(|version| matching::version(version));
                let newest = has.gpus.iter().filter_map(|gpu| gpu.cuda.clone());
                (oldest.map(str::to_owned), newest.max_by_key(|text| matching::version(text)))
            }
            Unmet::Workload => (wanted(), offers(&mut has.workloads.iter().map(|w| w.as_str()))),
            Unmet::Runner => (wanted(), offers(&mut has.runners.iter().map(|r| r.as_str()))),
            Unmet::Command => {
                (wanted(), offers(&mut has.commands.iter().flatten().map(String::as_str)))
            }
            Unmet::Engine => (wanted(), offers(&mut has.engines.iter().map(|e| e.as_str()))),
            Unmet::Model(_) => (wanted(), offers(&mut has.models.iter().map(|m| m.as_str()))),
            Unmet::Region => (wanted(), has.region.as_ref().map(ToString::to_string)),
            Unmet::Slot | Unmet::Network => (wanted(), None),
            Unmet::GpuLost => (None, None),
        }
    }
}

/// What is said of so many jobs.
fn said(
    requirement: &str,
    standing: Standing<'_>,
    now: Timestamp,
    needed: Option<&str>,
    best: Option<&str>,
) -> String {
    let needed = needed.unwrap_or("none");
    let best = best.unwrap_or("none");
    match requirement {
        "workload" => format!("of a workload that it does not offer: {needed}; it offers {best}"),
        "runner" => format!("for a runner that it does not have: {needed}; it has {best}"),
        "command" => format!("for a command that is not allowed there: {needed}; it allows {best}"),
        "slot" => format!("for a {needed} slot, of which it has none"),
        "gpu" => "for its GPU, which it reported as lost; until it offers something new".to_owned(),
        "max_runtime_s" => format!("may run for {needed} s and more; it takes up to {best} s"),
        "cuda" => format!("for cuda {needed} and newer; it has {best}"),
        "model" => format!("for a model that it does not have: {needed}; it has {best}"),
        "engine" => format!("for an engine that it does not have: {needed}; it has {best}"),
        "region" => format!("for another region: {needed}; it stands in {best}"),
        "network" => "that reach out to the network; it lets no job do that".to_owned(),
        "price" => format!("for less than it asks: {best}; the best of them pays {needed}"),
        "drain" => "that it could run, but it is draining".to_owned(),
        "banned" => "that it could run, but it is banned".to_owned(),
        "excluded" => "that it said it cannot run".to_owned(),
        "retry" => "that it could run, but which wait to be tried again".to_owned(),
        "paused" => "that it could run, but dispatch is paused".to_owned(),
        "offline" => match standing.seen_at {
            Some(at) => {
                format!("that it could run, but it was last heard of {}", words::ago(now, at))
            }
            None => "that it could run, but it was not heard of in the last hour".to_owned(),
        },
        "busy" => {
            let Load { cpu, gpu } = standing.load;
            format!("that it could run, but it has no free slot: it holds {}", cpu + gpu)
        }
        size => format!("with {size} >= {needed}; it has {best}"),
    }
}

#[cfg(test)]
mod tests {
    use protocol::control::Controls;
    use serde_json::{Value, json};

    use super::*;
    use crate::dispatch::matching::tests::{miner, needs};

    fn waiting(queued: u64, needs: Needs) -> Waiting {
        Waiting { needs: Arc::new(needs), queued, excluded: 0, delayed: 0 }
    }

    fn asked(miner: &Miner, classes: &[Waiting]) -> MinerWhy {
        let standing = Standing {
            miner,
            load: Load::default(),
            online: true,
            seen_at: Some(Timestamp::from_micros(0)),
            in_force: &InForce::default(),
        };
        why(standing, classes, Timestamp::from_micros(300_000_000))
    }

    #[test]
    fn a_miner_is_told_what_the_jobs_need() {
        let miner = miner(json!({}));
        let cases: [(Value, &str); 12] = [
            (
                json!({"workload": "sd_infer"}),
                "2 jobs of a workload that it does not offer: sd_infer; it offers cli, llm_gen",
            ),
            (
                json!({"runner": "python"}),
                "2 jobs for a runner that it does not have: python; it has cli, ollama",
            ),
            (json!({"vram_mb": 24000}), "2 jobs with vram_mb >= 24000; it has 16000"),
            (json!({"ram_mb": 33000}), "2 jobs with ram_mb >= 33000; it has 32768"),
            (
                json!({"max_runtime_s": 14400}),
                "2 jobs may run for 14400 s and more; it takes up to 3600 s",
            ),
            (json!({"cuda": "12.10"}), "2 jobs for cuda 12.10 and newer; it has 12.4"),
            (
                json!({"models": ["qwen"]}),
                "2 jobs for a model that it does not have: qwen; it has llama3.2:latest",
            ),
            (
                json!({"engine": "wasmtime-47"}),
                "2 jobs for an engine that it does not have: wasmtime-47; it has wasmtime-36",
            ),
            (json!({"region": "us"}), "2 jobs for another region: us; it stands in eu"),
            (
                json!({"egress": true}),
                "2 jobs that reach out to the network; it lets no job do that",
            ),
            (
                json!({"unit_price": "0.005"}),
                "2 jobs for less than it asks: 0.01; the best of them pays 0.005",
            ),
            (json!({"cpu_threads": 9}), "2 jobs with cpu_threads >= 9; it has 8"),
        ];
        for (change, message) in cases {
            let why = asked(&miner, &[waiting(2, needs(change))]);
            assert_eq!((why.queued, why.able), (2, 0));
            assert_eq!(why.summary, format!("2 jobs wait, it can run none: {message}"));
        }
    }

    #[test]
    fn the_nearest_of_several_classes_is_named_and_all_jobs_are_counted() {
        let miner = miner(json!({}));
        let classes = [
            waiting(3, needs(json!({"vram_mb": 48000}))),
            waiting(2, needs(json!({"vram_mb": 24000}))),
            waiting(1, needs(json!({"workload": "sd_infer"}))),
            Waiting { excluded: 2, delayed: 1, ..waiting(7, needs(json!({}))) },
        ];
        let why = asked(&miner, &classes);
        assert_eq!((why.queued, why.able), (14, 5));
        let counted: Vec<_> =
            why.reasons.iter().map(|r| (r.requirement.as_str(), r.count)).collect();
        assert_eq!(counted, [("vram_mb", 5), ("excluded", 2), ("retry", 1), ("workload", 1)]);
        assert_eq!(why.reasons[0].needed.as_deref(), Some("24000"));
        assert_eq!(why.summary, "14 jobs wait, it can run 5: it gets one when it asks");
    }

    #[test]
    fn what_keeps_it_from_everything_comes_first() {
        let mut miner = miner(json!({}));
        let classes = [waiting(2, needs(json!({})))];
        let now = Timestamp::from_micros(300_000_000);
        let standing = Standing {
            miner: &miner,
            load: Load { cpu: 0, gpu: 2 },
            online: true,
            seen_at: Some(Timestamp::from_micros(0)),
            in_force: &InForce::default(),
        };
        let busy = why(standing, &classes, now);
        assert_eq!((busy.able, busy.inflight, busy.reasons[0].count), (2, 2, 2));
        assert!(busy.summary.contains("no free slot: it holds 2"), "{}", busy.summary);
        let decided = |controls| InForce::new(1, controls);
        let pause = decided(Controls { dispatch: false, ..Controls::default() });
        let load = Load::default();
        let paused = why(Standing { in_force: &pause, load, ..standing }, &classes, now);
        assert_eq!(paused.summary, "dispatch is paused: nobody is given jobs");
        assert_eq!(paused.reasons[0].requirement, "paused");
        let silent = why(Standing { online: false, ..standing }, &classes, now);
        assert_eq!(silent.summary, "offline: it was last heard of 5 min ago");
        let mut controls = Controls::default();
        controls.banned_miners.insert(miner.id.clone(), "wrong results".to_owned());
        let banned = why(Standing { in_force: &decided(controls), ..standing }, &classes, now);
        assert_eq!(banned.summary, "banned by the operator: wrong results");
        assert_eq!((banned.able, banned.reasons[0].requirement.as_str()), (0, "banned"));
        assert_eq!(asked(&miner, &[]).summary, "no job waits");
        miner.drain = true;
        let drained = asked(&miner, &classes);
        assert_eq!((drained.able, drained.reasons[0].requirement.as_str()), (0, "drain"));
        assert!(drained.summary.starts_with("draining"));
    }
}
