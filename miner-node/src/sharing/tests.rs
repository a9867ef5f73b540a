//! Jobs come and go beside an engine that writes down what it was allowed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use futures_util::FutureExt as _;
use mining::engine::{Hashrate, Phase, Shares};
use serde_json::json;

use super::*;
use crate::runners::tests::job;

/// An engine of paper.
#[derive(Default)]
struct Paper {
    allowed: Mutex<Vec<Allowance>>,
    busy: AtomicUsize,
    held: AtomicU64,
    hashrate: Mutex<Hashrate>,
    fails: AtomicBool,
}

impl Engine for Paper {
    fn allow(&self, allowance: &Allowance) {
        self.allowed.lock().unwrap().push(allowance.clone());
    }

    fn busy_threads(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    fn status(&self) -> Status {
        Status {
            engine: "native",
            algorithm: None,
            phase: if self.fails.load(Ordering::Relaxed) {
                Phase::Failed { reason: "paper".to_owned() }
            } else {
                Phase::Mining
            },
            threads: self.busy_threads(),
            threads_most: 4,
            hashrate: *self.hashrate.lock().unwrap(),
            hashes: 0,
            shares: Shares::default(),
            pool: None,
            memory_bytes: self.held.load(Ordering::Relaxed),
            datasets_built: 1,
            dataset_took: None,
            in_force: "paper".to_owned(),
        }
    }
}

impl Paper {
    fn last(&self) -> Allowance {
        self.allowed.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

const PROCESSORS: [usize; 4] = [0, 1, 2, 3];

fn shared(root: &Path, rules: &Rules, slots: u32) -> (Arc<Sharing>, Arc<Paper>) {
    let kept = root.join("controls.json");
    let sharing = Arc::new(Sharing::new(rules, kept, &PROCESSORS, &[], slots));
    let paper = Arc::new(Paper { held: AtomicU64::new(2336 << 20), ..Paper::default() });
    sharing.employ(Arc::clone(&paper) as Arc<dyn Engine>);
    (sharing, paper)
}

fn facts() -> Facts {
    Facts { processors: PROCESSORS.to_vec(), available_mb: Some(8000), ..Facts::default() }
}

/// Rules that mind nobody.
fn free() -> Rules {
    Rules { busy_pct: 100, quantum_s: 0, ..Rules::default() }
}

#[tokio::test]
async fn a_pause_is_no_loss() {
    let root = tempfile::tempdir().unwrap();
    let decimal = |text: &str| Some(text.parse().unwrap());
    let (hash_value, energy_price) = (decimal("0.1"), decimal("0.3"));
    let rules = Rules { hash_value, energy_price, watts: Some(100), ..free() };
    let (sharing, paper) = shared(root.path(), &rules, 4);
    // Four such threads are worth 0.36 an hour and cost 0.03, if only they hash.
    for (of_thread, threads) in [(Some(250.0), 4), (Some(1.0), 0), (None, 4)] {
        let hashrate = Hashrate { minute: Some(0.0), of_thread, ..Hashrate::default() };
        *paper.hashrate.lock().unwrap() = hashrate;
        sharing.look(facts());
        assert_eq!(paper.last().threads, threads, "{of_thread:?}");
    }
}

#[tokio::test]
async fn a_job_has_its_processors_at_once_and_mining_has_them_back() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(facts());
    assert_eq!(paper.last().processors, [0, 1, 2, 3]);
    let first = sharing.claim(&job("hash"));
    assert_eq!((first.processors(), paper.last().processors), (&[3][..], vec![0, 1, 2]));
    let mut wide = job("hash");
    wide.requirements.cpu_threads = Some(2);
    let second = sharing.claim(&wide);
    assert_eq!((second.processors(), paper.last().processors), (&[1, 2][..], vec![0]));
    drop(first);
    assert_eq!(paper.last().processors, [0, 3]);
    drop(second);
    assert_eq!((paper.last().threads, paper.last().give_memory_back), (4, false));
}

#[tokio::test]
async fn priorities_say_who_yields() {
    let root = tempfile::tempdir().unwrap();
    let rules = Rules { low_priority: Some(2), ..free() };
    let (sharing, paper) = shared(root.path(), &rules, 1);
    sharing.look(facts());
    let with = |priority| {
        let mut job = job("hash");
        job.priority = priority;
        let claim = sharing.claim(&job);
        (claim.processors().len(), paper.last().threads)
    };
    // A low one is left a single processor, a usual one its slot's share, a critical one everything.
    assert_eq!((with(1), with(5), with(9)), ((1, 3), (4, 0), (4, 0)));
    let rules = json!({"job_threads": 1});
    sharing.change(rules.as_object().unwrap()).unwrap();
    assert_eq!((with(5), with(9)), ((1, 3), (1, 0)));
}

#[tokio::test]
async fn a_job_has_what_it_requires_and_everything_where_nothing_can_mine() {
    let root = tempfile::tempdir().unwrap();
    let rules = Rules { low_priority: Some(2), ..free() };
    let (sharing, paper) = shared(root.path(), &rules, 2);
    sharing.look(facts());
    let count = |job: &Job| sharing.claim(job).processors().len();
    let mut low = job("hash");
    (low.priority, low.requirements.cpu_threads) = (1, Some(3));
    let usual = Job { priority: 5, ..job("hash") };
    let gpu = Job { slot: SlotKind::Gpu, ..usual.clone() };
    assert_eq!((count(&low), count(&gpu), count(&usual)), (3, 2, 2));
    sharing.change(json!({"snooze_until": FOR_EVER}).as_object().unwrap()).unwrap();
    assert_eq!(count(&usual), 4);
    sharing.change(json!({"snooze_until": null}).as_object().unwrap()).unwrap();
    assert_eq!(count(&usual), 2);
    paper.fails.store(true, Ordering::Relaxed);
    assert_eq!(count(&usual), 4);
}

#[tokio::test]
async fn memory_goes_where_a_job_states_its_need() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(Facts { available_mb: Some(3000), ..facts() });
    let mut large = job("hash");
    large.limits.ram_mb = Some(2800);
    let claim = sharing.claim(&large);
    // It may yet be refused.
    assert_eq!((paper.last().threads, paper.last().give_memory_back), (3, false));
    {
        let mut parked = std::pin::pin!(claim.parked());
        assert!(parked.as_mut().now_or_never().is_none());
        assert_eq!((paper.last().threads, paper.last().give_memory_back), (0, true));
        paper.held.store(0, Ordering::Relaxed);
        assert!(parked.await.is_some());
    }
    sharing.look(Facts { available_mb: Some(5300), ..facts() });
    assert_eq!((paper.last().threads, paper.last().give_memory_back), (0, true));
    drop(claim);
    assert_eq!((paper.last().threads, paper.last().give_memory_back), (4, false));
}

#[tokio::test]
async fn a_job_waits_for_threads_to_let_go_but_not_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(facts());
    paper.busy.store(4, Ordering::Relaxed);
    let claim = sharing.claim(&job("hash"));
    let parked = tokio::spawn(async move { claim.parked().await });
    tokio::task::yield_now().await;
    paper.busy.store(3, Ordering::Relaxed);
    assert!(parked.await.unwrap().is_some());
    assert_eq!(sharing.standing().preemptions, 1);
    // Threads that are on their way already are waited for as well.
    sharing.change(json!({"mining": false}).as_object().unwrap()).unwrap();
    let claim = sharing.claim(&job("hash"));
    let mut parked = Box::pin(claim.parked());
    assert!(parked.as_mut().now_or_never().is_none());
    paper.busy.store(0, Ordering::Relaxed);
    assert!(parked.await.is_some());
    // Where nothing was mined, there is nothing to wait for.
    assert_eq!(sharing.claim(&job("hash")).parked().await, None);
    assert_eq!(sharing.claim(&job("hash")).processors(), PROCESSORS);
}

#[tokio::test]
async fn controls_are_obeyed_at_once_and_outlast_the_node() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(facts());
    let change = |changes: serde_json::Value| sharing.change(changes.as_object().unwrap());
    change(json!({"cpu_pct": 50})).unwrap();
    assert_eq!(paper.last().threads, 2);
    change(json!({"snooze_until": FOR_EVER})).unwrap();
    assert_eq!((paper.last().threads, sharing.gate()), (0, Gate::Closed));
    change(json!({"snooze_until": null, "compute": false})).unwrap();
    assert_eq!((paper.last().threads, sharing.gate()), (2, Gate::Closed));
    assert!(change(json!({"cpu_pct": 500, "compute": true})).is_err());
    let shown = sharing.controls();
    let (again, _) = shared(root.path(), &free(), 4);
    assert_eq!(again.controls(), shown);
    assert_eq!((&shown["cpu_pct"], &shown["compute"]), (&json!(50), &json!(false)));
}

#[tokio::test]
async fn a_job_does_not_wait_for_a_change_to_be_written() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(facts());
    let writing = sharing.controls.lock().unwrap();
    let claim = sharing.claim(&job("hash"));
    assert_eq!((claim.processors(), paper.last().threads), (&[3][..], 3));
    drop(writing);
}

#[tokio::test]
async fn a_node_that_forgot_what_was_changed_pauses_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("controls.json"), "{\"rules\"").unwrap();
    let (sharing, paper) = shared(root.path(), &free(), 4);
    sharing.look(facts());
    assert_eq!((paper.last().threads, sharing.gate()), (0, Gate::Closed));
    let why = sharing.standing().decision.unwrap().cpu.why;
    assert!(why.contains("cannot be read") && sharing.not_taking().unwrap().contains(&why));
    sharing.change(json!({"snooze_until": null}).as_object().unwrap()).unwrap();
    assert_eq!((paper.last().threads, sharing.gate()), (4, Gate::Open));
}

#[tokio::test]
async fn without_an_engine_nothing_is_kept_apart() {
    let root = tempfile::tempdir().unwrap();
    let kept = root.path().join("controls.json");
    let sharing = Arc::new(Sharing::new(&free(), kept, &PROCESSORS, &[1, 2, 9], 1));
    sharing.look(facts());
    assert_eq!(sharing.claim(&job("hash")).processors(), [1, 2]);
    sharing.opened().await;
}

/// What comes next, the same in each run: Marsaglia's xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Its upper half is the better one.
        (self.0 >> 32) % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_jobs_that_come_and_go_leave_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let (sharing, paper) = shared(root.path(), &Rules { low_priority: Some(1), ..free() }, 2);
    let change = |text: &str| sharing.change(&serde_json::from_str(text).unwrap()).unwrap();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let (mut claims, mut preemptions, mut mined) = (Vec::<(Claim, u8)>::new(), 0, 0);
    for _ in 0..3000 {
        tokio::time::advance(Duration::from_millis(chance.below(3600))).await;
        match chance.below(20) {
            0..6 if claims.len() < 3 => {
                let mut arrived = job("hash");
                arrived.priority = u8::try_from(chance.below(10)).unwrap();
                arrived.requirements.cpu_threads = chance.of(&[None, Some(1), Some(1), Some(9)]);
                arrived.limits.ram_mb = chance.of(&[None, Some(512), Some(7000)]);
                claims.push((sharing.claim(&arrived), arrived.priority));
                // Its threads let go, and memory comes back.
                paper.busy.store(paper.last().threads, Ordering::Relaxed);
                if chance.below(4) > 0 {
                    let parked = claims.last().unwrap().0.parked().await;
                    preemptions += u64::from(parked.is_some());
                }
            }
            0..12 if !claims.is_empty() => {
                drop(
                    claims.swap_remove(usize::try_from(chance.below(claims.len() as u64)).unwrap()),
                );
            }
            12 => change(chance.of(&[
                r#"{"snooze_until": 99999999999}"#,
                r#"{"snooze_until": null}"#,
                r#"{"cpu_pct": 50}"#,
                r#"{"mining": false}"#,
                r#"{"mining": true, "snooze_until": null}"#,
                r#"{"mining": true, "cpu_pct": 100}"#,
            ])),
            13 => paper.fails.store(chance.below(8) == 0, Ordering::Relaxed),
            14 => paper.held.store(chance.of(&[0, 2336 << 20]), Ordering::Relaxed),
            _ => sharing.look(facts()),
        }
        let allowed = paper.last();
        paper.busy.store(allowed.threads, Ordering::Relaxed);
        let standing = sharing.standing();
        assert_eq!((standing.jobs.len(), standing.preemptions), (claims.len(), preemptions));
        let is_taken =
            |number: &usize| claims.iter().any(|(job, _)| job.processors().contains(number));
        if allowed.threads > 0 {
            mined += 1;
            assert!(allowed.threads <= allowed.processors.len(), "{allowed:?}");
            assert!(
                !allowed.processors.iter().any(is_taken),
                "{allowed:?} {:?}",
                standing.decision
            );
            assert!(claims.iter().all(|(_, priority)| *priority < 9), "{:?}", standing.decision);
        }
    }
    assert!(mined > 300 && preemptions > 80, "{mined} {preemptions}");
    claims.clear();
    change(r#"{"snooze_until": null, "cpu_pct": 100, "mining": true}"#);
    paper.held.store(2336 << 20, Ordering::Relaxed);
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(600)).await;
        sharing.look(facts());
    }
    let all = Allowance { threads: 4, processors: PROCESSORS.to_vec(), give_memory_back: false };
    assert_eq!((paper.last(), sharing.standing().jobs.len()), (all, 0));
}
