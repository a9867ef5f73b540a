//! What needs an endpoint that can be made to break, against a stub: live events, interrupts,
//! partial files, controls, and lists that only an operator sees.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::response::{IntoResponse as _, Response};
use protocol::Sha256Hex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::program::Program;
use crate::stub::{Seen, Stub, refusal, reply};

const JOB: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const AT: &str = "2026-01-24T00:00:00Z";

fn view(state: &str) -> Value {
    json!({"job_id": JOB, "workload": "hash", "state": state, "attempt": 1, "priority": 0,
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.002"}, "created_at": AT,
        "expires_at": AT, "result_available": true})
}

fn stream(events: &[Value]) -> Response {
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
            stream(&rest)
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

#[tokio::test]
async fn logs_and_events_of_the_past() {
    let stub = brittle().await;
    let program = Program::at(&stub.url, Some("id.secret"));
    assert_eq!(program.run(&["job", "logs", JOB]).await.ok(), "one\ntwo\n");
    let events = program.run(&["job", "events", JOB]).await.ok();
    let golden = "1\t2026-01-24T00:00:00Z\tstate\tQUEUED\n\
                  2\t2026-01-24T00:00:00Z\tstate\tRUNNING {\"miner_id\":\"m1\"}\n\
                  3\t2026-01-24T00:00:00Z\tlog\tone t\n";
    assert!(events.starts_with(golden), "{events}");
    let lines = program.run(&["--json", "job", "events", JOB]).await.ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, story());
}

#[tokio::test]
async fn a_stream_that_only_ends_is_given_up() {
    let stub = Stub::start(|_| stream(&[])).await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let ended = program.run(&["job", "wait", JOB]).await.code(6);
    ended.says("the stream of events ends early");
}

/// A job that never ends, at a coordinator that is asked to cancel it.
async fn endless() -> Stub {
    Stub::start(|seen| match seen.line().as_str() {
        line if line.ends_with("/events") => {
            let body = futures_util::StreamExt::chain(
                futures_util::stream::iter([Ok::<_, std::io::Error>(format!(
                    "id: 2\ndata: {}\n\n",
                    story()[1]
                ))]),
                futures_util::stream::pending(),
            );
            axum::body::Body::from_stream(body).into_response()
        }
        line if line.ends_with("/cancel") => {
            reply(200, json!({"job_id": JOB, "state": "CANCELED"}))
        }
        _ => reply(200, view("CANCELED")),
    })
    .await
}

/// Ctrl-C, once the program says that the job runs.
async fn interrupt(mut child: Child) -> (i32, String) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("RUNNING") {
            break;
        }
    }
    let id = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&line);
    }
    (child.wait().await.unwrap().code().unwrap(), said)
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_alone_unless_told_otherwise() {
    let stub = endless().await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let submit = ["submit", "--workload", "hash", "--follow"];
    let canceled = |seen: &Seen| seen.path.ends_with("/cancel");
    // The stub answers a submit with a view, too.
    let (code, said) = interrupt(program.start(&submit)).await;
    assert_eq!(code, 130);
    assert!(said.contains(&format!("`aitbc job logs --follow {JOB}`")), "{said}");
    assert!(!stub.seen().iter().any(canceled));
    let cancel = [&submit[..], &["--cancel-on-interrupt"]].concat();
    let (code, _) = interrupt(program.start(&cancel)).await;
    assert_eq!(code, 3);
    assert!(stub.seen().iter().any(canceled));
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let content = "0123456789".repeat(1000);
    let sha256 = Sha256Hex::of(content.as_bytes());
    let list = json!({"items": [
        {"artifact_id": 1, "path": "a.bin", "sha256": sha256, "bytes": content.len()}]});
    let served = content.clone();
    let stub = Stub::start(move |seen| {
        let Some(range) = seen.header("range") else { return reply(200, list.clone()) };
        let from: usize = range[6..range.len() - 1].parse().unwrap();
        (axum::http::StatusCode::PARTIAL_CONTENT, served[from..].to_owned()).into_response()
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let partial = format!("got/.{:.32}.part", sha256.to_string());
    let fetch = ["job", "artifacts", JOB, "--download", "got"];
    program.file(&partial, &content[..4000], 0o644);
    program.run(&fetch).await.code(0);
    assert_eq!(program.read("got/a.bin"), content);
    let asked = stub.seen();
    assert_eq!(asked[1].header("range"), Some("bytes=4000-"));
    assert_eq!(asked[1].header("if-range").unwrap(), format!("\"{sha256}\""));
    // What was there was something else: it is not kept, and the next try starts anew.
    program.file(&partial, &"x".repeat(4000), 0o644);
    std::fs::remove_file(program.path("got/a.bin")).unwrap();
    program.run(&fetch).await.code(1).says("it was not kept");
    assert!(!program.path(&partial).exists() && !program.path("got/a.bin").exists());
}

#[tokio::test]
async fn single_controls_are_changed_with_the_version_that_was_read() {
    let puts = AtomicU32::new(0);
    let stub = Stub::start(move |seen| match seen.method.as_str() {
        "GET" => reply(200, json!({"version": 7, "intake": true, "dispatch": true, "fee_bp": 0})),
        _ if puts.fetch_add(1, Ordering::SeqCst) > 0 => refusal(409, "CONFLICT_STATE"),
        _ => reply(200, seen.json()),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let shown = program.run(&["controls", "get"]).await.ok();
    assert_eq!(shown, "dispatch=true\nfee_bp=0\nintake=true\nversion=7\n");
    let set = ["controls", "set", "intake=false", "clients.alice.banned=owes 5", "daily_cap=0.5"];
    let shown = program.run(&set).await.ok();
    assert!(shown.contains("clients.alice.banned=owes 5\n"), "{shown}");
    let put = stub.seen().last().unwrap().json();
    let wanted = json!({"version": 7, "intake": false, "dispatch": true, "fee_bp": 0,
        "daily_cap": "0.5", "clients": {"alice": {"banned": "owes 5"}}});
    assert_eq!(put, wanted);
    program.run(&set).await.code(4).says("CONFLICT_STATE").says("look again");
    program.run(&["controls", "set", "intak=false"]).await.code(2).says("`intake`");
}

#[tokio::test]
async fn why_is_laid_out() {
    let reason = json!({"requirement": "vram_mb", "count": 3, "needed": "24000", "best": "16384",
        "message": "3 miners online, none has vram_mb >= 24000; the largest has 16384"});
    let (for_job, for_miner) = (
        json!({"job_id": JOB, "state": "QUEUED", "summary": "It waits.", "ahead": 2,
            "reach": {"online": 3, "able": 0, "free": 0, "reasons": [reason]},
            "attempts": [{"fence": 1, "miner_id": "m1", "paid": false, "error_code": "E_OOM",
                "message": "failed"}]}),
        json!({"miner_id": "m1", "summary": "Nothing fits.", "queued": 4, "able": 0,
            "inflight": 1, "reasons": [reason]}),
    );
    let stub = Stub::start(move |seen| match seen.path.as_str() {
        "/v1/miners/m1/why" => reply(200, for_miner.clone()),
        _ => reply(200, for_job.clone()),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let row = "3\tvram_mb\t24000\t16384\t3 miners online, none has vram_mb >= 24000; the largest \
               has 16384\n";
    let golden = format!(
        "It waits.\njobs before it\t2\nminers online\t3\nable to run it\t0\nfree now\t0\n{row}\
         1\tm1\tno\t-\tE_OOM\tfailed\n"
    );
    assert_eq!(program.run(&["job", "why", JOB]).await.ok(), golden);
    let golden =
        format!("Nothing fits.\njobs queued\t4\nthat it could run\t0\nthat it holds\t1\n{row}");
    assert_eq!(program.run(&["miner", "why", "m1"]).await.ok(), golden);
    assert_eq!(stub.seen()[0].line(), format!("GET /v1/jobs/{JOB}/why"));
}

#[tokio::test]
async fn an_operators_tables() {
    let stub = Stub::start(|seen| match seen.path.as_str() {
        "/v1/admin/queues" => reply(
            200,
            json!({"server_time": "2026-01-24T00:01:00Z", "items":
            [{"class_id": 1, "needs": {"gpu": true}, "queued": 5, "delayed": 1, "held": 2,
                "oldest": AT, "able": 0}]}),
        ),
        "/v1/admin/rates" => reply(
            200,
            json!({"server_time": AT, "items": [{"secs": 3600,
            "submitted": 9, "ended": {"COMPLETED": 7, "FAILED": 1}, "failed_attempts": 2,
            "credited": "0.5", "wait_p50_ms": 12, "wait_p99_ms": 800}]}),
        ),
        "/v1/admin/capacities" => reply(
            200,
            json!({"server_time": AT, "online": 2, "cpu_slots": 8,
            "gpu_slots": 1, "inflight": 3, "workloads": {"hash": 2}, "models": {}, "regions": {}}),
        ),
        path if path.starts_with("/v1/admin/audit") => reply(
            200,
            json!({"items": [{"id": 4,
            "at": AT, "actor": "k1", "action": "key.create", "subject": "k2",
            "data": {"scope": "client"}}]}),
        ),
        _ => refusal(404, "NOT_FOUND"),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    for (words, golden) in [
        (&["queues"][..], "1\t5\t1\t2\t0\t60 s\t{\"gpu\":true}\n"),
        (&["rates"], "60 min\t9\t7 COMPLETED, 1 FAILED\t2\t0.5\t12 ms\t800 ms\n"),
        (
            &["capacities"],
            "miners online\t2\ncpu slots\t8\ngpu slots\t1\njobs at work\t3\nworkloads\t2 hash\n\
             models\tnone\nregions\tnone\n",
        ),
        (
            &["audit", "--action", "key.create"],
            "4\t2026-01-24T00:00:00Z\tk1\tkey.create\tk2\t{\"scope\":\"client\"}\n",
        ),
    ] {
        assert_eq!(program.run(words).await.ok(), golden, "{words:?}");
    }
    assert_eq!(stub.seen().last().unwrap().path, "/v1/admin/audit?action=key.create");
}

#[tokio::test]
async fn payouts_are_exported_and_marked() {
    let file = json!({"version": "1.0", "export_id": "x1", "since": AT,
        "until": "2026-02-01T00:00:00Z", "created_at": "2026-02-01T00:00:01Z",
        "items": [{"wallet": "w1", "amount": "1.5", "receipts": ["r1", "r2"]}], "total": "1.5"});
    let export = file.clone();
    let stub = Stub::start(move |seen| match seen.method.as_str() {
        "GET" => reply(200, export.clone()),
        _ => reply(201, json!({"export_id": "x1"})),
    })
    .await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let words =
        ["payouts", "export", "--since", "2026-01-24", "--until", "2026-02-01", "--output", "p"];
    let ended = program.run(&words).await.code(0).says("1.5 to 1 wallet for");
    assert_eq!(ended.stdout, "w1\t1.5 AITBC\t2\n");
    assert_eq!(serde_json::from_str::<Value>(&program.read("p")).unwrap(), file);
    assert_eq!(program.run(&["payouts", "mark", "p"]).await.ok(), "{\"export_id\":\"x1\"}\n");
    let seen = stub.seen();
    assert!(
        seen[0].path.ends_with("?since=2026-01-24T00%3A00%3A00Z&until=2026-02-01T00%3A00%3A00Z")
    );
    assert_eq!((seen[1].line().as_str(), seen[1].json()), ("POST /v1/admin/payouts", file));
    assert!(seen[1].header("idempotency-key").is_some());
    program.file("bad", "{}", 0o644);
    program.run(&["payouts", "mark", "bad"]).await.code(2).says("no payout file");
}

#[tokio::test]
async fn filters_reach_the_coordinator() {
    let stub = Stub::start(|_| reply(200, json!({"items": []}))).await;
    let program = Program::at(&stub.url, Some("id.secret"));
    let words = [
        "jobs",
        "--state",
        "failed,Canceled",
        "--workload",
        "hash",
        "--since",
        "2026-01-24",
        "--until",
        "2026-01-25T06:00:00Z",
        "--everybody",
        "--client",
        "alice",
        "--miner",
        "m1",
    ];
    program.run(&words).await.code(0);
    assert_eq!(
        stub.seen()[0].path,
        "/v1/admin/jobs?state=FAILED%2CCANCELED&workload=hash&since=2026-01-24T00%3A00%3A00Z\
         &until=2026-01-25T06%3A00%3A00Z&client=alice&miner=m1"
    );
    program.run(&["jobs", "--state", "lost"]).await.code(2).says("QUEUED");
    program.run(&["jobs", "--client", "alice"]).await.code(2).says("--everybody");
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
