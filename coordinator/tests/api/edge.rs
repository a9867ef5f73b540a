//! What every request and reply passes, whatever it is about.

use axum::body::Body;
use axum::http::Method;
use futures_util::stream;
use protocol::client::{Health, PublicKeys};
use protocol::{ErrorCode, JSON_CONTENT_TYPE, signing};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{Engine, Request, TestApp, on_both_engines};

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let app = TestApp::sqlite().await;
    let id = async |given: Option<&str>| {
        let request = Request::get("/healthz");
        let request = match given {
            Some(given) => request.header("x-request-id", given),
            None => request,
        };
        request.send(&app).await.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id(Some("abc-123")).await, "abc-123");
    let made = id(None).await;
    assert_eq!(made.len(), 32);
    assert_ne!(made, id(None).await);
    assert_ne!(id(Some("no blanks")).await, "no blanks");
    let refused = Request::get("/v1/jobs").header("x-request-id", "lost").send(&app).await;
    assert_eq!(refused.headers["x-request-id"], "lost");
}

#[tokio::test]
async fn json_says_its_charset() {
    let app = TestApp::sqlite().await;
    let client = app.client("c").await;
    for path in ["/healthz", "/readyz", "/v1/health", "/v1/keys"] {
        let reply = Request::get(path).send(&app).await.expect(200);
        assert_eq!(reply.headers["content-type"], JSON_CONTENT_TYPE, "{path}");
    }
    let reply = client.post("/v1/jobs", json!({"workload": "hash"})).await.expect(201);
    assert_eq!(reply.headers["content-type"], JSON_CONTENT_TYPE);
}

#[tokio::test]
async fn only_what_is_public_answers_without_key() {
    let app = TestApp::sqlite().await;
    for path in ["/v1/jobs", "/v1/wallet/balance", "/v1/admin/keys", "/v1/miner/next"] {
        Request::get(path).send(&app).await.refused(ErrorCode::UnauthorizedKey);
    }
    // Outside of /v1 there is none of it.
    for path in ["/jobs", "/miner/next", "/wallet/balance", "/v1", "/v1/", "/v2/jobs"] {
        Request::get(path).send(&app).await.refused(ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_known_route_with_another_method_is_405_and_says_which_it_has() {
    let app = TestApp::sqlite().await;
    for (path, allow) in [("/v1/health", "GET"), ("/v1/jobs", "POST"), ("/v1/miner/proof", "POST")]
    {
        let reply = Request::new(Method::PATCH, path).send(&app).await;
        let allowed = reply.headers["allow"].to_str().unwrap().to_owned();
        assert!(allowed.contains(allow), "{path}: {allowed}");
        reply.refused(ErrorCode::MethodNotAllowed);
    }
}

#[tokio::test]
async fn protocol_versions_that_are_not_served_are_told_so() {
    let app = TestApp::sqlite().await;
    let with = async |version| {
        Request::get("/v1/health").header("x-aitbc-protocol", version).send(&app).await
    };
    with("1").await.expect(200);
    for version in ["0", "2", "99999999999", "x", ""] {
        let refused = with(version).await;
        let details = refused.json::<Value>()["error"]["details"].clone();
        assert_eq!((&details["oldest"], &details["current"]), (&json!(1), &json!(1)));
        refused.refused(ErrorCode::UpgradeRequired);
    }
}

on_both_engines! {
    async fn health_tells_who_answers(app: TestApp) {
        let health: Health = Request::get("/v1/health").send(&app).await.expect(200).json();
        assert_eq!((health.status.as_str(), health.protocol), ("ok", 1));
        assert_eq!(health.server_time, app.app.now());
        let keys: PublicKeys = Request::get("/v1/keys").send(&app).await.expect(200).json();
        assert_eq!(keys.keys[0].key_id, signing::key_id(&app.app.attestor.verifying_key()));
        let metrics = Request::get("/metrics").send(&app).await.expect(200);
        assert!(metrics.text().contains("aitbc_ready"));
    }

    async fn a_closed_database_is_503_and_the_process_lives(app: TestApp) {
        let client = app.client("c").await;
        client.get("/v1/jobs").await.expect(200);
        app.app.db.close().await;
        for request in [Request::get("/readyz"), Request::get("/v1/jobs").key(&client.key)] {
            let refused = request.send(&app).await;
            assert!(refused.headers.contains_key("retry-after"));
            refused.refused(ErrorCode::DbUnavailable);
        }
        Request::get("/healthz").send(&app).await.expect(200);
    }
}

#[tokio::test]
async fn bodies_have_the_limit_of_their_route() {
    let app = TestApp::with(Engine::Sqlite, |config| {
        config.limits.json_bytes = 1000;
        config.limits.batch_bytes = 3000;
    })
    .await;
    let client = app.client("c").await;
    let jobs =
        |bytes: usize| json!({"jobs": [{"workload": "hash", "params": {"x": "y".repeat(bytes)}}]});
    let job = |bytes: usize| json!({"workload": "hash", "params": {"x": "y".repeat(bytes)}});
    client.post("/v1/jobs", job(500)).await.expect(201);
    client.post("/v1/jobs", job(2000)).await.refused(ErrorCode::PayloadTooLarge);
    client.post("/v1/jobs/batch", jobs(2000)).await.expect(200);
    client.post("/v1/jobs/batch", jobs(4000)).await.refused(ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn beyond_its_places_the_house_is_full() {
    let app = TestApp::with(Engine::Sqlite, |config| {
        config.limits.long_polls = 1;
        config.limits.concurrency = 1;
    })
    .await;
    let miner = app.registered("m").await;
    let poll = miner.get("/v1/miner/next?miner=m&slots=1&wait=30");
    tokio::pin!(poll);
    // Once polled, it holds the only place until something answers it.
    while !holds_its_place(&app, poll.as_mut()).await {}
    let full = miner.get("/v1/miner/next?miner=m&slots=1").await;
    assert_eq!(full.headers["retry-after"], "1");
    full.refused(ErrorCode::Overloaded);
    // Long-polls take no place from other requests.
    miner.get("/v1/wallet/balance").await.expect(200);
    app.app.dispatch.drain();
    poll.await.expect(204);
}

/// Polls a request and tells whether it waits at the dispatcher.
async fn holds_its_place(
    app: &TestApp,
    mut poll: std::pin::Pin<&mut impl Future<Output = crate::support::Reply>>,
) -> bool {
    tokio::select! {
        biased;
        reply = &mut poll => panic!("answered: {}", reply.text()),
        () = tokio::task::yield_now() => {}
    }
    // A second caller is refused exactly while the first holds the place.
    let key = &app.admin_key;
    let probe = Request::get("/v1/miner/next?miner=m&slots=0").key(key).send(app).await;
    probe.code() == ErrorCode::Overloaded
}

/// An upload that is at work until it is told to go on, what tells that it is, and what tells it.
fn slow_upload() -> (Request, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (polled, at_work) = oneshot::channel();
    let (go_on, rest) = oneshot::channel::<()>();
    let bytes = stream::once(async move {
        polled.send(()).unwrap();
        rest.await.unwrap();
        Ok::<_, std::io::Error>("data")
    });
    let request = Request::new(Method::POST, "/v1/inputs").body(Body::from_stream(bytes));
    (request, at_work, go_on)
}

#[tokio::test]
async fn transfers_have_places_of_their_own_and_no_key_takes_them_all() {
    let app = TestApp::with(Engine::Sqlite, |config| {
        config.limits.concurrency = 1;
        config.limits.transfers = 2;
        config.limits.transfers_per_key = 1;
    })
    .await;
    let (one, two, three) = (app.client("c").await, app.client("d").await, app.client("e").await);
    let upload = || Request::new(Method::POST, "/v1/inputs").body("other");
    let (first, first_at_work, finish_first) = slow_upload();
    let (second, second_at_work, finish_second) = slow_upload();
    let while_both_are_at_work = async {
        second_at_work.await.unwrap();
        three.send(upload()).await.refused(ErrorCode::Overloaded);
        one.get("/v1/jobs").await.expect(200);
        finish_second.send(()).unwrap();
    };
    let while_the_first_is_at_work = async {
        first_at_work.await.unwrap();
        let refused = one.send(upload()).await;
        assert_eq!(refused.headers["retry-after"], "1");
        refused.refused(ErrorCode::RateLimited);
        three.send(upload()).await.expect(201);
        let (second, ()) = tokio::join!(two.send(second), while_both_are_at_work);
        second.expect(201);
        finish_first.send(()).unwrap();
    };
    let (first, ()) = tokio::join!(one.send(first), while_the_first_is_at_work);
    first.expect(201);
    one.send(upload()).await.expect(201);
}
