//! An owner who says no while the node is about to take a job.

use std::fs;
use std::time::Duration;

use miner_node::capacity::Footprint;
use miner_node::coordinator::Free;
use miner_node::listener::View;
use miner_node::sharing::FOR_EVER;
use mock_coordinator::Call;
use protocol::{JobId, JobState};
use serde_json::{Value, json};

use crate::rig::{Rig, Running, eventually, exists, script_job};

/// Ends when a file `go` is put beside it.
const WAIT: &str = "echo x > here; until [ -e go ]; do sleep 0.05; done";

async fn one_at_a_time() -> Rig {
    let mut rig = Rig::new().await;
    rig.config.resources.max_concurrency = Some(1);
    rig
}

fn change(running: &Running, changes: &Value) {
    running.node.sharing.change(changes.as_object().unwrap()).unwrap();
}

/// That nobody has the job, over so many questions that a node which asks would have it.
async fn stays_queued(rig: &Rig, id: JobId) {
    for _ in 0..50 {
        assert_eq!(rig.mock.job(id).await.unwrap().state, JobState::Queued);
    }
}

#[tokio::test]
async fn a_place_that_came_free_after_the_no_is_not_filled() {
    let rig = one_at_a_time().await;
    let running = rig.run().await;
    let first = rig.submit_script(WAIT).await;
    exists(&rig.job_dir(first).join("work/here")).await;
    let second = rig.submit_script("true").await;
    change(&running, &json!({"compute": false}));
    let says = |call: &Call, text: &str| {
        let body = call.body.as_ref().filter(|_| call.is("POST /v1/miner/heartbeat"));
        body.is_some_and(|body| body["status"] == "BUSY" && body["metrics"]["not_taking"] == text)
    };
    rig.mock.journal.wait_for(|call| says(call, "off: jobs are switched off")).await;
    fs::write(rig.job_dir(first).join("work/go"), "").unwrap();
    rig.result(first).await;
    eventually(async || (running.node.slots.free() == 1).then_some(())).await;
    stays_queued(&rig, second).await;
    change(&running, &json!({"compute": true}));
    rig.result(second).await;
    running.end().await;
}

#[tokio::test]
async fn who_asks_why_hears_of_jobs_that_have_all_the_memory() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let told = || View::of(&node).work.obstacles.join("; ");
    assert!(!told().contains("of memory are needed"), "{}", told());
    let all = Footprint { ram_mb: node.capacity.ram_mb(), ..Footprint::default() };
    let booking = node.capacity.enter(all);
    booking.begin(0).unwrap();
    assert!(told().contains("of memory are needed, 0 are left"), "{}", told());
}

#[tokio::test]
async fn a_question_that_is_open_is_taken_back() {
    let rig = one_at_a_time().await;
    let running = rig.run().await;
    let first = rig.submit_script("true").await;
    rig.result(first).await;
    // The place is in hand: it asks again, and is held until there is a job.
    let asking = async || {
        let free = (running.node.leases.count(), running.node.slots.free());
        (free == (0, 0)).then_some(())
    };
    eventually(asking).await;
    change(&running, &json!({"snooze_until": FOR_EVER}));
    // What the node says next, it says after the end of that question.
    let beats = || rig.mock.journal.all(|call| call.is("POST /v1/miner/heartbeat")).len();
    let before = beats();
    eventually(async || (beats() > before).then_some(())).await;
    let second = rig.submit_script("true").await;
    stays_queued(&rig, second).await;
    change(&running, &json!({"snooze_until": null}));
    rig.result(second).await;
    running.end().await;
}

#[tokio::test]
async fn a_job_that_crossed_with_the_no_goes_back_with_the_reason() {
    let mut rig = one_at_a_time().await;
    rig.config.mining.policy.compute = false;
    let running = rig.run().await;
    let node = &running.node;
    node.standing.subscribe().wait_for(|standing| standing.registered).await.unwrap();
    let id = rig.submit(script_job("true")).await;
    let room = Footprint { ram_mb: 1 << 20, threads: 64, disk_mb: 1 << 20 };
    let free = Free { slots: 1, room };
    let asked = node.coordinator.next(&node.identity.node_id, free, Duration::ZERO).await;
    node.give_back(&asked.unwrap().unwrap()).await;
    let error = rig.failed(id, "E_CANCELED").await.error.unwrap();
    assert!(error.message.contains("off: jobs are switched off"), "{}", error.message);
    eventually(async || (node.leases.count() == 0).then_some(())).await;
    assert!(!rig.job_dir(id).exists());
    running.end().await;
}
