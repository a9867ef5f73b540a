//! Keys: made, listed and revoked by an admin; counted for everybody.

use std::time::Duration;

use coordinator::accounts::keys::{Minted, issue};
use protocol::wallet::{CreatedKey, KeyView, NewKey, Page, Scope};
use protocol::{ErrorCode, JobId};
use serde_json::{Value, json};

use crate::support::{Engine, Request, TestApp, on_both_engines};

async fn make(app: &TestApp, body: Value) -> CreatedKey {
    Request::post("/v1/admin/keys", body).key(&app.admin_key).send(app).await.expect(201).json()
}

async fn revoke(app: &TestApp, id: &str) -> crate::support::Reply {
    Request::delete(&format!("/v1/admin/keys/{id}")).key(&app.admin_key).send(app).await
}

on_both_engines! {
    async fn a_key_works_until_it_is_revoked(app: TestApp) {
        let miner = make(&app, json!({"scope": "miner", "wallet": "w", "miner_id": "m"})).await;
        let balance = async || Request::get("/v1/wallet/balance").key(&miner.key).send(&app).await;
        balance().await.expect(200);
        revoke(&app, &miner.id).await.expect(204);
        // At once here, although the clock stands still.
        balance().await.refused(ErrorCode::UnauthorizedKey);
        revoke(&app, &miner.id).await.expect(204);
        revoke(&app, "miner-0000000000000000").await.refused(ErrorCode::KeyNotFound);
        revoke(&app, "..").await.refused(ErrorCode::KeyNotFound);
    }

    async fn another_replicas_revocation_counts_within_a_second(app: TestApp) {
        let miner = make(&app, json!({"scope": "miner", "wallet": "w"})).await;
        let balance = async || Request::get("/v1/wallet/balance").key(&miner.key).send(&app).await;
        balance().await.expect(200);
        let mut tx = app.app.db.write().await.unwrap();
        let now = app.app.now();
        let revoked = coordinator::accounts::store::revoke_key(&mut tx, now, &miner.id).await.unwrap();
        assert_eq!(revoked, coordinator::accounts::store::Revoked::Now);
        tx.commit().await.unwrap();
        balance().await.expect(200);
        app.clock.advance(Duration::from_secs(1));
        balance().await.refused(ErrorCode::UnauthorizedKey);
    }

    async fn a_key_works_within_a_second_although_it_was_tried_before(app: TestApp) {
        let minted = Minted::from_random(Scope::Miner, [7; 8], [8; 32]);
        let key = minted.key.clone();
        let balance = async || Request::get("/v1/wallet/balance").key(&key).send(&app).await;
        balance().await.refused(ErrorCode::UnauthorizedKey);
        let wallet = Some("w".parse().unwrap());
        let new = NewKey {
            scope: Scope::Miner,
            client: None,
            wallet,
            miner_id: None,
            funding: None,
            weight: None,
        };
        issue(&app.app.db, app.app.now(), "local", &new, minted).await.unwrap();
        app.advance(1);
        balance().await.expect(200);
    }

    async fn what_is_stored_is_no_secret(app: TestApp) {
        let made = make(&app, json!({"scope": "client", "client": "c"})).await;
        let secret = made.key.strip_prefix(&made.id).and_then(|rest| rest.strip_prefix('.'));
        let listed = Request::get("/v1/admin/keys").key(&app.admin_key).send(&app).await;
        assert!(!listed.text().contains(secret.unwrap()));
        let keys: Page<KeyView> = listed.expect(200).json();
        let view = keys.items.iter().find(|key| key.id == made.id).unwrap();
        assert_eq!(view.client.as_ref().map(ToString::to_string).as_deref(), Some("c"));
        assert_eq!((view.created_at, view.revoked_at), (app.app.now(), None));
    }

    async fn lists_have_pages(app: TestApp) {
        for _ in 0..4 {
            make(&app, json!({"scope": "admin"})).await;
        }
        let mut ids = Vec::new();
        let mut path = "/v1/admin/keys?limit=2".to_owned();
        loop {
            let page: Page<KeyView> =
                Request::get(&path).key(&app.admin_key).send(&app).await.expect(200).json();
            ids.extend(page.items.into_iter().map(|key| key.id));
            let Some(next) = page.next else { break };
            path = format!("/v1/admin/keys?limit=2&cursor={next}");
        }
        // The four, and the admin of the test itself.
        assert_eq!(ids.len(), 5);
        assert!(ids.is_sorted());
        for bad in ["limit=0", "limit=201", "limit=x", "offset=1"] {
            let path = format!("/v1/admin/keys?{bad}");
            let refused = Request::get(&path).key(&app.admin_key).send(&app).await;
            assert_eq!(refused.field(), bad.split('=').next().unwrap());
            refused.refused(ErrorCode::InvalidParam);
        }
    }

    async fn keys_are_for_their_scope_only(app: TestApp) {
        let client = make(&app, json!({"scope": "client", "client": "c"})).await.key;
        let miner = make(&app, json!({"scope": "miner", "wallet": "w"})).await.key;
        for (key, path) in [
            (&client, "/v1/miner/next?miner=m&slots=1"),
            (&client, "/v1/admin/keys"),
            (&client, "/v1/admin/stats"),
            (&miner, "/v1/jobs"),
            (&miner, "/v1/admin/keys"),
            (&app.admin_key, "/v1/jobs"),
        ] {
            Request::get(path).key(key).send(&app).await.refused(ErrorCode::ForbiddenScope);
        }
    }

    async fn a_binding_must_fit_its_scope(app: TestApp) {
        for (body, field) in [
            (json!({"scope": "miner"}), "wallet"),
            (json!({"scope": "client"}), "client"),
            (json!({"scope": "admin", "client": "c"}), "client"),
            (json!({"scope": "root"}), "scope"),
            (json!({"scope": "admin", "extra": 1}), "extra"),
            (json!({"scope": "admin", "weight": 2}), "weight"),
            (json!({"scope": "miner", "wallet": "w", "funding": "prepaid"}), "funding"),
            (json!({"scope": "client", "client": "c", "funding": "gift"}), "funding"),
            (json!({"scope": "client", "client": "c", "weight": 0}), "weight"),
            (json!({"scope": "client", "client": "c", "weight": 1001}), "weight"),
        ] {
            let request = Request::post("/v1/admin/keys", body).key(&app.admin_key);
            let refused = request.send(&app).await;
            assert_eq!(refused.field(), field);
            refused.refused(ErrorCode::InvalidPayload);
        }
    }

    async fn a_client_pays_and_weighs_as_its_admin_says(app: TestApp) {
        let c = make(&app, json!({"scope": "client", "client": "c", "funding": "prepaid"})).await;
        let submit = async || {
            let job = json!({"workload": "hash"});
            Request::post("/v1/jobs", job).key(&c.key).send(&app).await
        };
        submit().await.refused(ErrorCode::InsufficientFunds);
        // What is not stated stays: a new weight makes nobody's jobs free.
        make(&app, json!({"scope": "client", "client": "c", "weight": 5})).await;
        submit().await.refused(ErrorCode::InsufficientFunds);
        make(&app, json!({"scope": "client", "client": "c"})).await;
        submit().await.refused(ErrorCode::InsufficientFunds);
        let audit = Request::get("/v1/admin/audit").key(&app.admin_key).send(&app).await;
        let audit: Page<Value> = audit.expect(200).json();
        let terms: Vec<_> = audit.items.iter().map(|entry| &entry["data"]["terms"]).collect();
        assert!(terms.contains(&&json!({"funding": "prepaid", "weight": null})), "{terms:?}");
        assert!(terms.contains(&&json!({"funding": null, "weight": 5})), "{terms:?}");
        let mut tx = app.app.db.read().await.unwrap();
        let sql = "select weight from clients where client_id = $1 and weight = 5";
        let args = coordinator::db::Args::new().with("c");
        assert!(tx.row(sql, args).await.unwrap().is_some());
        drop(tx);
        make(&app, json!({"scope": "client", "client": "c", "funding": "issuance"})).await;
        submit().await.expect(201);
    }

    async fn keys_nobody_issued_never_work(app: TestApp) {
        let client = app.client("c").await;
        let (id, secret) = client.key.split_once('.').unwrap();
        let other = "A".repeat(secret.len());
        for key in ["CHANGE_ME", "REPLACE_WITH_WALLET_API_KEY", id, secret, &format!("{id}.{other}"),
                    &client.key.to_uppercase(), ""] {
            Request::get("/v1/jobs").key(key).send(&app).await.refused(ErrorCode::UnauthorizedKey);
        }
        let alias = Request::get("/v1/jobs").header("x-api-key", &client.key).send(&app).await;
        alias.expect(200);
    }
}

#[tokio::test]
async fn making_a_key_is_never_replayed() {
    let app = TestApp::sqlite().await;
    let make = async || {
        let request = Request::post("/v1/admin/keys", json!({"scope": "admin"}));
        let request = request.header("idempotency-key", "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11");
        request.key(&app.admin_key).send(&app).await.expect(201).json::<CreatedKey>()
    };
    assert_ne!(make().await.id, make().await.id);
}

#[tokio::test]
async fn calls_beyond_the_limit_wait() {
    let app = TestApp::with(Engine::Sqlite, |config| config.limits.client_per_minute = 3).await;
    let client = app.client("c").await;
    for left in ["2", "1", "0"] {
        let reply = client.get("/v1/jobs").await.expect(200);
        assert_eq!(reply.headers["x-ratelimit-limit"], "3");
        assert_eq!(reply.headers["x-ratelimit-remaining"], left);
    }
    let refused = client.get("/v1/jobs").await;
    assert_eq!(refused.headers["retry-after"], "20");
    assert_eq!(refused.headers["x-ratelimit-remaining"], "0");
    assert_eq!(refused.headers["x-ratelimit-reset"], "60");
    assert_eq!(refused.json::<Value>()["error"]["details"]["retry_after_secs"], 20);
    refused.refused(ErrorCode::RateLimited);
    // Its neighbour has a limit of its own.
    app.client("d").await.get("/v1/jobs").await.expect(200);
    app.advance(20);
    client.get("/v1/jobs").await.expect(200);
    client.get("/v1/jobs").await.refused(ErrorCode::RateLimited);
}

#[tokio::test]
async fn a_batch_counts_once() {
    let app = TestApp::with(Engine::Sqlite, |config| config.limits.client_per_minute = 2).await;
    let client = app.client("c").await;
    let jobs = json!({"jobs": vec![json!({"workload": "hash"}); 100]});
    let reply = client.post("/v1/jobs/batch", jobs).await.expect(200);
    assert_eq!(reply.headers["x-ratelimit-remaining"], "1");
}

#[tokio::test]
async fn a_miners_limit_grows_with_its_slots() {
    let app = TestApp::with(Engine::Sqlite, |config| config.limits.miner_per_minute = 10).await;
    let miner = app.miner("m").await;
    let reply = miner.register().await.expect(201);
    assert_eq!(reply.headers["x-ratelimit-limit"], "10");
    app.advance(1);
    let reply = miner.get("/v1/wallet/balance").await.expect(200);
    assert_eq!(reply.headers["x-ratelimit-limit"], "80", "it registered with eight slots");
}

#[tokio::test]
async fn a_miner_of_the_seed_never_meets_its_limit() {
    let app = TestApp::with(Engine::Sqlite, |config| {
        config.limits.miner_per_minute =
            coordinator::config::Config::default().limits.miner_per_minute;
    })
    .await;
    let miner = app.miner("m").await;
    // Ten minutes of a heartbeat and a poll each three seconds, and a proof now and then.
    for _ in 0..200 {
        miner.heartbeat(json!({})).await.expect(200);
        assert!(miner.next().await.is_none());
        let lost = JobId::from_u128(1);
        let proof = json!({"id": lost, "mode": "cpu", "output_sha": "0".repeat(64)});
        miner.post("/v1/miner/proof", proof).await.refused(ErrorCode::JobNotFound);
        app.advance(3);
    }
}
