//! Delivers what is in the outbox, again and again until it is answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::miner::Fail;
use protocol::proof::Credited;
use protocol::{FailureCode, Units};
use serde_json::Map;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::coordinator::{CallError, Remedy};
use crate::node::Node;
use crate::outbox::{Body, Delivery, Report, Settled};
use crate::receipts;
use crate::tally::Outcome;
use crate::workdir::{Phase, write_json};

/// Pause after a refusal that only the owner can put right.
const OWNER_PAUSE: Duration = Duration::from_secs(60);

/// The most reports that are on their way at once.
const MOST_AT_ONCE: usize = 16;

/// Delivers until `end`.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = node.outbox.wait() => {}
            () = end.cancelled() => return,
        }
        tokio::select! {
            () = tick(&node) => {}
            () = end.cancelled() => return,
        }
    }
}

/// Sends every report that is due, once.
pub async fn tick(node: &Node) {
    for batch in node.outbox.due().chunks(MOST_AT_ONCE) {
        join_all(batch.iter().map(|delivery| deliver(node, delivery))).await;
    }
}

async fn deliver(node: &Node, delivery: &Delivery) {
    let report = &delivery.report;
    let answer = match &report.body {
        Body::Proof(proof) => {
            let credited = node.coordinator.proof(proof, &report.idempotency_key).await;
            credited.map(|credited| Some(Box::new(credited)))
        }
        Body::Fail(fail) => {
            let key = &report.idempotency_key;
            node.coordinator.fail(report.job_id, fail, key).await.map(|_| None)
        }
    };
    match answer {
        Ok(Some(answer)) => credited(node, delivery, &answer),
        Ok(None) => settle(node, delivery, Settled::Failed),
        Err(error) => heed(node, delivery, &error),
    }
}

fn credited(node: &Node, delivery: &Delivery, answer: &Credited) {
    let receipt = &answer.receipt;
    node.tally.earned(answer.credited, answer.balance);
    if let Err(error) = write_json(&delivery.dir.receipt_file(), receipt) {
        warn!(event = "receipt_lost", job_id = %delivery.report.job_id, "receipt not kept: {error}");
    }
    settle(node, delivery, Settled::Credited);
    let id = delivery.report.job_id;
    info!(
        event = "job_done", job_id = %id, price = %receipt.price,
        "[JOB] done id={id} proof_submitted price={}", receipt.price
    );
}

/// Writes the outcome down, then forgets the report.
fn settle(node: &Node, delivery: &Delivery, settled: Settled) {
    let report = &delivery.report;
    let Some(waiting) = node.outbox.settle(report) else { return };
    node.tally.ended(match &settled {
        Settled::Credited => Outcome::Completed,
        Settled::Failed => Outcome::Failed,
        Settled::Refused(_) => Outcome::Lost,
    });
    let (phase, why) = match (&settled, &report.body) {
        (Settled::Credited, _) => (Phase::Done, None),
        (Settled::Failed, Body::Fail(fail)) => (Phase::Failed, fail.error_message.clone()),
        (Settled::Failed, Body::Proof(_)) => (Phase::Failed, None),
        (Settled::Refused(why), _) => (Phase::Failed, Some(why.clone())),
    };
    node.finish(&delivery.dir, report.lease_token, phase, why);
    // After the phase: a crash in between repeats the report, which changes nothing.
    let gone = node.workspace.if_still(&delivery.dir, report.lease_token, |_| {
        std::fs::remove_file(delivery.dir.report_file())
    });
    // What is left of it is sent once more after the next start.
    drop(gone);
    node.leases.release(report.job_id, report.lease_token);
    waiting.tell(settled);
}

fn heed(node: &Node, delivery: &Delivery, error: &CallError) {
    let report = &delivery.report;
    let id = report.job_id;
    let least = match error.remedy() {
        Remedy::Retry(least) => least,
        Remedy::Owner => {
            node.complain(error);
            Some(OWNER_PAUSE)
        }
        Remedy::Register => {
            node.standing.send_modify(|standing| standing.registered = false);
            node.heartbeat_wake.notify_one();
            None
        }
        Remedy::Drop => {
            warn!(event = "report_refused", job_id = %id, "[JOB] lost id={id}: {error}");
            return settle(node, delivery, Settled::Refused(error.to_string()));
        }
        Remedy::Lower(most) => return replace(node, delivery, lowered(node, report, most)),
        Remedy::GiveUp => {
            error!(event = "report_refused", job_id = %id, "[JOB] refused id={id}: {error}");
            return match &report.body {
                Body::Proof(_) => replace(node, delivery, refused_proof(report, error)),
                Body::Fail(_) => settle(node, delivery, Settled::Refused(error.to_string())),
            };
        }
    };
    let cut_off = matches!(error, CallError::Unreachable(_));
    if let Some(pause) = node.outbox.postpone(report, least, cut_off, node.random_u32()) {
        warn!(
            event = "report_delayed", job_id = %id,
            "report about {id} not delivered, again in {:.1} s: {error}", pause.as_secs_f64()
        );
    }
}

fn replace(node: &Node, old: &Delivery, body: Body) {
    let report = Report { body, idempotency_key: node.uuid(), ..old.report.clone() };
    if let Err(error) = node.outbox.replace(old, report) {
        error!(event = "report_lost", job_id = %old.report.job_id, "{error}");
        node.outbox.postpone(&old.report, None, false, node.random_u32());
    }
}

/// The same proof with at most `most` units claimed; if that is no less than before, with no claim
/// at all, so that the coordinator states what it will pay.
fn lowered(node: &Node, report: &Report, most: Units) -> Body {
    let Body::Proof(proof) = &report.body else { return report.body.clone() };
    let mut proof = proof.clone();
    proof.receipt = proof
        .receipt
        .as_ref()
        .and_then(|receipt| receipts::lowered(receipt, most, &node.identity.key));
    Body::Proof(proof)
}

/// A proof that will never be accepted becomes a failure, so that the job goes to somebody else.
fn refused_proof(report: &Report, error: &CallError) -> Body {
    Body::Fail(Fail {
        lease_token: Some(report.lease_token),
        error_code: FailureCode::Internal,
        error_message: Some(format!("the proof was refused: {error}")),
        metrics: Map::new(),
        logs_tail: None,
    })
}
