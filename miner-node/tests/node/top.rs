//! A running node as its owner watches it, and what it counts over its lives.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::rig::{Rig, eventually, exists};

/// Ends when a file `go` is put beside it.
const WAIT: &str = "echo x > here; until [ -e go ]; do sleep 0.05; done";

/// What `miner-node top` says of the node of `rig`.
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn top(rig: &Rig, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_miner-node"))
        .arg("--config")
        .arg(rig.root.path().join("miner.yaml"))
        .arg("top")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn status(rig: &Rig) -> Value {
    serde_json::from_slice(&top(rig, &["--json"]).stdout).unwrap_or_default()
}

/// What it answers at its control socket.
pub async fn get(rig: &Rig, path: &str) -> String {
    let socket = rig.config.workspace.root.join("control.sock");
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let reply = client.get(format!("http://localhost{path}")).send().await.unwrap();
    assert_eq!(reply.status(), 200, "{path}");
    reply.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_is_seen() {
    let rig = Rig::new().await;
    let mut node = rig.spawn();
    let id = rig.submit_script(WAIT).await;
    exists(&rig.job_dir(id).join("work/here")).await;

    let output = top(&rig, &["--once"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.contains(&id.to_string())).unwrap();
    assert!(line.starts_with("jobs ") && line.contains(" running "), "{line}");
    for part in ["node      rig7 ", ": registered, heartbeat ", "1 running", "nothing mines here"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Standard output is no terminal: the same without being asked for.
    assert!(String::from_utf8(top(&rig, &[]).stdout).unwrap().contains(&id.to_string()));
    let status = status(&rig);
    assert_eq!(status["work"]["jobs"][0]["id"], id.to_string());
    assert_eq!((&status["work"]["running"], &status["totals"]["starts"]), (&json!(1), &json!(1)));

    let health: Value = serde_json::from_str(&get(&rig, "/healthz").await).unwrap();
    assert_eq!((&health["running"], &health["queued"]), (&json!(1), &json!(0)), "{health}");
    assert!(health["cpu_load"].is_number() && health["vram_free"].is_null(), "{health}");
    let page = get(&rig, "/metrics").await;
    for part in
        ["aitbc_node_jobs_running 1\n", "aitbc_node_queue_length 0\n", "aitbc_node_cpu_load "]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("vram_free"), "{page}");

    fs::write(rig.job_dir(id).join("work/go"), "").unwrap();
    rig.result(id).await;
    node.terminate();
    let output = top(&rig, &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no node runs here"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_outlasts_kill_9() {
    let rig = Rig::new().await;
    let mut node = rig.spawn();
    let file = rig.config.workspace.root.join("counters.json");
    let completed = |count: u64| {
        let file = &file;
        async move || {
            let text = fs::read(file).unwrap_or_default();
            let kept: Value = serde_json::from_slice(&text).unwrap_or_default();
            (kept["jobs"]["completed"] == count).then_some(kept)
        }
    };
    let first = rig.submit_script("true").await;
    rig.result(first).await;
    eventually(completed(1)).await;
    node.kill();

    let mut node = rig.spawn();
    let second = rig.submit_script("true").await;
    rig.result(second).await;
    let kept = eventually(completed(2)).await;
    assert_eq!(kept["starts"], 2, "{kept}");
    let page = get(&rig, "/metrics").await;
    for part in [
        "aitbc_node_jobs_total{outcome=\"completed\"} 2\n",
        "aitbc_node_job_seconds_count 2\n",
        "aitbc_node_starts_total 2\n",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let earned = |page: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix("aitbc_node_earned_total "));
        line.unwrap().parse().unwrap()
    };
    assert!(earned(&page) > 0.0, "{page}");
    node.terminate();
}
