//! `Idempotency-Key`: the same request takes effect once, and is answered the same.

use protocol::ErrorCode;
use protocol::client::{BatchReply, JobView};
use protocol::wallet::Page;
use serde_json::{Value, json};

use crate::support::{Reply, Request, TestApp, on_both_engines};

const KEY: &str = "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11";

async fn keyed(app: &TestApp, key: &str, path: &str, body: Value) -> Reply {
    Request::post(path, body).key(key).header("idempotency-key", KEY).send(app).await
}

fn is_replay(reply: &Reply) -> bool {
    reply.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

on_both_engines! {
    async fn a_repeat_is_answered_from_store(app: TestApp) {
        let client = app.client("c1").await;
        let job = json!({"workload": "hash"});
        let first = keyed(&app, &client.key, "/v1/jobs", job.clone()).await.expect(201);
        let again = keyed(&app, &client.key, "/v1/jobs", job).await.expect(201);
        assert!(!is_replay(&first) && is_replay(&again));
        assert_eq!(first.json::<JobView>(), again.json::<JobView>());
        let other = json!({"workload": "hash", "priority": 1});
        let reused = keyed(&app, &client.key, "/v1/jobs", other).await;
        reused.refused(ErrorCode::IdempotencyKeyReused);
        // Another client's keys are other keys.
        let stranger = app.client("c2").await;
        let reply = keyed(&app, &stranger.key, "/v1/jobs", json!({"workload": "hash"})).await;
        assert!(!is_replay(&reply.expect(201)));
    }

    async fn twenty_parallel_repeats_make_one_job(app: TestApp) {
        let client = app.client("c1").await;
        let send = || keyed(&app, &client.key, "/v1/jobs", json!({"workload": "hash"}));
        let replies = futures_util::future::join_all((0..20).map(|_| send())).await;
        for reply in replies {
            match reply.status.as_u16() {
                201 => {}
                _ => drop(reply.refused(ErrorCode::IdempotencyInFlight)),
            }
        }
        let page: Page<JobView> = client.get("/v1/jobs").await.json();
        assert_eq!(page.items.len(), 1);
    }

    async fn repeats_that_come_at_once_all_get_the_answer_that_is_there(app: TestApp) {
        let client = app.client("c1").await;
        let send = || keyed(&app, &client.key, "/v1/jobs", json!({"workload": "hash"}));
        let first: JobView = send().await.expect(201).json();
        for reply in futures_util::future::join_all((0..5).map(|_| send())).await {
            assert!(is_replay(&reply));
            assert_eq!(reply.json::<JobView>(), first);
        }
    }

    async fn a_batch_repeats_item_by_item(app: TestApp) {
        let client = app.client("c1").await;
        let batch = json!({"jobs": [{"workload": "hash"}, {"workload": 1}, {"workload": "hash"}]});
        let send = || keyed(&app, &client.key, "/v1/jobs/batch", batch.clone());
        let first: BatchReply = send().await.expect(200).json();
        let again: BatchReply = send().await.expect(200).json();
        assert_eq!(first, again);
        let page: Page<JobView> = client.get("/v1/jobs").await.json();
        assert_eq!(page.items.len(), 2);
    }

    async fn every_post_with_an_effect_is_guarded(app: TestApp) {
        let client = app.prepaid_client("c1").await;
        let miner = app.miner("m1").await;
        let deposit = json!({"amount": "100", "reference": "r"});
        let path = "/v1/admin/wallets/c1/deposit";
        let twice = async |key: &str, path: &str, body: Value, status: u16| {
            let first = keyed(&app, key, path, body.clone()).await.expect(status);
            let again = keyed(&app, key, path, body).await.expect(status);
            assert!(!is_replay(&first) && is_replay(&again), "{path}");
            assert_eq!(first.json::<Value>(), again.json::<Value>(), "{path}");
            first
        };
        twice(&app.admin_key, path, deposit, 201).await;
        twice(&miner.key, "/v1/miner/register", miner.capabilities(), 201).await;
        let drain = json!({"miner_id": "m1", "drain": false});
        twice(&miner.key, "/v1/miner/drain", drain, 200).await;
        let rotation = json!({"miner_id": "m1", "pubkey": miner.pubkey(),
                              "signed_at": app.clock.now()});
        twice(&miner.key, "/v1/miner/key", rotation, 200).await;

        let id = client.submit_any().await;
        twice(&client.key, &format!("/v1/jobs/{id}/cancel"), json!({}), 200).await;
        client.submit(json!({"workload": "hash", "max_attempts": 1})).await;
        let job = miner.take().await;
        let token = json!({"lease_token": job.lease.token});
        twice(&miner.key, &format!("/v1/miner/jobs/{}/ack", job.id), token, 200).await;
        let fail = json!({"lease_token": job.lease.token, "error_code": "E_EXIT"});
        twice(&miner.key, &format!("/v1/miner/jobs/{}/fail", job.id), fail, 200).await;
        client.submit_any().await;
        let job = miner.take().await;
        let proof = serde_json::to_value(miner.proof(&job, "x")).unwrap();
        twice(&miner.key, "/v1/miner/proof", proof, 201).await;
        app.audit().await;
    }

    async fn only_version_4_uuids_are_keys(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        for bad in ["", "x", "00000000-0000-0000-0000-000000000000"] {
            let request = Request::post("/v1/jobs", json!({"workload": "hash"}));
            let reply = client.send(request.header("idempotency-key", bad)).await;
            reply.refused(ErrorCode::InvalidIdempotencyKey);
            let body = json!({"miner_id": "m1", "mode": "cpu", "gpu": 0});
            let request = Request::post("/v1/miner/heartbeat", body);
            let reply = miner.send(request.header("idempotency-key", bad)).await;
            reply.refused(ErrorCode::InvalidIdempotencyKey);
        }
    }
}
