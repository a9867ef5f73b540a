//! Miners: registering, heartbeats, asking for work, draining, keys.

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use protocol::job::SlotKind;
use protocol::miner::{Drained, HeartbeatReply, KeyInForce, ProgressReply, Registered};
use protocol::signing::{self, Signature};
use protocol::{ErrorCode, JobId, JobState, Timestamp};
use serde_json::json;

use crate::support::{Engine, Request, TestApp, on_both_engines};

on_both_engines! {
    async fn registering_is_201_first_and_200_after_that(app: TestApp) {
        let miner = app.miner("m1").await;
        let first: Registered = miner.register().await.expect(201).json();
        assert_eq!((first.miner_id.as_str(), first.status.as_str()), ("m1", "registered"));
        assert_eq!(first.heartbeat_secs, 20);
        assert_eq!(first.server_time, app.clock.now());
        assert_eq!(first.receipt_pubkey, signing::key_id(&app.app.attestor.verifying_key()));
        let again: Registered = miner.register().await.expect(200).json();
        assert_eq!(again.status, "updated");
    }

    async fn a_miner_that_was_heard_of_still_registers_with_201(app: TestApp) {
        let miner = app.miner("m1").await;
        miner.heartbeat(json!({})).await.expect(200);
        miner.register().await.expect(201);
    }

    async fn a_miner_belongs_to_the_wallet_that_came_first(app: TestApp) {
        let (owner, thief) = (app.registered("m1").await, app.miner("m2").await);
        let stolen = json!({"miner_id": "m1"});
        thief.register_with(stolen.clone()).await.refused(ErrorCode::MinerMismatch);
        thief.heartbeat(stolen).await.refused(ErrorCode::MinerMismatch);
        thief.get("/v1/miner/next?miner=m1&slots=1").await.refused(ErrorCode::MinerMismatch);
        let other = json!({"wallet": "w-m2"});
        owner.register_with(other.clone()).await.refused(ErrorCode::WalletMismatch);
        owner.heartbeat(other).await.refused(ErrorCode::WalletMismatch);
    }

    async fn capabilities_are_validated_field_by_field(app: TestApp) {
        let miner = app.miner("m1").await;
        for (change, field) in [
            (json!({"mode": "tpu"}), "mode"),
            (json!({"gpu": "yes"}), "gpu"),
            (json!({"miner_id": "../a"}), "miner_id"),
            (json!({"concurrency": -1}), "concurrency"),
            (json!({"concurrency": 100_000}), "concurrency"),
            (json!({"pubkey": "AAAA"}), "pubkey"),
            (json!({"price": "-1"}), "price"),
            (json!({"version": "0.1\u{0}"}), "version"),
        ] {
            let mut body = miner.capabilities();
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let reply = miner.post("/v1/miner/register", body).await;
            assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), field);
        }
    }

    async fn the_gpu_flag_is_a_bool_or_a_bit(app: TestApp) {
        let miner = app.miner("m1").await;
        for gpu in [json!(0), json!(1), json!(true), json!(false)] {
            miner.heartbeat(json!({"gpu": gpu})).await.expect(200);
        }
        let reply = miner.heartbeat(json!({"gpu": 2})).await.refused(ErrorCode::InvalidPayload);
        assert_eq!(reply.field(), "gpu");
    }

    async fn what_a_heartbeat_changes_is_used_for_matching_at_once(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        let vram = |mb: u32| json!({
            "mode": "gpu", "gpu": true, "limits": {"vram_mb": mb, "max_runtime_s": 3600},
            "gpus": [{"index": 0, "name": "x", "vram_mb": mb}], "slots": {"cpu": 1, "gpu": 1},
        });
        miner.register_with(vram(1000)).await.expect(201);
        let job = client.submit(json!({"workload": "hash", "limits": {"vram_mb": 12_000}})).await;
        assert!(miner.next().await.is_none());
        let mut capabilities = miner.capabilities();
        let change = vram(16_000);
        capabilities.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let more = json!({"mode": "gpu", "gpu": 1, "capabilities": capabilities});
        miner.heartbeat(more).await.expect(200);
        let taken = miner.take().await;
        assert_eq!((taken.id, taken.slot), (job, SlotKind::Gpu));
    }

    async fn a_heartbeat_renews_leases_until_the_deadline(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let spec = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        let id = client.submit(spec).await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        let active = json!({"active_jobs": [{"id": id, "lease_token": job.lease.token}]});
        for _ in 0..5 {
            app.advance(20);
            app.sweep().await;
            let reply: HeartbeatReply = miner.heartbeat(active.clone()).await.expect(200).json();
            assert_eq!((reply.renewed, reply.cancel_jobs), (vec![id], vec![]));
            assert_eq!(reply.heartbeat_secs, 10);
            assert_eq!(client.job(id).await.state, JobState::Running);
        }
        // The deadline is the run time and a margin of a minute: then nothing helps.
        app.advance(61);
        app.sweep().await;
        assert_eq!(client.job(id).await.state, JobState::Queued);
    }

    async fn bare_ids_of_active_jobs_renew_too(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        let reply = miner.heartbeat(json!({"active_jobs": [id]})).await.expect(200);
        assert_eq!(reply.json::<HeartbeatReply>().renewed, vec![id]);
    }

    async fn a_canceled_job_is_called_off_by_heartbeat_and_progress(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        client.cancel(id).await.expect(200);
        let active = json!({"active_jobs": [{"id": id, "lease_token": job.lease.token}]});
        let reply: HeartbeatReply = miner.heartbeat(active).await.expect(200).json();
        assert_eq!((reply.renewed, reply.cancel_jobs), (vec![], vec![id]));
        let progress = miner.about(&job, "progress", json!({"pct": 50})).await.expect(200);
        assert!(!progress.json::<ProgressReply>().go_on);
    }

    async fn a_heartbeat_names_no_more_jobs_than_a_miner_holds(app: TestApp) {
        let miner = app.registered("m1").await;
        let jobs = |n: u128| -> Vec<_> { (0..n).map(JobId::from_u128).collect() };
        miner.heartbeat(json!({"active_jobs": jobs(256)})).await.expect(200);
        let reply = miner.heartbeat(json!({"active_jobs": jobs(257)})).await;
        assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "active_jobs");
        let reply = miner.register_with(json!({"concurrency": 257})).await;
        assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "concurrency");
    }

    async fn reports_that_no_database_could_hold_are_refused(app: TestApp) {
        let miner = app.registered("m1").await;
        let nul = json!({"metrics": {"note": "a\u{0}b"}});
        miner.heartbeat(nul).await.refused(ErrorCode::InvalidPayload);
        let large = json!({"metrics": {"note": "x".repeat(20_000)}});
        miner.heartbeat(large).await.refused(ErrorCode::InvalidPayload);
    }

    async fn next_says_what_is_wrong_with_its_query(app: TestApp) {
        let miner = app.registered("m1").await;
        for (query, field) in [
            ("slots=1", "miner"),
            ("miner=a/b&slots=1", "miner"),
            ("miner=m1", "slots"),
            ("miner=m1&slots=x", "slots"),
            ("miner=m1&slots=-1", "slots"),
            ("miner=m1&slots=1&wait=31", "wait"),
            ("miner=m1&slots=1&wait=soon", "wait"),
        ] {
            let reply = miner.get(&format!("/v1/miner/next?{query}")).await;
            assert_eq!(reply.refused(ErrorCode::InvalidParam).field(), field, "{query}");
        }
        let unknown = miner.get("/v1/miner/next?miner=nobody&slots=1").await;
        unknown.refused(ErrorCode::MinerNotRegistered);
    }

    async fn nothing_to_do_is_204_without_body_or_type(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let none = miner.get("/v1/miner/next?miner=m1&slots=1").await.expect(204);
        assert!(none.bytes.is_empty());
        assert!(!none.headers.contains_key("content-type"));
        client.submit_any().await;
        miner.get("/v1/miner/next?miner=m1&slots=0").await.expect(204);
        miner.get("/v1/miner/next?miner=m1&slots=1").await.expect(200);
    }

    async fn a_drained_miner_gets_no_more_jobs_until_it_is_let_in_again(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let body = json!({"miner_id": "m1", "drain": true});
        let drained: Drained = miner.post("/v1/miner/drain", body).await.expect(200).json();
        assert!(drained.drain);
        assert!(miner.next().await.is_none());
        let reply: HeartbeatReply = miner.heartbeat(json!({})).await.expect(200).json();
        assert!(reply.drain);
        let admin = Request::post("/v1/admin/miners/m1/drain", json!({"drain": false}));
        admin.key(&app.admin_key).send(&app).await.expect(200);
        miner.take().await;
    }

    async fn a_drain_must_say_whom_it_means(app: TestApp) {
        let miner = app.registered("m1").await;
        let reply = miner.post("/v1/miner/drain", json!({"drain": true})).await;
        assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "miner_id");
        let admin = Request::post("/v1/admin/miners/nobody/drain", json!({"drain": true}));
        let reply = admin.key(&app.admin_key).send(&app).await;
        reply.refused(ErrorCode::MinerNotRegistered);
    }

    async fn the_old_key_hands_over_to_the_new_one(app: TestApp) {
        let miner = app.registered("m1").await;
        let other = app.miner("other").await;
        let changed = json!({"pubkey": other.pubkey()});
        miner.register_with(changed).await.refused(ErrorCode::BadSignature);
        let rotation = |signed_at: Timestamp| {
            let bytes = signing::key_rotation(&"m1".parse().unwrap(), &other.pubkey(), signed_at);
            let sig = Signature::make(&miner.signer, &bytes).sig;
            json!({"miner_id": "m1", "pubkey": other.pubkey(), "signed_at": signed_at, "sig": sig})
        };
        let now = app.clock.now();
        let stale = miner.post("/v1/miner/key", rotation(now.plus_secs(-600))).await;
        assert_eq!(stale.refused(ErrorCode::InvalidPayload).field(), "signed_at");
        let reply = miner.post("/v1/miner/key", rotation(now)).await.expect(200);
        assert_eq!(reply.json::<KeyInForce>().pubkey, other.pubkey());
        // The lost reply is asked for again, and the new key is the one that registers.
        miner.post("/v1/miner/key", rotation(now)).await.expect(200);
        miner.register().await.refused(ErrorCode::BadSignature);
        miner.register_with(json!({"pubkey": other.pubkey()})).await.expect(200);
        other.post("/v1/miner/key", rotation(now)).await.refused(ErrorCode::MinerMismatch);
    }

    async fn an_admin_replaces_a_lost_key(app: TestApp) {
        let miner = app.registered("m1").await;
        let new = app.miner("other").await.pubkey();
        let body = json!({"miner_id": "m1", "pubkey": new, "signed_at": app.clock.now()});
        miner.post("/v1/miner/key", body.clone()).await.refused(ErrorCode::BadSignature);
        let admin = Request::post("/v1/miner/key", body).key(&app.admin_key);
        admin.send(&app).await.expect(200);
        miner.register_with(json!({"pubkey": new})).await.expect(200);
    }

    async fn a_job_of_another_miner_is_none_of_its_business(app: TestApp) {
        let client = app.client("c1").await;
        let (holder, other) = (app.registered("m1").await, app.registered("m2").await);
        client.submit_any().await;
        let job = holder.take().await;
        for what in ["ack", "progress", "fail", "logs"] {
            let body = json!({"error_code": "E_EXIT", "stream": "stdout", "seq": 0, "text": "x"});
            other.about(&job, what, body).await.refused(ErrorCode::MinerMismatch);
        }
        other.prove(&other.proof(&job, "x")).await.refused(ErrorCode::MinerMismatch);
        other.upload(&job, &[("a", b"x")]).await.refused(ErrorCode::MinerMismatch);
    }

    async fn an_old_token_is_refused_once_the_job_is_leased_again(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let old = miner.take().await;
        app.advance(31);
        app.sweep().await;
        let new = miner.take().await;
        assert_eq!(old.id, new.id);
        miner.ack(&old).await.refused(ErrorCode::LeaseLost);
        miner.about(&old, "progress", json!({})).await.refused(ErrorCode::LeaseLost);
        miner.fail(&old, "E_EXIT").await.refused(ErrorCode::LeaseLost);
        miner.prove(&miner.proof(&old, "x")).await.refused(ErrorCode::LeaseLost);
        let bare = format!("/v1/miner/jobs/{}/ack", new.id);
        miner.post(&bare, json!({})).await.refused(ErrorCode::LeaseLost);
        miner.ack(&new).await.expect(200);
    }

    async fn failures_are_named_and_retried(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        let unknown = miner.fail(&job, "E_FOO").await.refused(ErrorCode::InvalidPayload);
        assert_eq!(unknown.field(), "error_code");
        miner.fail(&job, "E_TIMEOUT").await.expect(200);
        let view = client.job(id).await;
        assert_eq!((view.state, view.attempt), (JobState::Queued, 2));
        assert_eq!(view.error.unwrap().code, "E_TIMEOUT");
        // It waits before it is tried again.
        assert!(miner.next().await.is_none());
        app.advance(6);
        app.sweep().await;
        assert_eq!(miner.take().await.id, id);
    }
}

async fn a_wallet_has_so_many_miners_and_no_more(engine: Engine) {
    let app = TestApp::with(engine, |config| config.limits.miners_per_wallet = 3).await;
    let miner = app.miner("m").await;
    // At once: whoever counts must not miss those that the others are about to add.
    let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    let introduce = |name: &String| match name.as_str() {
        "n0" | "n1" | "n2" | "n3" => miner.heartbeat(json!({"miner_id": name})).left_future(),
        _ => miner.register_with(json!({"miner_id": name})).right_future(),
    };
    let replies = join_all(names.iter().map(introduce)).await;
    let (known, refused): (Vec<_>, Vec<_>) =
        names.iter().zip(replies).partition(|(_, reply)| reply.status.is_success());
    assert_eq!((known.len(), refused.len()), (3, 5));
    for (_, reply) in refused {
        assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "miner_id");
    }
    // Those that are known go on, and other wallets have miners of their own.
    for (name, _) in known {
        miner.heartbeat(json!({"miner_id": name})).await.expect(200);
        let again = miner.register_with(json!({"miner_id": name})).await;
        assert!(again.status.is_success(), "{}", again.text());
    }
    app.registered("other").await;
}

#[tokio::test]
async fn a_wallet_has_so_many_miners_and_no_more_on_sqlite() {
    a_wallet_has_so_many_miners_and_no_more(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_wallet_has_so_many_miners_and_no_more_on_postgres() {
    a_wallet_has_so_many_miners_and_no_more(Engine::Postgres).await;
}
