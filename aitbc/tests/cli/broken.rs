//! What a sound coordinator never does, from a stub: streams that break off or lie, answers of the
//! wrong hour, files that are not the coordinator's.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use protocol::Timestamp;
use protocol::payout::{PayoutFile, PayoutLine};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::program::Program;
use crate::stub::{Stub, refusal, reply};

const JOB: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const AT: &str = "2026-01-24T00:00:00Z";

fn view(state: &str) -> Value {
    json!({"job_id": JOB, "workload": "hash", "state": state, "attempt": 1, "priority": 0,
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.002"}, "created_at": AT,
        "expires_at": AT, "result_available": true})
}

fn events_of(events: &[Value]) -> Response {
    let text: String = events
        .iter()
        .map(|event| format!("id: {}\nevent: {}\ndata: {event}\n\n", event["seq"], event["kind"]))
        .collect();
    ([("content-type", "text/event-stream")], format!("retry: 1000\n\n: hello\n\n{text}"))
        .into_response()
}

/// The story of one job.
fn story() -> Vec<Value> {
    let log = |seq: u32, text: &str| json!({"seq": seq, "at": AT, "kind": "log", "fence": 1, "stream": "stdout", "text": text});
    vec![
        json!({"seq": 1, "at": AT, "kind": "state", "state": "QUEUED"}),
        json!({"seq": 2, "at": AT, "kind": "state", "state": "RUNNING", "miner_id": "m1"}),
        log(3, "one\nt"),
        json!({"seq": 4, "at": AT, "kind": "progress", "pct": 50, "note": "half"}),
        log(5, "wo\n"),
        json!({"seq": 6, "at": AT, "kind": "state", "state": "COMPLETED"}),
    ]
}

/// A coordinator whose streams break off after a few events each.
async fn brittle() -> Stub {
    Stub::start(|seen| match seen.line().as_str() {
        line if line.ends_with("/events") => {
            let after: u32 = seen.header("last-event-id").unwrap().parse().unwrap();
            // The last one before is sent again: nobody may see it twice.
            let rest: Vec<_> = story()
                .into_iter()
                .filter(|event| event["seq"].as_u64().unwrap() >= u64::from(after))
                .take(3)
                .collect();
            events_of(&rest)
        }
        "POST /v1/jobs" => reply(201, view("QUEUED")),
        _ => reply(200, view("COMPLETED")),
    })
    .await
}

#[tokio::test]
async fn following_survives_broken_streams() {
    let stub = brittle().await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let ended = program.run(&["submit", "--workload", "hash", "--follow"]).await.code(0);
    assert_eq!(ended.stdout, "one\ntwo\n");
    let said: Vec<_> = ended.stderr.lines().collect();
    let states = ["QUEUED", "RUNNING by m1", "50 % half", "COMPLETED"];
    assert_eq!(said[0], format!("aitbc: job {JOB}"));
    assert_eq!(said[1..], states.map(|state| format!("aitbc: {state}")));
    let ended = program.run(&["--json", "submit", "--workload", "hash", "--follow"]).await.ok();
    assert_eq!(ended.lines().count(), story().len());
    let resumed: Vec<_> = stub
        .seen()
        .iter()
        .filter_map(|seen| seen.header("last-event-id").map(str::to_owned))
        .collect();
    assert_eq!(resumed, ["0", "3", "5", "0", "3", "5"]);
}

/// A job that goes on and says nothing more for now.
const LIVE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";

#[tokio::test]
async fn a_log_is_whole_although_it_comes_slowly() {
    let (opened, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (open, held) = (opened.clone(), go_on.clone());
    let stub = Stub::start(move |seen| {
        let is_live = seen.path.contains(LIVE);
        if !seen.path.ends_with("/events") {
            return reply(200, view(if is_live { "RUNNING" } else { "COMPLETED" }));
        }
        let text = |event: &Value| format!("data: {event}\n\n");
        let story = story();
        let (first, rest) = story.split_at(3);
        let first: String = first.iter().map(text).collect();
        let rest: String = rest.iter().map(text).collect();
        let held = if is_live { Arc::new(Semaphore::new(0)) } else { held.clone() };
        if !is_live {
            open.add_permits(1);
        }
        let pause = async move {
            held.acquire().await.unwrap().forget();
            Ok(rest)
        };
        let pieces = stream::iter([Ok::<_, Infallible>(first)]).chain(stream::once(pause));
        let kind = [("content-type", "text/event-stream")];
        (kind, axum::body::Body::from_stream(pieces)).into_response()
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    for (what, of_live, of_ended) in [("logs", 2, 2), ("events", 3, story().len())] {
        let live = async {
            opened.acquire().await.unwrap().forget();
            // Gives up once its job was silent for as long as a live one may be.
            let live = program.run(&["job", what, LIVE]).await.ok();
            go_on.add_permits(1);
            live
        };
        let slow = ["job", what, JOB];
        let (ended, live) = tokio::join!(program.run(&slow), live);
        assert_eq!(live.lines().count(), of_live, "{live}");
        assert_eq!(ended.ok().lines().count(), of_ended);
    }
    assert_eq!(stub.seen().len(), 8);
}

#[tokio::test]
async fn a_stream_that_only_ends_is_given_up() {
    let stub = Stub::start(|_| events_of(&[])).await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let ended = program.run(&["job", "wait", JOB]).await.code(6);
    ended.says("the stream of events ends early");
}

#[tokio::test]
async fn a_stream_that_says_nothing_sensible_is_told() {
    for (events, words) in [
        ("data: {\"seq\": 1}\n\n", "makes no sense"),
        ("data: \u{0}\n\n", "makes no sense"),
        ("data\n\n", "makes no sense"),
    ] {
        let stub =
            Stub::start(move |_| ([("content-type", "text/event-stream")], events).into_response());
        let program = Program::at(&stub.await.url, Some("id.secret"));
        program.run(&["job", "wait", JOB]).await.code(6).says(words);
    }
    // The end of a job that never was.
    let stub = Stub::start(|_| axum::http::StatusCode::NO_CONTENT.into_response()).await;
    let program = Program::at(&stub.url, Some("id.secret"));
    program.run(&["job", "wait", JOB]).await.code(6).says("end without its end");
}

#[tokio::test]
async fn controls_that_changed_meanwhile_are_not_overwritten() {
    let stub = Stub::start(|seen| match seen.method.as_str() {
        "GET" => reply(200, json!({"version": 7, "intake": true, "dispatch": true, "fee_bp": 0})),
        _ => refusal(409, "CONFLICT_STATE"),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let set = ["controls", "set", "intake=false"];
    program.run(&set).await.code(4).says("CONFLICT_STATE").says("look again");
    assert_eq!(stub.seen()[1].json()["version"], 7);
}

#[tokio::test]
async fn a_payout_file_of_somebody_else_is_not_taken() {
    let (since, until) = (Timestamp::from_micros(0), Timestamp::from_micros(9));
    let line = PayoutLine {
        wallet: "w1".parse().unwrap(),
        amount: "1.5".parse().unwrap(),
        receipts: Vec::new(),
    };
    let bare = PayoutFile::new(since, until, until, vec![line]).unwrap();
    let theirs = bare.clone().signed(&ed25519_dalek::SigningKey::from_bytes(&[9; 32]));
    for (file, words) in [(bare, "no signature"), (theirs, "it is signed by")] {
        let file = serde_json::to_value(file).unwrap();
        let stub = Stub::start(move |seen| match seen.path.as_str() {
            "/v1/keys" => reply(200, json!({"keys": []})),
            _ => reply(200, file.clone()),
        })
        .await;
        let program = Program::at(&stub.url, Some("id.secret"));
        let export = ["payouts", "export", "--output", "p"];
        program.run(&export).await.code(1).says("NOT valid").says(words);
        assert!(!program.path("p").exists());
    }
}

#[tokio::test]
async fn only_what_may_have_been_taken_in_is_told_to_be() {
    for (status, code, may) in [
        (503, "INTAKE_PAUSED", false),
        (429, "QUOTA_EXCEEDED", false),
        (503, "DAILY_CAP_REACHED", false),
        (503, "NO_ELIGIBLE_MINER", false),
        (429, "RATE_LIMITED", false),
        (409, "IDEMPOTENCY_IN_FLIGHT", true),
        (408, "TIMEOUT", true),
        (500, "INTERNAL", true),
    ] {
        let stub = Stub::start(move |_| refusal(status, code)).await;
        let program = Program::at(&stub.url, Some("id.secret"));
        let ended = program.run(&["submit", "--workload", "hash"]).await;
        assert_eq!(ended.stderr.contains("may have been taken in"), may, "{ended:?}");
    }
    // Neither is it known after a reply that is none.
    let stub = Stub::start(|_| reply(201, json!({}))).await;
    let program = Program::at(&stub.url, Some("id.secret"));
    program.run(&["submit", "--workload", "hash"]).await.code(6).says("may have been taken in");
}

#[tokio::test]
async fn a_call_that_may_work_later_is_made_again_with_its_key() {
    let calls = AtomicU32::new(0);
    let stub = Stub::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => refusal(503, "OVERLOADED"),
        _ => reply(201, view("QUEUED")),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let submit = ["submit", "--workload", "hash"];
    let ended = program.run(&submit).await.code(6).says("OVERLOADED").says("--idempotency-key");
    let key = ended.stderr.split("--idempotency-key ").nth(1).unwrap();
    let key = key.split_whitespace().next().unwrap();
    program.run(&[&submit[..], &["--idempotency-key", key]].concat()).await.code(0);
    let seen = stub.seen();
    assert_eq!(seen[0].header("idempotency-key"), Some(key));
    assert_eq!(seen[1].header("idempotency-key"), Some(key));
    assert_eq!(seen[0].body, seen[1].body);
}
