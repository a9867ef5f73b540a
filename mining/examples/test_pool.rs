//! The verifying test pool as a program: any miner can be pointed at it, and every share is computed
//! again.
//!
//! ```text
//! cargo run -p mining --example test_pool -- --port 0 --dialect monero --difficulty 1000
//! ```
//!
//! The first line is its URL. Then comes a line for each thing that happens; ctrl-c ends it with
//! the sums as one line of JSON.

#![expect(clippy::unwrap_used, reason = "a test pool that cannot go on has found something")]

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::ctrl_c;
use tokio::sync::mpsc::unbounded_channel;

#[path = "../tests/mining/test_pool/mod.rs"]
#[expect(dead_code, reason = "one story at a time is for tests")]
mod test_pool;

use test_pool::TestPool;
use test_pool::keeper::{Opinion, Report, Rules, keep};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dialect {
    /// RandomX.
    Monero,
    /// GhostRider.
    Bitcoin,
}

/// A pool on the loopback interface that computes every share again.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; 0 for any port that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How it speaks.
    #[arg(long, value_enum, default_value_t = Dialect::Monero)]
    dialect: Dialect,
    /// How hard shares are: hashes of RandomX, or 65,536 hashes of GhostRider.
    #[arg(long, default_value_t = 1000.0)]
    difficulty: f64,
    /// After how many shares there is another job.
    #[arg(long, default_value_t = 20)]
    shares_per_job: u32,
    /// After how many seconds there is another job.
    #[arg(long, default_value_t = 60)]
    job_secs: u64,
    /// Change seed, difficulty and extra nonce, answer late, talk nonsense and hang up.
    #[arg(long)]
    tricks: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let rules = Rules {
        bitcoin: arguments.dialect == Dialect::Bitcoin,
        difficulty: arguments.difficulty,
        shares_per_job: arguments.shares_per_job.max(1),
        job_every: Some(Duration::from_secs(arguments.job_secs.max(1))),
        tricks: arguments.tricks,
    };
    let pool = TestPool::listen(arguments.port).await;
    println!("{}", pool.url());
    let (sender, mut reports) = unbounded_channel();
    tokio::spawn(keep(pool, rules, sender));
    let mut sums = BTreeMap::new();
    loop {
        let report = tokio::select! {
            report = reports.recv() => report.unwrap(),
            _ = ctrl_c() => break,
        };
        let what = match &report {
            Report::LetIn => "logins",
            Report::Share(Opinion::Accepted) => "accepted",
            Report::Share(Opinion::Stale(_)) => "stale",
            Report::Share(Opinion::Duplicate) => "duplicate",
            Report::Share(Opinion::Invalid(_)) => "invalid",
            Report::Trick(_) => "tricks",
            Report::Gone => "gone",
        };
        *sums.entry(what).or_insert(0_u64) += 1;
        println!("{report:?}");
    }
    println!("{}", serde_json::json!(sums));
}
