//! `kill -9` in each state: after the restart there is exactly one outcome, and no orphan.

use std::path::Path;

use protocol::JobState;
use serde_json::json;

use crate::rig::{Rig, eventually, exists, script_job};

/// A call that took effect, but is not answered for as long as the first life of the node lasts.
const NEVER_MS: u64 = 25_000;

/// How many directories below `root` have a name that begins so.
fn directories(root: &Path, prefix: &str) -> usize {
    // Groups come and go.
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below
        .map(|entry| {
            let ours = entry.file_name().to_string_lossy().starts_with(prefix);
            usize::from(ours) + directories(&entry.path(), prefix)
        })
        .sum()
}

#[tokio::test]
async fn killed_while_leased() {
    let rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/jobs/*/ack", "count": 1, "after": true, "delay_ms": NEVER_MS, "drop": true},
    ]))
    .await;
    let mut job = script_job("echo done");
    job["max_attempts"] = json!(2);
    let mut process = rig.spawn();
    let id = rig.submit(job).await;
    rig.mock.journal.wait_for(|call| call.path.ends_with("/ack")).await;
    rig.until_phase(id, "PULLING").await;
    process.kill();
    let _again = rig.spawn();
    assert_eq!(rig.result(id).await.result, Some("done\n".into()));
    assert_eq!(rig.mock.job(id).await.unwrap().attempt, 2);
    assert_eq!(rig.credits(id).await, 1);
}

#[tokio::test]
async fn killed_while_running() {
    let rig = Rig::new().await;
    let mut process = rig.spawn();
    let id = rig.submit_script("touch here; setsid sleep 1000 & sleep 1000").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    let groups = format!("aitbc-job-{}-", process.id());
    process.kill();
    let _again = rig.spawn();
    rig.failed(id, "E_CRASH").await;
    assert_eq!(miner_node::sandbox::kill_orphans(&rig.job_dir(id)), 0);
    assert_eq!(directories(Path::new("/sys/fs/cgroup"), &groups), 0);
    assert_eq!(rig.credits(id).await, 0);
    rig.until_phase(id, "FAILED").await;
}

#[tokio::test]
async fn killed_while_uploading() {
    let rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/jobs/*/artifacts", "count": 1, "after": true, "delay_ms": NEVER_MS, "drop": true},
    ]))
    .await;
    let mut job = script_job("echo result > result");
    job["artifacts"] = json!([{"path": "result"}]);
    let mut process = rig.spawn();
    let id = rig.submit(job).await;
    rig.mock.journal.wait_for(|call| call.path.ends_with("/artifacts")).await;
    rig.until_phase(id, "UPLOADING").await;
    process.kill();
    let _again = rig.spawn();
    let result = rig.result(id).await;
    assert_eq!(result.artifacts.len(), 1);
    assert_eq!(rig.mock.job(id).await.unwrap().attempt, 1);
    assert_eq!(rig.credits(id).await, 1);
    // It was run once: the second life only delivered.
    let acks = rig.mock.journal.all(|call| call.path.ends_with("/ack"));
    assert_eq!(acks.len(), 1);
}

#[tokio::test]
async fn killed_while_proving() {
    let rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/proof", "count": 1, "after": true, "delay_ms": NEVER_MS, "drop": true},
    ]))
    .await;
    let mut process = rig.spawn();
    let id = rig.submit_script("echo done").await;
    // The coordinator has it; the node never hears of that.
    assert_eq!(rig.ended(id).await.state, JobState::Completed);
    process.kill();
    assert!(rig.job_dir(id).join("report.json").exists());
    let _again = rig.spawn();
    rig.until_phase(id, "DONE").await;
    eventually(async || (!rig.job_dir(id).join("report.json").exists()).then_some(())).await;
    let proofs = rig.mock.journal.all(|call| call.is("POST /v1/miner/proof"));
    let statuses: Vec<_> = proofs.iter().map(|call| call.status.as_u16()).collect();
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    assert_eq!(proofs[0].body, proofs[1].body);
    assert_eq!(rig.credits(id).await, 1);
}
