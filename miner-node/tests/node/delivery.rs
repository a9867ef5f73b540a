//! Reports that get lost on the way, coordinators that come late, claims that are too high.

use miner_node::loops::{Options, Outcome};
use protocol::JobState;
use serde_json::json;

use crate::rig::{Rig, script_job};

#[tokio::test]
async fn a_proof_whose_answer_was_lost_is_sent_again_and_credited_once() {
    let rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/proof", "count": 1, "after": true, "drop": true},
    ]))
    .await;
    let node = rig.run().await;
    let id = rig.submit_script("echo once").await;
    rig.until_phase(id, "DONE").await;
    let proofs = rig.mock.journal.all(|call| call.is("POST /v1/miner/proof"));
    assert_eq!(proofs.len(), 2);
    assert_eq!(proofs[0].body, proofs[1].body);
    assert_eq!(rig.credits(id).await, 1);
    assert!(rig.job_dir(id).join("receipt.json").exists());
    assert!(!rig.job_dir(id).join("report.json").exists());
    node.end().await;
}

#[tokio::test]
async fn a_coordinator_that_is_away_for_a_while_loses_nothing() {
    let rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/register", "count": 2, "status": 503},
        {"route": "GET /v1/miner/next", "count": 1, "status": 502},
        {"route": "POST /v1/miner/jobs/*/ack", "count": 1, "status": 500},
        {"route": "POST /v1/miner/jobs/*/artifacts", "count": 1, "drop": true},
        {"route": "POST /v1/miner/proof", "count": 1, "status": 429},
    ]))
    .await;
    let node = rig.run().await;
    let mut job = script_job("echo result > result");
    job["artifacts"] = json!([{"path": "result"}]);
    let id = rig.submit(job).await;
    let result = rig.result(id).await;
    assert_eq!(result.artifacts.len(), 1);
    assert_eq!(rig.credits(id).await, 1);
    node.end().await;
}

#[tokio::test]
async fn after_a_cut_results_are_delivered_before_work_is_asked_for() {
    let mut rig = Rig::with_faults(json!([
        {"route": "POST /v1/miner/proof", "count": 2, "drop": true},
        {"route": "GET /v1/miner/next", "from": 2, "count": 1, "drop": true},
    ]))
    .await;
    rig.config.resources.max_concurrency = Some(1);
    rig.config.poll.wait_s = 0;
    let id = rig.submit_script("true").await;
    let node = rig.run().await;
    rig.until_phase(id, "DONE").await;
    node.end().await;
    let answers = rig.mock.journal.all(|call| {
        call.is("POST /v1/miner/proof") || (call.is("GET /v1/miner/next") && call.status == 204)
    });
    let first_poll = answers.iter().position(|call| call.is("GET /v1/miner/next"));
    let accepted = answers.iter().position(|call| call.status == 201).unwrap();
    assert!(first_poll.is_none_or(|poll| poll > accepted), "{answers:?}");
}

#[tokio::test]
async fn a_claim_above_the_ceiling_is_lowered_and_signed_again() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let mut job = script_job("sleep 0.3");
    job["constraints"] = json!({"max_price": "0.0000001"});
    let id = rig.submit(job).await;
    rig.result(id).await;
    let receipt = rig.receipt(id).await;
    assert_eq!(receipt.verify(), Ok(()));
    assert!(receipt.price <= "0.0000001".parse().unwrap(), "{}", receipt.price);
    assert!(receipt.signature.is_some());
    let proofs = rig.mock.journal.all(|call| call.is("POST /v1/miner/proof"));
    let statuses: Vec<_> = proofs.iter().map(|call| call.status.as_u16()).collect();
    assert_eq!(statuses, [422, 201]);
    node.end().await;
}

#[tokio::test]
async fn once_takes_one_job_and_tells_how_it_went() {
    let once = Options { once: true, standalone: false };
    for (script, outcome, state) in [
        ("true", Outcome::Good, JobState::Completed),
        ("false", Outcome::JobFailed, JobState::Failed),
    ] {
        let rig = Rig::new().await;
        let first = rig.submit_script(script).await;
        let second = rig.submit_script("true").await;
        assert_eq!(rig.run_with(once).await.outcome().await, outcome);
        assert_eq!(rig.mock.job(first).await.unwrap().state, state);
        assert_eq!(rig.mock.job(second).await.unwrap().state, JobState::Queued);
    }
}

#[tokio::test]
async fn standalone_calls_nobody() {
    let rig = Rig::new().await;
    let node = rig.run_with(Options { once: false, standalone: true }).await;
    assert_eq!(node.end().await, Outcome::Good);
    assert!(rig.mock.journal.all(|_| true).is_empty());
}
