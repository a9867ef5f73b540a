//! The native engine with a pool played by hand: right shares only, nothing stale, nothing held.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mining::engine::{Allowance, Engine, Phase};
use mining::native::{Inbox, Native, Outlet, Priority, Settings};
use mining::pool::{Event, Job, Solution, Verdict};
use mining::randomx::{Cache, Machine, Mode};
use mining::work::MONERO_NONCE_AT;
use mining::{Algorithm, NonceRange, Notice, Target, Work};

use crate::mined::LOOK;

/// Longer than anything takes, even on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// A pool played by hand.
struct Hand {
    engine: Native,
    inbox: Inbox,
    solutions: Receiver<Solution>,
    exhausted: Receiver<u64>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

struct Ways(Sender<Solution>, Sender<u64>);

impl Outlet for Ways {
    fn submit(&self, solution: Solution) -> Result<(), Verdict> {
        self.0.send(solution).map_err(|_| Verdict::Lost("nobody is there".to_owned()))
    }

    fn exhausted(&self, job: u64) {
        let _ = self.1.send(job);
    }
}

fn hand(settings: Settings) -> Hand {
    let (to, solutions) = channel();
    let (to_exhausted, exhausted) = channel();
    let notices: Arc<Mutex<Vec<_>>> = Arc::default();
    let heard = Arc::clone(&notices);
    let listener = Arc::new(move |notice: &Notice| heard.lock().unwrap().push(notice.clone()));
    let mut inbox = None;
    let engine = Native::start(settings, listener, |way| {
        inbox = Some(way);
        Ways(to, to_exhausted)
    });
    let inbox = inbox.unwrap();
    inbox.tell(Event::Connected { url: "pool.example:3333".to_owned() });
    Hand { engine: engine.unwrap(), inbox, solutions, exhausted, notices }
}

#[test]
fn a_fault_ends_mining_and_is_shown() {
    let listener = Arc::new(|notice: &Notice| {
        assert!(!matches!(notice, Notice::Share { .. }), "a fault");
    });
    let (to, solutions) = channel();
    let mut inbox = None;
    let engine = Native::start(light(2), listener, |way| {
        inbox = Some(way);
        Ways(to, channel().0)
    });
    let (engine, inbox) = (engine.unwrap(), inbox.unwrap());
    engine.allow(&threads(2));
    inbox.tell(Event::Job(job(1, 1, 1)));
    let number = solutions.recv_timeout(PATIENCE).unwrap().number;
    let after = Duration::from_millis(3);
    inbox.tell(Event::Answered { number, verdict: Verdict::Accepted, after });
    until(|| matches!(engine.status().phase, Phase::Failed { .. }));
    until(|| engine.busy_threads() == 0);
    // Nobody would send what they find.
    engine.allow(&threads(2));
    assert_eq!((engine.busy_threads(), engine.status().threads), (0, 0));
}

fn light(threads: usize) -> Settings {
    // Not as it usually is: machines that run tests are busy.
    let priority = Priority::Normal;
    Settings { threads: Some(threads), light: true, priority, ..Settings::default() }
}

fn threads(threads: usize) -> Allowance {
    Allowance { threads, ..Allowance::default() }
}

fn job(number: u64, seed: u8, difficulty: u64) -> Job {
    let target = Target::of_difficulty(difficulty);
    let blob = vec![u8::try_from(number).unwrap(); 76];
    Job {
        number,
        id: format!("job {number}"),
        algorithm: Algorithm::RandomX,
        seed: Some([seed; 32]),
        next_seed: None,
        height: Some(3_000_000 + number),
        work: Work::new(blob, MONERO_NONCE_AT, NonceRange::ALL, target).unwrap(),
        extra_nonce: Vec::new(),
    }
}

impl Hand {
    fn solution(&self) -> Solution {
        self.solutions.recv_timeout(PATIENCE).unwrap()
    }

    fn answer(&self, number: u64, verdict: Verdict) {
        self.inbox.tell(Event::Answered { number, verdict, after: Duration::from_millis(3) });
    }
}

fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(LOOK);
    }
}

fn hash(job: &Job, nonce: u32) -> [u8; 32] {
    let cache = Cache::new(Mode::fastest(), &job.seed.unwrap()).unwrap();
    let mut blob = job.work.blob().to_vec();
    job.work.put_nonce(&mut blob, nonce);
    Machine::light(&cache).unwrap().hash(&blob)
}

#[test]
fn shares_of_the_present_job_and_seed_reach_the_pool() {
    let hand = hand(light(2));
    assert_eq!(hand.engine.status().phase, Phase::Paused);
    hand.engine.allow(&threads(2));
    until(|| matches!(hand.engine.status().phase, Phase::Waiting { .. }));
    let first = job(1, 1, 2);
    hand.inbox.tell(Event::Job(first.clone()));
    let solution = hand.solution();
    assert_eq!((solution.job, solution.number), (1, 1));
    assert_eq!(hash(&first, solution.nonce), solution.hash);
    assert_eq!(hand.engine.status().phase, Phase::Mining);
    // Another job with another seed: nothing of the first one comes after the first of the second.
    let second = job(2, 2, 1);
    hand.inbox.tell(Event::Job(second.clone()));
    let solution = std::iter::repeat_with(|| hand.solution()).find(|of| of.job == 2).unwrap();
    assert_eq!(hash(&second, solution.nonce), solution.hash);
    for _ in 0..5 {
        assert_eq!(hand.solution().job, 2);
    }
    let status = hand.engine.status();
    assert_eq!(status.algorithm, Some(Algorithm::RandomX));
    let pool = status.pool.unwrap();
    assert_eq!((pool.difficulty, pool.height), (1, Some(3_000_002)));
    assert!(status.in_force.ends_with("light mode"), "{}", status.in_force);
}

#[test]
fn every_answer_is_counted_and_told() {
    let hand = hand(light(1));
    hand.engine.allow(&threads(1));
    hand.inbox.tell(Event::Job(job(1, 1, 1)));
    let verdicts = [
        Verdict::Accepted,
        Verdict::Rejected("Low difficulty share".to_owned()),
        Verdict::Stale,
        Verdict::Lost("connection reset".to_owned()),
    ];
    for verdict in verdicts {
        hand.answer(hand.solution().number, verdict);
    }
    until(|| hand.engine.status().shares.lost == 1);
    hand.engine.allow(&threads(0));
    until(|| hand.engine.busy_threads() == 0);
    let counted = hand.engine.status().shares;
    assert_eq!((counted.accepted, counted.rejected, counted.stale), (1, 1, 1));
    assert_eq!(counted.reasons["Low difficulty share"], 1);
    let lines: Vec<_> = hand.notices.lock().unwrap().iter().map(ToString::to_string).collect();
    let line = "rejected (1/1) diff 1 \"Low difficulty share\" (3 ms)".to_owned();
    assert!(lines.contains(&line), "{lines:?}");
    let line = "new job from pool.example:3333 diff 1 algo rx/0 height 3000001".to_owned();
    assert!(lines.contains(&line), "{lines:?}");
}

#[test]
fn at_the_end_every_share_has_its_answer() {
    let Hand { engine, inbox, solutions, notices, .. } = hand(light(1));
    engine.allow(&threads(1));
    let mut one = job(1, 1, 1);
    one.work.nonces = NonceRange::first(2);
    inbox.tell(Event::Job(one));
    let (first, _) = (solutions.recv_timeout(PATIENCE).unwrap(), solutions.recv_timeout(PATIENCE));
    until(|| engine.status().shares.under_way == 2);
    let after = Duration::from_millis(3);
    inbox.tell(Event::Answered { number: first.number, verdict: Verdict::Accepted, after });
    until(|| engine.status().pool.unwrap().ping_ms == Some(3));
    drop(engine);
    let lines: Vec<_> = notices.lock().unwrap().iter().map(ToString::to_string).collect();
    let lost = "lost (1/1) diff 1 \"mining ended before the pool answered\" (0 ms)";
    assert_eq!(lines.last().map(String::as_str), Some(lost), "{lines:?}");
}

#[test]
fn without_a_pool_nothing_is_hashed() {
    let hand = hand(light(2));
    hand.engine.allow(&threads(2));
    hand.inbox.tell(Event::Job(job(1, 1, 1)));
    hand.solution();
    hand.inbox.tell(Event::Disconnected {
        url: "pool.example:3333".to_owned(),
        reason: "connection reset".to_owned(),
        again_in: Duration::from_secs(5),
    });
    until(|| hand.engine.status().pool.is_none());
    let waiting = Phase::Waiting { reason: "no pool: connection reset".to_owned() };
    assert_eq!(hand.engine.status().phase, waiting);
    let before = hand.engine.status().hashes;
    hand.inbox.tell(Event::Connected { url: "pool.example:3333".to_owned() });
    hand.inbox.tell(Event::Job(job(2, 1, 1)));
    let solution = std::iter::repeat_with(|| hand.solution()).find(|of| of.job == 2).unwrap();
    assert_eq!(hash(&job(2, 1, 1), solution.nonce), solution.hash);
    assert!(hand.engine.status().hashes > before);
    assert_eq!(hand.engine.status().pool.unwrap().failures, 1);
}

#[test]
fn a_pause_keeps_everything_and_giving_back_keeps_nothing() {
    let hand = hand(light(2));
    hand.engine.allow(&threads(2));
    hand.inbox.tell(Event::Job(job(1, 7, 1)));
    hand.solution();
    hand.engine.allow(&threads(0));
    until(|| hand.engine.busy_threads() == 0);
    let status = hand.engine.status();
    assert_eq!((status.phase, status.threads), (Phase::Paused, 0));
    // The cache, and a scratchpad for each lane that has hashed by then.
    until(|| matches!(hand.engine.status().memory_bytes >> 20, 258 | 260));
    hand.engine.allow(&Allowance { give_memory_back: true, ..threads(0) });
    until(|| hand.engine.status().memory_bytes == 0);
    until(|| hand.notices.lock().unwrap().contains(&Notice::GivenBack));
    // Allowing threads without that begins anew.
    while hand.solutions.try_recv().is_ok() {}
    hand.engine.allow(&threads(1));
    let solution = hand.solution();
    assert_eq!(hash(&job(1, 7, 1), solution.nonce), solution.hash);
    until(|| hand.engine.status().memory_bytes == (256 + 2) << 20);
}

#[test]
fn when_all_nonces_are_tried_the_pool_is_asked_once() {
    let hand = hand(light(2));
    hand.engine.allow(&threads(2));
    let mut few = job(1, 1, 1);
    few.work.nonces = NonceRange::first(5);
    hand.inbox.tell(Event::Job(few));
    for _ in 0..5 {
        assert_eq!(hand.solution().job, 1);
    }
    assert_eq!(hand.exhausted.recv_timeout(PATIENCE).unwrap(), 1);
    hand.inbox.tell(Event::Job(job(2, 1, 1)));
    assert_eq!(hand.solution().job, 2);
    assert!(hand.exhausted.try_recv().is_err());
}

#[test]
fn building_a_dataset_is_interrupted_and_goes_on() {
    let settings = Settings { light: false, ..light(2) };
    let hand = hand(settings);
    hand.engine.allow(&threads(2));
    hand.inbox.tell(Event::Job(job(1, 1, 1)));
    let done = || match hand.engine.status().phase {
        Phase::Preparing { done_permille } => done_permille,
        _ => 0,
    };
    until(|| done() >= 2);
    hand.engine.allow(&threads(0));
    until(|| hand.engine.busy_threads() == 0);
    assert_eq!(hand.engine.status().phase, Phase::Paused);
    hand.engine.allow(&threads(1));
    until(|| done() >= 4);
    hand.engine.allow(&Allowance { give_memory_back: true, ..threads(0) });
    until(|| hand.engine.status().memory_bytes == 0);
    assert_eq!(hand.engine.busy_threads(), 0);
}
