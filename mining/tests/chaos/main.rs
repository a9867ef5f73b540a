//! The native engine between an owner who cannot decide and a pool that plays every trick: no thread
//! dies, nothing is kept, every share is counted once. In a process of its own, so that its memory
//! can be looked at.
//!
//! `MINING_CHAOS_ROUNDS` says how often each trick is played; once without it.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mining::engine::{Allowance, Engine, Phase, Status};
use mining::native::{Native, Priority, Settings};
use mining::pool::{self, Timing};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

#[path = "../mining/test_pool/mod.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod test_pool;

use test_pool::keeper::{Opinion, Report, Rules, keep};
use test_pool::{PATIENCE, TestPool};

/// How many tricks the pool knows.
const TRICKS: usize = 6;

/// What a leak would be at least: a cache of RandomX.
const LEAK_KIB: u64 = 200 << 10;

const TIMING: Timing = Timing {
    connect: PATIENCE,
    answer: PATIENCE,
    first_job: PATIENCE,
    beside: PATIENCE,
    idle: PATIENCE,
    silence: PATIENCE,
    retry: Duration::from_millis(8),
    longest_retry: Duration::from_millis(64),
    banned: Duration::from_millis(500),
    stable: PATIENCE,
    poll: Duration::from_millis(50),
    refresh: Duration::from_secs(5),
};

/// An owner who cannot decide, the same one in each run: Marsaglia's xorshift.
struct Owner(u64);

impl Owner {
    fn decide(&mut self) -> Allowance {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let threads = usize::try_from(self.0 % 3).unwrap();
        // Rarely: what was made has to be made again.
        let give_memory_back = self.0 >> 40 & 0xf == 0;
        let processors = if self.0 >> 50 & 1 == 0 { Vec::new() } else { vec![0] };
        Allowance { threads, processors, give_memory_back }
    }
}

fn all() -> Allowance {
    Allowance { threads: 2, ..Allowance::default() }
}

fn nothing() -> Allowance {
    Allowance { give_memory_back: true, ..Allowance::default() }
}

fn rounds() -> usize {
    let asked = std::env::var("MINING_CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(1)
}

/// What this process has in memory, in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1)).await;
    }
}

/// Goes on until each trick was played `times` times, while the owner changes his mind.
async fn play(
    engine: &Native,
    owner: &mut Owner,
    reports: &mut UnboundedReceiver<Report>,
    played: &mut BTreeMap<&'static str, usize>,
    times: usize,
) {
    let begun = Instant::now();
    let mut mind = tokio::time::interval(Duration::from_millis(150));
    while played.len() < TRICKS || played.values().any(|count| *count < times) {
        assert!(begun.elapsed() < PATIENCE * 4, "{played:?}");
        tokio::select! {
            _ = mind.tick() => engine.allow(&owner.decide()),
            report = reports.recv() => match report.unwrap() {
                Report::Trick(trick) => *played.entry(trick).or_default() += 1,
                Report::Share(Opinion::Accepted | Opinion::Stale(_)) => {}
                Report::Share(opinion) => panic!("{opinion:?}"),
                Report::LetIn | Report::Gone => {}
            },
        }
    }
}

fn adds_up(status: &Status) -> bool {
    let shares = &status.shares;
    shares.found == shares.accepted + shares.rejected + shares.stale + shares.lost
}

/// An engine, and a pool that it mines for.
async fn engine(light: bool, tricks: bool) -> (Native, UnboundedReceiver<Report>) {
    let rules =
        Rules { bitcoin: false, difficulty: 2.0, shares_per_job: 1, job_every: None, tricks };
    let pool = TestPool::listen(0).await;
    let pools = vec![pool::Settings::new(pool.url().parse().unwrap(), "wallet")];
    let (sender, reports) = unbounded_channel();
    tokio::spawn(keep(pool, rules, sender));
    let priority = Priority::Normal;
    let settings = Settings { threads: Some(2), light, priority, ..Settings::default() };
    let listener = Arc::new(|_: &_| {});
    let engine = Native::with_pools(settings, listener, pools, TIMING, 7, &Handle::current());
    (engine.unwrap(), reports)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_everything_at_once() {
    let (engine, mut reports) = engine(true, true).await;
    let (mut owner, mut played) = (Owner(0x9e37_79b9_7f4a_7c15), BTreeMap::new());

    let mut first = None;
    for round in 1..=rounds() {
        play(&engine, &mut owner, &mut reports, &mut played, round).await;
        engine.allow(&nothing());
        until(|| engine.busy_threads() == 0 && engine.status().memory_bytes == 0).await;
        let now = memory();
        let first = *first.get_or_insert(now);
        assert!(now < first + LEAK_KIB, "{first} KiB after the first round, {now} after {round}");
    }
    // With nothing under way, everything that was found has become of something.
    until(|| adds_up(&engine.status())).await;
    // All threads are alive, and what they find is taken.
    let before = engine.status().shares;
    engine.allow(&all());
    until(|| engine.busy_threads() == 2 && engine.status().shares.accepted > before.accepted).await;
    let after = engine.status().shares;
    assert_eq!(after.rejected, 0, "{:?}", after.reasons);
    drop((engine, reports));
    a_dataset_goes_back_to_the_machine().await;
}

/// Not a test of its own: those run at once, and this one looks at the memory of all.
async fn a_dataset_goes_back_to_the_machine() {
    let (engine, _reports) = engine(false, false).await;
    engine.allow(&all());
    // A twentieth of it, and the cache that it is made of.
    let begun = |status: &Status| matches!(status.phase, Phase::Preparing { done_permille: 50.. });
    until(|| begun(&engine.status())).await;
    engine.allow(&Allowance::default());
    until(|| engine.busy_threads() == 0).await;
    let kept = memory();
    engine.allow(&nothing());
    until(|| engine.status().memory_bytes == 0).await;
    assert!(memory() + (300 << 10) < kept, "{kept} KiB before, {} after", memory());
}
