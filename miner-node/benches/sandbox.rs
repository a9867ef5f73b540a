//! What it costs to start a job's program: `true` in our sandbox, in a bare bubblewrap, and in one
//! with the same namespaces and mounts, one after the other, again and again. `scripts/bench sandbox` makes a table of it.
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

/// The namespaces and mounts of a job, asked of bubblewrap by hand: no limits, no filter, nobody who
/// counts. `WORK` and `INPUT` are replaced.
const ALIKE: &str = "--unshare-user --disable-userns --unshare-pid --unshare-net --unshare-ipc \
    --unshare-uts --unshare-cgroup-try --hostname job --die-with-parent --new-session \
    --cap-drop ALL --clearenv --ro-bind /usr /usr --ro-bind-try /etc/alternatives /etc/alternatives \
    --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --proc /proc --dev /dev \
    --size 67108864 --tmpfs /dev/shm --size 67108864 --tmpfs /tmp --bind WORK /work \
    --ro-bind INPUT /work/input --remount-ro /proc --remount-ro /dev --remount-ro / --chdir /work";

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
    let bare = BARE.map(str::to_owned);
    let alike = alike(&places);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for start in 0..FIRST + STARTS {
        let one =
            [start_ours(&sandbox, &places).await, by_hand(&bare).await, by_hand(&alike).await];
        if start >= FIRST {
            times.iter_mut().zip(one).for_each(|(all, one)| all.push(one));
        }
    }
    let [ours, bare, alike] = times.map(median);
    let isolation = sandbox.isolation().to_string();
    println!(
        "{}",
        json!({"isolation": isolation, "ours_ms": ours, "bare_ms": bare, "alike_ms": alike})
    );
}

fn alike(places: &Places) -> Vec<String> {
    let [work, input] = [&places.work, &places.input].map(|path| path.display().to_string());
    let word = |word: &str| match word {
        "WORK" => work.clone(),
        "INPUT" => input.clone(),
        other => other.to_owned(),
    };
    let mut line = Vec::new();
    // First: in the end nothing can be added any more.
    for directory in ["/bin", "/lib", "/lib64", "/sbin"] {
        let shown = match std::fs::read_link(directory) {
            Ok(target) => ["--symlink".to_owned(), target.display().to_string()],
            Err(_) => ["--ro-bind-try".to_owned(), directory.to_owned()],
        };
        line.extend(shown);
        line.push(directory.to_owned());
    }
    line.extend(ALIKE.split_whitespace().map(word));
    line.extend(["--", "/usr/bin/true"].map(str::to_owned));
    line
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
async fn by_hand(line: &[String]) -> f64 {
    let begun = Instant::now();
    let mut command = tokio::process::Command::new("bwrap");
    command.args(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
