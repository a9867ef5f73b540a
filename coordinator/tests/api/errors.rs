//! Every error code, produced by a real request; [`Reply`] checks the envelope of each.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::Method;
use futures_util::{poll, stream};
use protocol::ErrorCode;
use serde_json::json;

use crate::support::{Engine, Reply, Request, TestApp, on_both_engines, proven};

const KEY: &str = "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11";

async fn raw(app: &TestApp, key: &str, content_type: &str, body: &'static str) -> Reply {
    let request = Request::new(Method::POST, "/v1/jobs").header("content-type", content_type);
    request.key(key).body(body).send(app).await
}

/// Requests that are refused for what they are.
async fn malformed(app: &TestApp) -> Vec<Reply> {
    let client = app.client("c1").await;
    let job = || json!({"workload": "hash"});
    let key = |text: &str| Request::post("/v1/jobs", job()).header("idempotency-key", text);
    client.send(key(KEY)).await.expect(201);
    let reused = Request::post("/v1/jobs", json!({"workload": "torch_bench"}));
    let old = Request::get("/v1/jobs").header("x-aitbc-protocol", "0");
    let large = Body::from(vec![b' '; 3 * 1024 * 1024]);
    let large = Request::post("/v1/jobs", json!({})).body(large);
    vec![
        raw(app, &client.key, "application/json", "{").await,
        raw(app, &client.key, "text/plain", "{}").await,
        client.get("/v1/jobs?limit=x").await,
        client.send(key("x")).await,
        client.send(reused.header("idempotency-key", KEY)).await,
        client.post("/v1/jobs", json!({"priority": 1})).await,
        client.send(old).await,
        client.send(large).await,
        client.get("/v1/nothing/here").await,
        client.send(Request::new(Method::PATCH, "/v1/jobs")).await,
        Request::get("/v1/jobs").send(app).await,
        client.get("/v1/admin/stats").await,
    ]
}

/// Requests about what is not there, or not theirs.
async fn missing(app: &TestApp) -> Vec<Reply> {
    let client = app.client("c1").await;
    let prepaid = app.prepaid_client("p1").await;
    let (miner, other) = (app.registered("m1").await, app.registered("m2").await);
    let nowhere = json!({"amount": "1", "reference": "r"});
    let deposit = Request::post("/v1/admin/wallets/nobody/deposit", nowhere);
    let revoke = Request::delete("/v1/admin/keys/client-0011223344556677");
    let id = client.submit_any().await;
    let unheard = json!({"workload": "unheard_of", "require_now": true});
    let input = format!("/v1/inputs/{}", protocol::Sha256Hex::of(b"x"));
    vec![
        client.get("/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV").await,
        client.get(&format!("/v1/jobs/{id}/receipt")).await,
        client.get(&format!("/v1/jobs/{id}/result")).await,
        client.get(&format!("/v1/jobs/{id}/artifacts/1")).await,
        miner.get("/v1/miner/next?miner=nobody&slots=1").await,
        miner.get(&input).await,
        deposit.key(&app.admin_key).send(app).await,
        revoke.key(&app.admin_key).send(app).await,
        other.get("/v1/miner/next?miner=m1&slots=1").await,
        other.get("/v1/wallet/balance?wallet=w-m1").await,
        prepaid.post("/v1/jobs", json!({"workload": "hash"})).await,
        client.post("/v1/jobs", unheard).await,
    ]
}

/// Proofs and calls that come too late, or claim too much.
async fn unproven(app: &TestApp) -> Vec<Reply> {
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    client.submit(json!({"workload": "hash", "artifacts": [{"path": "a"}]})).await;
    let job = miner.take().await;
    miner.upload(&job, &[("a", b"x")]).await.expect(201);
    let mut proof = miner.proof(&job, "out");
    proof.artifacts = vec![proven("a", b"y")];
    let mismatch = miner.prove(&proof).await;
    proof.artifacts = vec![proven("a", b"x")];
    let mut unsigned = proof.clone();
    let mut receipt = miner.receipt(&job, &proof, "1000000");
    receipt.signature = None;
    unsigned.receipt = Some(receipt.clone());
    let bad_signature = miner.prove(&unsigned).await;
    let mut greedy = proof.clone();
    greedy.receipt = Some(receipt.signed(&miner.signer));
    let exceeded = miner.prove(&greedy).await;
    miner.prove(&proof).await.expect(201);
    let duplicate = miner.prove(&miner.proof(&job, "other")).await;
    let ended = miner.ack(&job).await;
    let beyond = Request::get(&format!("/v1/jobs/{}/artifacts/1", job.id));
    let beyond = client.send(beyond.header("range", "bytes=1-")).await;

    client.submit_any().await;
    let lost = miner.take().await;
    let bare = miner.post(&format!("/v1/miner/jobs/{}/ack", lost.id), json!({})).await;
    vec![mismatch, bad_signature, exceeded, duplicate, ended, beyond, bare]
}

/// Two requests with one key in one flush: the second has lost.
async fn in_flight(app: &TestApp) -> Reply {
    let client = app.client("c1").await;
    let send = || {
        let request = Request::post("/v1/jobs", json!({"workload": "hash"}));
        client.send(request.header("idempotency-key", KEY))
    };
    // The key of the client is known from here on: nothing stands between request and queue.
    client.get("/v1/jobs").await.expect(200);
    let (mut first, mut second) = (Box::pin(send()), Box::pin(send()));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    first.await.expect(201);
    second.await
}

/// A queue for one row, and three at once.
async fn overloaded(engine: Engine) -> Reply {
    let app = TestApp::with(engine, |config| config.limits.queue_rows = 1).await;
    let client = app.client("c1").await;
    let send = || Box::pin(client.post("/v1/jobs", json!({"workload": "hash"})));
    client.get("/v1/jobs").await.expect(200);
    let (mut one, mut two) = (send(), send());
    assert!(poll!(&mut one).is_pending());
    match poll!(&mut two) {
        std::task::Poll::Ready(reply) => reply,
        std::task::Poll::Pending => panic!("the queue has room for one"),
    }
}

async fn rate_limited(engine: Engine) -> Reply {
    let app = TestApp::with(engine, |config| config.limits.client_per_minute = 2).await;
    let client = app.client("c1").await;
    for _ in 0..2 {
        let reply = client.get("/v1/jobs").await.expect(200);
        assert!(reply.headers.contains_key("x-ratelimit-remaining"));
    }
    let reply = client.get("/v1/jobs").await;
    assert!(reply.headers.contains_key("retry-after"));
    app.advance(60);
    client.get("/v1/jobs").await.expect(200);
    reply
}

/// A body that never comes.
async fn timed_out(engine: Engine) -> Reply {
    let app = TestApp::with(engine, |config| config.limits.request_secs = 0).await;
    let client = app.client("c1").await;
    let never = stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::post("/v1/jobs", json!({})).body(Body::from_stream(never));
    client.send(request).await
}

/// A file that somebody took away behind the coordinator's back.
async fn internal(app: &TestApp) -> Reply {
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    let id = client.submit(json!({"workload": "hash", "artifacts": [{"path": "a"}]})).await;
    let job = miner.take().await;
    miner.upload(&job, &[("a", b"x")]).await.expect(201);
    let mut proof = miner.proof(&job, "out");
    proof.artifacts = vec![proven("a", b"x")];
    miner.prove(&proof).await.expect(201);
    std::fs::remove_dir_all(app.dir.path().join("artifacts")).unwrap();
    client.get(&format!("/v1/jobs/{id}/artifacts/1")).await
}

/// What the operator decided against.
async fn decided(app: &TestApp) -> Vec<Reply> {
    let client = app.client("c1").await;
    let mut replies = Vec::new();
    for controls in [
        json!({"intake": false}),
        json!({"clients": {"c1": {"banned": "unpaid"}}}),
        json!({"clients": {"c1": {"max_live_jobs": 0}}}),
        json!({"daily_cap": "0"}),
    ] {
        app.decide(controls).await;
        replies.push(client.post("/v1/jobs", json!({"workload": "hash"})).await);
    }
    replies
}

async fn unavailable(app: &TestApp) -> Reply {
    let client = app.client("c1").await;
    app.app.db.close().await;
    client.get("/v1/jobs").await
}

on_both_engines! {
    async fn every_error_code_comes_from_a_real_request(app: TestApp) {
        let engine = app.engine();
        let fresh = || TestApp::with(engine, |_| {});
        let mut replies = malformed(&app).await;
        replies.extend(missing(&fresh().await).await);
        replies.extend(unproven(&fresh().await).await);
        replies.extend(decided(&fresh().await).await);
        replies.push(in_flight(&fresh().await).await);
        replies.push(overloaded(engine).await);
        replies.push(rate_limited(engine).await);
        replies.push(timed_out(engine).await);
        replies.push(internal(&fresh().await).await);
        replies.push(unavailable(&fresh().await).await);
        let seen: HashSet<ErrorCode> = replies.iter().map(Reply::code).collect();
        let unseen: Vec<_> = ErrorCode::ALL.iter().filter(|code| !seen.contains(code)).collect();
        assert!(unseen.is_empty(), "{unseen:?}");
    }

    async fn refusals_say_nothing_about_the_inside(app: TestApp) {
        for reply in [internal(&app).await, unavailable(&app).await] {
            let text = reply.text().to_lowercase();
            for word in ["sql", "pool", "postgres", "panic", "/tmp", "no such file"] {
                assert!(!text.contains(word), "{text}");
            }
        }
    }
}
