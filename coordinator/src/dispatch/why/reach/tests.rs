//! The sentences, and that they say what the matcher does.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use protocol::JobId;
use protocol::job::SlotKind;
use serde_json::json;

use super::*;
use crate::dispatch::deal::{Candidate, Hand, deal};
use crate::dispatch::matching::tests::{miner, needs};

const NOW: i64 = 1_000_000_000_000;

fn fleet(miners: impl IntoIterator<Item = Miner>) -> Fleet {
    let numbered = miners.into_iter().enumerate().map(|(i, miner)| {
        let no = i64::try_from(i).unwrap();
        (Arc::new(Miner { no, ..miner }), Load::default())
    });
    Fleet { online: numbered.collect(), ..Fleet::default() }
}

fn ask(needs: &Needs, fleet: &Fleet) -> Reach {
    let wanted = Wanted { needs, excluded: &[], hold: None };
    reach(&wanted, fleet, Timestamp::from_micros(NOW))
}

#[test]
fn three_miners_and_none_is_large_enough() {
    let of = |vram_mb: u32| miner(json!({"limits": {"vram_mb": vram_mb}}));
    let fleet = fleet([of(8192), of(16384), of(12288)]);
    let reach = ask(&needs(json!({"vram_mb": 24000})), &fleet);
    assert_eq!((reach.online, reach.able, reach.free), (3, 0, 0));
    let sentence = "3 miners online, none has vram_mb >= 24000; the largest has 16384";
    assert_eq!(nobody(&reach).unwrap(), sentence);
    let [reason] = &reach.reasons[..] else { panic!("{reach:?}") };
    assert_eq!((reason.needed.as_deref(), reason.best.as_deref()), (Some("24000"), Some("16384")));
}

#[test]
fn every_requirement_has_its_sentence() {
    let cases = [
        (json!({"workload": "sd_infer"}), "offers the workload sd_infer; on offer: cli, llm_gen"),
        (json!({"runner": "python"}), "has the runner python; there are: cli, ollama"),
        (json!({"runner": "cli", "command": "rm"}), "allows the command rm; allowed: gzip"),
        (json!({"ram_mb": 33000}), "has ram_mb >= 33000; the largest has 32768"),
        (json!({"disk_mb": 1000}), "has disk_mb >= 1000; the largest has 0"),
        (json!({"cpu_threads": 9}), "has cpu_threads >= 9; the largest has 8"),
        (
            json!({"max_runtime_s": 14400}),
            "runs a job for 14400 s; the longest run in seconds is 3600",
        ),
        (json!({"cuda": "12.10"}), "has cuda >= 12.10; the newest is 12.4"),
        (json!({"models": ["qwen"]}), "has the model qwen; there are: llama3.2:latest"),
        (json!({"engine": "wasmtime-47"}), "has the engine wasmtime-47; there are: wasmtime-36"),
        (json!({"models": ["a", "b"]}), "has all the models a, b; there are: llama3.2:latest"),
        (json!({"region": "us"}), "stands in the region us; there are: eu"),
        (json!({"egress": true}), "lets jobs reach out to the network"),
        (
            json!({"unit_price": "0.005"}),
            "works for that price; the lowest asks 0.01, the job pays 0.005",
        ),
    ];
    for (change, said) in cases {
        let reach = ask(&needs(change), &fleet([miner(json!({})), miner(json!({}))]));
        assert_eq!(nobody(&reach).unwrap(), format!("2 miners online, none {said}"));
    }
    let no_gpu = ask(&needs(json!({})), &fleet([miner(json!({"gpu": 0}))]));
    assert_eq!(nobody(&no_gpu).unwrap(), "1 miner online, none has a gpu slot");
}

#[test]
fn different_reasons_are_counted_and_said_one_by_one() {
    let small = || miner(json!({"limits": {"vram_mb": 8000}}));
    let drained = Miner { drain: true, ..miner(json!({"limits": {"vram_mb": 24000}})) };
    let reach = ask(&needs(json!({"vram_mb": 24000})), &fleet([small(), drained, small()]));
    let counted: Vec<_> = reach.reasons.iter().map(|r| (r.requirement.as_str(), r.count)).collect();
    assert_eq!(counted, [("vram_mb", 2), ("drain", 1)]);
    let sentence = "3 miners online, none can run it. 2 of them: none has vram_mb >= 24000; the \
                    largest has 8000. 1 of them: none takes new jobs: draining";
    assert_eq!(nobody(&reach).unwrap(), sentence);
}

#[test]
fn who_is_silent_is_counted_apart() {
    let mut fleet = fleet([]);
    let seen_at = |secs: i64| Timestamp::from_micros(NOW).plus_secs(-secs);
    fleet.silent = vec![
        (Arc::new(miner(json!({}))), seen_at(300)),
        (Arc::new(miner(json!({}))), seen_at(900)),
        (Arc::new(miner(json!({"region": "us"}))), seen_at(100)),
    ];
    let reach = ask(&needs(json!({"region": "eu"})), &fleet);
    assert_eq!((reach.online, reach.able), (0, 0));
    let sentence =
        "no miner is online. 2 known miners could run it but were last heard of 5 min ago";
    assert_eq!(nobody(&reach).unwrap(), sentence);
    assert_eq!(
        nobody(&ask(&needs(json!({"region": "mars"})), &fleet)).unwrap(),
        "no miner is online"
    );
}

#[test]
fn what_keeps_a_job_from_everybody_keeps_it_from_the_free_ones() {
    let mut fleet = fleet([miner(json!({})), miner(json!({})), miner(json!({}))]);
    fleet.online[0].1 = Load { cpu: 0, gpu: 2 };
    let needs = needs(json!({}));
    for (hold, name) in
        [(Hold::Paused, "paused"), (Hold::Retry(Timestamp::from_micros(NOW)), "retry")]
    {
        let wanted = Wanted { needs: &needs, excluded: &[2], hold: Some(hold) };
        let reach = reach(&wanted, &fleet, Timestamp::from_micros(NOW));
        assert_eq!((reach.able, reach.free), (2, 0));
        let counted: HashMap<_, _> =
            reach.reasons.iter().map(|r| (r.requirement.as_str(), r.count)).collect();
        assert_eq!(counted, HashMap::from([("busy", 1), (name, 1), ("excluded", 1)]));
    }
}

prop_compose! {
    fn any_miner()(
        registered in any::<bool>(), drain in prop::bool::weighted(0.2), gpu_lost in any::<bool>(),
        gpu in 0..2, concurrency in 0_u32..3, workload in 0..3, vram in 0_u32..4, ram in 0_u32..4,
        region in 0..3, price in 0..3, egress in any::<bool>(), slots in prop::option::of((0_u32..2, 0_u32..2)),
    ) -> Miner {
        let mut capabilities = json!({
            "gpu": gpu, "concurrency": concurrency, "workloads": [format!("w{workload}"), "w9"],
            "runners": ["builtin"], "region": format!("r{region}"), "price": format!("0.0{price}"),
            "egress": egress, "limits": {"vram_mb": vram * 8000, "ram_mb": ram * 8000},
        });
        if let Some((cpu, gpu)) = slots {
            capabilities["slots"] = json!({"cpu": cpu, "gpu": gpu});
        }
        Miner { registered, drain, gpu_lost, ..miner(capabilities) }
    }
}

prop_compose! {
    fn any_needs()(
        workload in prop::sample::select(vec!["w0", "w1", "w9"]), gpu in any::<bool>(),
        vram in 0_u32..4, ram in 0_u32..4, region in prop::option::of(0..3), price in 0..3,
        egress in prop::bool::weighted(0.3),
    ) -> Needs {
        let mut needs = json!({
            "workload": workload, "runner": "builtin", "unit_price": format!("0.0{price}"),
            "slot": if gpu { "gpu" } else { "cpu" }, "ram_mb": ram * 8000,
            "vram_mb": if gpu { vram * 8000 } else { 0 }, "egress": egress,
        });
        if let Some(region) = region {
            needs["region"] = json!(format!("r{region}"));
        }
        serde_json::from_value(needs).unwrap()
    }
}

/// Whether the matcher gives the job to one of these miners, if all of them ask.
fn is_dealt(needs: &Needs, excluded: &[i64], miners: &[(Arc<Miner>, Load)]) -> bool {
    // As `Dispatch::next` lets them to the counter, and `Takes` says what they can take.
    let asking = || {
        miners.iter().filter(|(miner, _)| matching::barred(miner, &InForce::default()).is_none())
    };
    let hands: Vec<Hand> = asking()
        .map(|(miner, _)| Hand {
            miner_no: miner.no,
            classes: matching::unmet(needs, miner)
                .map_or_else(|| HashSet::from([1]), |_| HashSet::new()),
        })
        .collect();
    let mut rooms: HashMap<i64, Room> =
        asking().map(|(miner, load)| (miner.no, Room::left(miner, *load))).collect();
    let job = Candidate {
        job_id: JobId::from_u128(1),
        class_id: 1,
        rank: 0,
        excluded: excluded.to_vec(),
        max_runtime_s: 60,
    };
    let kind: SlotKind = needs.slot;
    !deal(vec![job], &hands, &mut rooms, |_| kind).is_empty()
}

proptest! {
    /// `able` says whether anybody would get the job if nothing were at work, `free` whether
    /// somebody gets it now; and every miner is counted once.
    #[test]
    fn the_answer_is_what_the_matcher_does(
        needs in any_needs(), miners in prop::collection::vec((any_miner(), 0_u32..3, 0_u32..2), 0..8),
        excluded in prop::collection::vec(0_i64..8, 0..3),
    ) {
        let mut fleet = fleet(miners.iter().map(|(miner, ..)| miner.clone()));
        let wanted = Wanted { needs: &needs, excluded: &excluded, hold: None };
        let now = Timestamp::from_micros(NOW);
        let idle = reach(&wanted, &fleet, now);
        prop_assert_eq!(idle.free > 0, is_dealt(&needs, &excluded, &fleet.online));
        for ((_, load), (_, cpu, gpu)) in fleet.online.iter_mut().zip(&miners) {
            *load = Load { cpu: *cpu, gpu: *gpu };
        }
        let busy = reach(&wanted, &fleet, now);
        prop_assert_eq!(busy.free > 0, is_dealt(&needs, &excluded, &fleet.online));
        prop_assert_eq!(busy.able, idle.able);
        for reach in [&idle, &busy] {
            let kept: u64 = reach.reasons.iter().map(|reason| reason.count).sum();
            prop_assert_eq!(reach.online, reach.free + kept);
            prop_assert_eq!(reach.online, miners.len() as u64);
            prop_assert_eq!(nobody(reach).is_some(), reach.able == 0);
        }
    }
}
