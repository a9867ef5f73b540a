//! Ending a node: in peace, within its grace time, and as a process that gets signals.

use std::os::unix::net::UnixDatagram;

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

/// Reads until somebody says `word`; a test that fails waits for the time-out.
fn hear(ear: &UnixDatagram, word: &str) {
    let mut buffer = [0; 4096];
    loop {
        let length = ear.recv(&mut buffer).unwrap();
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_it_works_that_it_lives_and_when_it_ends() {
    let rig = Rig::new().await;
    let place = rig.root.path().join("notify");
    let ear = UnixDatagram::bind(&place).unwrap();
    ear.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let environment = [("NOTIFY_SOCKET", place.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut process = rig.spawn_with(&environment);
    tokio::task::spawn_blocking(move || {
        hear(&ear, "READY=1");
        hear(&ear, "WATCHDOG=1");
        hear(&ear, "WATCHDOG=1");
        let code = std::thread::spawn(move || process.terminate());
        hear(&ear, "STOPPING=1");
        assert_eq!(code.join().unwrap(), Some(0));
    })
    .await
    .unwrap();
}
