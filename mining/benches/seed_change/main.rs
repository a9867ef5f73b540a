//! What a new seed costs, ours beside XMRig's: the time from a cold start to the first hash, and the
//! hashes of the first minute after the seed changed, where the pool had said which one comes next.
//! One after the other, each alone on the machine, for the same pool, which counts the shares of
//! both. `scripts/bench mining --seed-change` makes a table of it.
//!
//! ```text
//! seed_change --threads N [--rounds N] [--xmrig PATH]
//! ```
//!
//! Prints one JSON object.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mining::Notice;
use mining::engine::{Allowance, Engine as _};
use mining::native::{self, Native};
use mining::pool::{Settings, Timing};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

#[path = "../../tests/mining/test_pool/mod.rs"]
#[expect(dead_code, reason = "one pool that counts is enough here")]
mod test_pool;

use test_pool::jobs::Monero;
use test_pool::{Miner, TestPool};

/// Hard enough for some hundred shares a second, easy enough to count hashes by them: a minute of 500
/// H/s is within 1 % in two of three cases.
const DIFFICULTY: u64 = 4;

/// How long both have before the seed changes, besides what a dataset takes that is built ahead.
const STEADY: Duration = Duration::from_secs(15);

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than a dataset takes at the low share at which it is built ahead.
const PATIENCE: Duration = Duration::from_secs(1800);

const SEEDS: [[u8; 32]; 2] = [[7; 32], [8; 32]];

struct Options {
    threads: usize,
    rounds: usize,
    xmrig: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options { threads: 1, rounds: 1, xmrig: None };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match &*name {
            "--threads" => options.threads = value.parse().unwrap(),
            "--rounds" => options.rounds = value.parse().unwrap(),
            "--xmrig" => options.xmrig = Some(value.into()),
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

/// A miner of either kind. Dropping it ends it.
enum Side {
    Ours(Native),
    Xmrig(Child),
}

impl Side {
    fn ours(url: &str, threads: usize) -> Self {
        let settings = native::Settings { threads: Some(threads), ..native::Settings::default() };
        let pools = vec![Settings::new(url.parse().unwrap(), "wallet")];
        let told = Arc::new(|notice: &Notice| {
            if !matches!(notice, Notice::Share { .. }) {
                eprintln!("{notice}");
            }
        });
        let engine =
            Native::with_pools(settings, told, pools, Timing::default(), 1, &Handle::current());
        let engine = engine.unwrap();
        engine.allow(&Allowance { threads, ..Allowance::default() });
        Self::Ours(engine)
    }

    fn xmrig(path: &Path, url: &str, threads: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "what the engine is compared with")]
        let mut command = Command::new(path);
        command.args(["-o", url.trim_start_matches("stratum+tcp://"), "-u", "wallet"]);
        command.args(["-a", "rx/0", "--no-huge-pages", "--no-color", "--donate-level=0"]);
        command.args(["--threads", &threads.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::Xmrig(command.spawn().unwrap())
    }

    /// Until it has what it can have before the seed changes.
    async fn is_prepared(&self) {
        let Self::Ours(engine) = self else { return };
        let ahead = async {
            while engine.status().datasets_built < 2 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, ahead).await.unwrap();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Self::Xmrig(child) = self {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The job of a seed, which says what the other one will be.
fn job(seed: usize) -> Value {
    let monero = Monero { seed: SEEDS[seed], ..Monero::new(seed as u64, DIFFICULTY) };
    let mut written = monero.written();
    written["next_seed_hash"] = hex::encode(SEEDS[1]).into();
    written
}

/// Takes shares of the present job for so long, and says how many there were.
async fn count(miner: &mut Miner, id: &str, time: Duration) -> u64 {
    let begun = Instant::now();
    let mut count = 0;
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        if let Ok(is_one) = timeout(left, take(miner, id)).await {
            count += u64::from(is_one);
        }
    }
    count
}

/// Answers what it says next; whether that was a share of this job.
async fn take(miner: &mut Miner, id: &str) -> bool {
    let heard = miner.hear().await.expect("the miner hung up");
    miner.answer(&heard, json!({"status": "OK"})).await;
    heard["method"] == "submit" && heard["params"]["job_id"] == id
}

/// From its start to a minute after the change.
async fn measure(pool: &TestPool, start: impl FnOnce(&str) -> Side) -> Value {
    let (jobs, began) = ([job(0), job(1)], Instant::now());
    let ids = [0, 1].map(|at: usize| jobs[at]["job_id"].as_str().unwrap().to_owned());
    let side = Arc::new(start(&pool.url()));
    let mut miner = pool.accept().await.unwrap();
    let login = miner.expect("login").await;
    let extensions = json!(["algo", "keepalive"]);
    let result = json!({"id": "s", "job": jobs[0], "status": "OK", "extensions": extensions});
    miner.answer(&login, result).await;
    while !take(&mut miner, &ids[0]).await {}
    let cold = began.elapsed();
    let preparing: JoinHandle<()> = tokio::spawn({
        let side = Arc::clone(&side);
        async move { side.is_prepared().await }
    });
    while !preparing.is_finished() {
        count(&mut miner, &ids[0], Duration::from_secs(1)).await;
    }
    let steady = count(&mut miner, &ids[0], STEADY).await;
    miner.say(&json!({"jsonrpc": "2.0", "method": "job", "params": jobs[1]})).await;
    let minute = count(&mut miner, &ids[1], MINUTE).await;
    let hashes = |shares: u64| (shares * DIFFICULTY) as f64;
    json!({
        "cold_start_s": cold.as_secs_f64(),
        "before_hs": hashes(steady) / STEADY.as_secs_f64(),
        "first_minute_hashes": hashes(minute),
        "first_minute_of_full": hashes(minute) / MINUTE.as_secs_f64()
            / (hashes(steady) / STEADY.as_secs_f64()),
    })
}

#[tokio::main]
async fn main() {
    let options = options();
    let pool = TestPool::listen(0).await;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let ours = measure(&pool, |url| Side::ours(url, options.threads)).await;
        eprintln!("ours: {ours}");
        let mut xmrig = Value::Null;
        if let Some(path) = &options.xmrig {
            xmrig = measure(&pool, |url| Side::xmrig(path, url, options.threads)).await;
            eprintln!("XMRig: {xmrig}");
        }
        rounds.push(json!({"ours": ours, "xmrig": xmrig}));
    }
    println!("{}", json!({"threads": options.threads, "rounds": rounds}));
}
