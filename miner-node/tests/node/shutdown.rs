//! Ending a node: in peace, within its grace time, and as a process that gets signals.

use miner_node::loops::Outcome;
use protocol::JobState;

use crate::rig::{Rig, exists};

#[tokio::test]
async fn what_runs_when_the_grace_is_over_goes_back() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let id = rig.submit_script("touch here; sleep 1000").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    assert_eq!(node.end().await, Outcome::Good);
    let view = rig.failed(id, "E_CRASH").await;
    assert!(view.error.unwrap().message.contains("shutting down"));
    assert_eq!(miner_node::sandbox::kill_orphans(&rig.job_dir(id)), 0);
}

#[tokio::test]
async fn what_ends_within_the_grace_is_credited() {
    let mut rig = Rig::new().await;
    rig.config.shutdown.grace_s = 100;
    let node = rig.run().await;
    let id = rig.submit_script("touch here; while [ ! -e go ]; do sleep 0.05; done").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    let stop = node.stop.clone();
    let ended = tokio::spawn(node.end());
    stop.drain.cancelled().await;
    std::fs::write(rig.job_dir(id).join("work/go"), "").unwrap();
    assert_eq!(ended.await.unwrap(), Outcome::Good);
    assert_eq!(rig.ended(id).await.state, JobState::Completed);
}

#[tokio::test]
async fn a_second_request_does_not_wait_for_the_grace() {
    let mut rig = Rig::new().await;
    rig.config.shutdown.grace_s = 100_000;
    let node = rig.run().await;
    let id = rig.submit_script("trap '' TERM; touch here; while :; do sleep 1000; done").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    node.stop.request();
    assert_eq!(node.end().await, Outcome::Good);
    rig.failed(id, "E_CRASH").await;
}

#[tokio::test]
async fn a_process_ends_with_zero_on_sigterm() {
    let rig = Rig::new().await;
    let mut process = rig.spawn();
    let id = rig.submit_script("touch here; sleep 1000").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    let code = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
    rig.failed(id, "E_CRASH").await;
}
