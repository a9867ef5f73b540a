//! What it costs to start a job's program: `true` in our sandbox and in a bare bubblewrap, one after
//! the other, again and again. `scripts/bench sandbox` makes a table of it.
//!
//! Prints one JSON object with the median of each in milliseconds, from the start to the last
//! process gone.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use miner_node::config::Config;
use miner_node::sandbox::{Command, Ending, Interrupt, Limits, Places, Sandbox, Tools};
use serde_json::json;

/// Starts of each, without the first few, which fill caches.
const STARTS: usize = 40;
const FIRST: usize = 5;

/// The least that bubblewrap can be asked for that still has all namespaces.
const BARE: [&str; 7] =
    ["--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "--", "/usr/bin/true"];

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let places = Places::below(directory.path());
    for needed in [&places.work, &places.input] {
        std::fs::create_dir(needed).expect("a directory");
    }
    let mut policy = Config::default().sandbox_policy();
    // As nice as what it is compared with.
    policy.nice = 0;
    policy.reached.push(directory.path().to_owned());
    let sandbox = Sandbox::new(Tools::find().expect("bubblewrap"), &policy).expect("a sandbox");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for start in 0..FIRST + STARTS {
        let times = [start_ours(&sandbox, &places).await, start_bare().await];
        if start >= FIRST {
            ours.push(times[0]);
            bare.push(times[1]);
        }
    }
    let (ours, bare) = (median(ours), median(bare));
    let isolation = sandbox.isolation().to_string();
    println!("{}", json!({"isolation": isolation, "ours_ms": ours, "bare_ms": bare}));
}

async fn start_ours(sandbox: &Sandbox, places: &Places) -> f64 {
    let command = Command {
        program: PathBuf::from("/usr/bin/true"),
        args: Vec::new(),
        env: Vec::new(),
        shown: Vec::new(),
        limits: Limits { memory_bytes: Some(1 << 30), ..Limits::trial() },
    };
    let begun = Instant::now();
    let run = sandbox.run(&command, places, &Interrupt::default()).await.expect("a run");
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(run.ending, Ending::Exited(0), "{}", said(&places.stderr));
    millis
}

#[expect(clippy::disallowed_methods, reason = "what the sandbox is compared with")]
async fn start_bare() -> f64 {
    let begun = Instant::now();
    let mut command = tokio::process::Command::new("bwrap");
    command.args(BARE).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().await.expect("bubblewrap");
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    millis
}

fn said(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn median(mut millis: Vec<f64>) -> f64 {
    millis.sort_by(f64::total_cmp);
    millis[millis.len() / 2]
}
