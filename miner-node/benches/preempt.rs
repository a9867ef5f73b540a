//! What a job's arrival costs while the node mines, and what mining costs the job: the node's own way
//! from the lease to parked threads, its native engine, its sandbox. `scripts/bench preempt` makes a
//! table of it.
//!
//! Prints one JSON object. `PREEMPT_ARRIVALS`, `PREEMPT_RUNS` and `PREEMPT_LIGHT` change its size.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use miner_node::config::Config;
use miner_node::facts::usable_processors;
use miner_node::sandbox::{Command, Ending, Interrupt, Limits, Places, Sandbox, Tools};
use miner_node::sharing::Sharing;
use mining::engine::{Engine, Phase};
use mining::native::{Inbox, Native, Outlet, Settings};
use mining::policy::{Facts, Rules};
use mining::pool::{Event, Job, Solution, Verdict};
use mining::work::MONERO_NONCE_AT;
use mining::{Algorithm, NonceRange, Notice, Target, Work};
use serde_json::json;

/// Longer than a dataset takes anywhere.
const PATIENCE: Duration = Duration::from_secs(600);

/// Pause between two looks. Without it, the looking itself would keep the processor from threads
/// that only run when nobody else wants to.
const LOOK: Duration = Duration::from_micros(100);

/// A job that keeps one processor busy for about two seconds and needs nothing else.
const BUSY: &str = "i=0; while [ $i -lt 3000000 ]; do i=$((i + 1)); done";

/// A pool whose shares nobody finds.
struct Nobody;

impl Outlet for Nobody {
    fn submit(&self, _: Solution) -> Result<(), Verdict> {
        Ok(())
    }

    fn exhausted(&self, _: u64) {}
}

#[tokio::main]
async fn main() {
    let number = |name: &str, usual: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (arrivals, runs) = (number("PREEMPT_ARRIVALS", 1000), number("PREEMPT_RUNS", 7));
    let light = number("PREEMPT_LIGHT", 0) > 0;
    let processors = usable_processors();
    let engine = engine(processors.len(), light);
    let directory = tempfile::tempdir().expect("a directory");
    let sharing = sharing(&directory, &processors, &engine);
    let dataset = ready(&engine);
    let built = engine.status().datasets_built;

    let (mut parked, mut resumed) = (Vec::new(), Vec::new());
    for arrival in 0..arrivals {
        // By turns a job of one thread, and one that takes everything.
        let threads = if arrival % 2 == 0 { 1 } else { processors.len() };
        let begun = Instant::now();
        let claim = sharing.claim(&job(threads));
        let left = processors.len() - threads;
        while engine.busy_threads() > left {
            std::thread::sleep(LOOK);
        }
        parked.push(begun.elapsed());
        claim.parked().await;
        let (before, begun) = (engine.status().hashes, Instant::now());
        drop(claim);
        if left == 0 {
            while engine.status().hashes == before {
                std::thread::sleep(LOOK);
            }
            resumed.push(begun.elapsed());
        }
        // The next one finds everything at work.
        while engine.busy_threads() < processors.len() {
            std::thread::sleep(LOOK);
        }
    }
    let (alone, beside) = compute(&sharing, &engine, &directory, runs).await;
    let status = engine.status();
    println!(
        "{}",
        json!({
            "arrivals": arrivals, "processors": processors.len(), "in_force": status.in_force,
            "dataset_s": dataset.as_secs_f64(), "hashrate_10s": status.hashrate.ten_secs,
            "parked_ms": quantiles(&mut parked), "resumed_ms": quantiles(&mut resumed),
            "datasets_built_meanwhile": status.datasets_built - built,
            "runs": runs, "job_alone_s": median(&alone), "job_beside_s": median(&beside),
            "job_ratio": median(&alone.iter().zip(&beside).map(|(a, b)| b / a).collect::<Vec<_>>()),
        })
    );
}

fn engine(threads: usize, light: bool) -> Arc<Native> {
    let settings = Settings { threads: Some(threads), light, ..Settings::default() };
    let blob = vec![7; 76];
    let work = Work::new(blob, MONERO_NONCE_AT, NonceRange::ALL, Target::new(1)).expect("work");
    let job = Job {
        number: 1,
        id: "job".to_owned(),
        algorithm: Algorithm::RandomX,
        seed: Some([1; 32]),
        next_seed: None,
        height: None,
        work,
        extra_nonce: Vec::new(),
    };
    let connect = |inbox: Inbox| {
        inbox.tell(Event::Connected { url: "pool.example:3333".to_owned() });
        inbox.tell(Event::Job(job));
        Nobody
    };
    Arc::new(Native::start(settings, Arc::new(|_: &Notice| {}), connect).expect("an engine"))
}

/// By rules that mind nobody but jobs.
fn sharing(
    directory: &tempfile::TempDir,
    processors: &[usize],
    engine: &Arc<Native>,
) -> Arc<Sharing> {
    let rules = Rules {
        busy_pct: 100,
        quantum_s: 0,
        memory_floor_mb: 0,
        memory_pressure_pct: None,
        ..Rules::default()
    };
    let kept = directory.path().join("controls.json");
    let sharing = Arc::new(Sharing::new(&rules, kept, processors, &[], 1));
    sharing.employ(Arc::clone(engine) as Arc<dyn Engine>);
    sharing.look(Facts { processors: processors.to_vec(), ..Facts::default() });
    sharing
}

/// Waits until it mines at full speed: how long that took.
fn ready(engine: &Native) -> Duration {
    let begun = Instant::now();
    while engine.status().phase != Phase::Mining || engine.status().hashes == 0 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", engine.status());
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}

fn job(threads: usize) -> protocol::Job {
    let job = json!({
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "workload": "hash",
        "runner": {"kind": "builtin"},
        "requirements": {"cpu_threads": threads},
        "slot": "cpu",
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.01"},
        "attempt": 1,
        "lease": {
            "token": "AAAAAAAAAAAAAAAAAAAAAA",
            "fence": 1,
            "expires_at": "2026-01-24T00:00:30Z",
            "deadline": "2026-01-24T00:02:00Z",
        },
        "client": "client-a",
        "created_at": "2026-01-24T00:00:00Z",
        "expires_at": "2026-01-24T00:15:00Z",
    });
    serde_json::from_value(job).expect("a job")
}

/// The seconds of a job of one thread in the sandbox, by turns without and with mining beside it, as
/// pairs. Mining has the other processors; on a machine with one there is nothing beside it.
async fn compute(
    sharing: &Arc<Sharing>,
    engine: &Native,
    directory: &tempfile::TempDir,
    runs: usize,
) -> (Vec<f64>, Vec<f64>) {
    let Ok(tools) = Tools::find() else { return (Vec::new(), Vec::new()) };
    let mut policy = Config::default().sandbox_policy();
    policy.reached.push(directory.path().to_owned());
    let sandbox = Sandbox::new(tools, &policy).expect("a sandbox");
    let mut places = Places::below(directory.path());
    for needed in [&places.work, &places.input] {
        std::fs::create_dir(needed).expect("a directory");
    }
    let command = Command {
        program: PathBuf::from("/usr/bin/dash"),
        args: vec!["-c".to_owned(), BUSY.to_owned()],
        env: Vec::new(),
        shown: Vec::new(),
        limits: Limits { wall: Duration::from_secs(120), cpu_secs: None, ..Limits::trial() },
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for run in 0..2 * runs {
        let mines = run % 2 == 1;
        let changes = json!({"mining": mines});
        sharing.change(changes.as_object().expect("an object")).expect("a change");
        let claim = sharing.claim(&job(1));
        claim.parked().await;
        while !mines && engine.busy_threads() > 0 {
            std::thread::sleep(LOOK);
        }
        // The same processor in both cases.
        places.processors = usable_processors().into_iter().rev().take(1).collect();
        let ran = sandbox.run(&command, &places, &Interrupt::default()).await.expect("a run");
        assert_eq!(ran.ending, Ending::Exited(0));
        let seconds = ran.usage.wall.as_secs_f64();
        if mines { beside.push(seconds) } else { alone.push(seconds) }
    }
    (alone, beside)
}

fn quantiles(times: &mut [Duration]) -> serde_json::Value {
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map(|time| time.as_secs_f64() * 1e3)
    };
    json!({"p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}

fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
