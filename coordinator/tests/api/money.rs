//! What is paid: exact, from the job's own price, within what the coordinator can vouch for.

use protocol::client::JobView;
use protocol::control::UnitPrice;
use protocol::job::UnitType;
use protocol::proof::Credited;
use protocol::wallet::Balance;
use protocol::{Amount, ErrorCode, Job, Receipt, Sha256Hex};
use serde_json::{Value, json};

use crate::support::{Request, TestApp, TestMiner, on_both_engines};

/// A receipt for a job whose output is `done`, signed by the miner.
pub fn signed_receipt(miner: &TestMiner<'_>, job: &Job, units: &str, id: &str) -> Receipt {
    unsigned_receipt(miner, job, units, id).signed(&miner.signer)
}

fn unsigned_receipt(miner: &TestMiner<'_>, job: &Job, units: &str, id: &str) -> Receipt {
    let receipt = miner.receipt(job, &miner.proof(job, "done"), units);
    Receipt { receipt_id: id.parse().unwrap(), ..receipt }
}

async fn gpu_miner<'a>(app: &'a TestApp, name: &str) -> TestMiner<'a> {
    let miner = app.miner(name).await;
    miner
        .register_with(json!({
            "mode": "gpu", "gpu": true, "workloads": ["llm_gen"], "runners": ["ollama"],
            "gpus": [{"index": 0, "name": "RTX 4060 Ti", "vram_mb": 16384}],
        }))
        .await
        .expect(201);
    miner
}

async fn balance(miner: &TestMiner<'_>) -> String {
    let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
    balance.balance.to_string()
}

on_both_engines! {
    async fn the_published_price_is_credited_exactly(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        client.submit(json!({"workload": "llm_gen", "constraints": {"gpu": true}})).await;
        let job = miner.take().await;
        app.advance(12);
        let mut proof = miner.proof(&job, "done");
        proof.receipt = Some(signed_receipt(&miner, &job, "11.846", "r-1"));
        let paid: Credited = miner.prove(&proof).await.expect(201).json();
        assert_eq!(paid.credited.to_string(), "0.23692");
        assert_eq!(paid.receipt.attestations.len(), 1);
        assert_eq!(paid.receipt.verify(), Ok(()));
        assert_eq!(balance(&miner).await, "0.23692");
        app.audit().await;
    }

    async fn a_claim_above_the_ceiling_is_refused_with_the_ceiling_and_may_be_corrected(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        client.submit(json!({"workload": "llm_gen", "constraints": {"gpu": true}})).await;
        let job = miner.take().await;
        app.advance(10);
        let mut proof = miner.proof(&job, "done");
        proof.receipt = Some(signed_receipt(&miner, &job, "10.000001", "r-1"));
        let refused = miner.prove(&proof).await.refused(ErrorCode::UnitsExceeded);
        let max_units = refused.json::<Value>()["error"]["details"]["max_units"].clone();
        assert_eq!(max_units, "10");
        assert_eq!(balance(&miner).await, "0");
        proof.receipt = Some(signed_receipt(&miner, &job, "10", "r-1"));
        miner.prove(&proof).await.expect(201);
        assert_eq!(balance(&miner).await, "0.2");
        app.audit().await;
    }

    async fn metrics_are_evidence_and_never_more_than_the_clock_saw(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        for (metrics, paid) in [
            (json!({"gpu_seconds": 11.846}), "0.23692"),
            (json!({"gpu_seconds": 999999}), "0.24"),
            (json!({"gpu_seconds": -5}), "0.24"),
            (json!({"gpu_seconds": "what"}), "0.24"),
        ] {
            client.submit(json!({"workload": "llm_gen", "constraints": {"gpu": true}})).await;
            let job = miner.take().await;
            app.advance(12);
            let mut proof = miner.proof(&job, "done");
            proof.metrics = metrics.as_object().cloned().unwrap();
            let credited: Credited = miner.prove(&proof).await.expect(201).json();
            assert_eq!(credited.credited.to_string(), paid, "{metrics}");
        }
        app.audit().await;
    }

    async fn a_receipt_that_states_something_else_is_refused(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        client.submit(json!({"workload": "llm_gen", "constraints": {"gpu": true}})).await;
        let job = miner.take().await;
        app.advance(10);
        type Change = fn(&mut Receipt);
        let changes: [(&str, Change); 7] = [
            ("wallet", |r| r.wallet = "w-thief".parse().unwrap()),
            ("client", |r| r.client = "somebody".parse().unwrap()),
            ("job_id", |r| r.job_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()),
            ("unit_price", |r| {
                r.unit_price = "20".parse().unwrap();
                r.price = r.units.price(r.unit_price).unwrap();
            }),
            ("fence", |r| r.fence = Some(7)),
            ("artifact_hash", |r| r.artifact_hash = Some("sha256:00".to_owned())),
            ("artifacts_root", |r| r.artifacts_root = Some("sha256:00".to_owned())),
        ];
        for (field, change) in changes {
            let mut receipt = unsigned_receipt(&miner, &job, "1", "r-1");
            change(&mut receipt);
            let mut proof = miner.proof(&job, "done");
            proof.receipt = Some(receipt.signed(&miner.signer));
            let reply = miner.prove(&proof).await.refused(ErrorCode::BadSignature);
            assert_eq!(reply.field(), format!("receipt.{field}"));
        }
        let mut proof = miner.proof(&job, "done");
        let other = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        proof.receipt = Some(unsigned_receipt(&miner, &job, "1", "r-1").signed(&other));
        miner.prove(&proof).await.refused(ErrorCode::BadSignature);
        assert_eq!(balance(&miner).await, "0");
    }

    async fn an_output_that_is_not_what_its_hash_says_is_refused(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let job = miner.take().await;
        let mut proof = miner.proof(&job, "done");
        proof.result = Some("tampered".into());
        miner.prove(&proof).await.refused(ErrorCode::HashMismatch);
        proof.result = Some(json!({"text": "done"}));
        proof.output_sha = Sha256Hex::of(br#"{"text":"done"}"#);
        miner.prove(&proof).await.expect(201);
        app.audit().await;
    }

    async fn a_prepaid_client_is_held_charged_and_given_back_the_rest(app: TestApp) {
        let client = app.prepaid_client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        let job = json!({"workload": "llm_gen", "constraints": {"gpu": true, "max_price": "5"}});
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::InsufficientFunds);
        app.deposit("c1", "6", "invoice 1").await;
        client.submit(job.clone()).await;
        // One is left; it does not cover a second hold.
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::InsufficientFunds);
        let taken = miner.take().await;
        app.advance(100);
        let paid: Credited = miner.prove(&miner.proof(&taken, "done")).await.expect(201).json();
        assert_eq!(paid.credited.to_string(), "2");
        app.audit().await;
        assert_eq!(app.account("client:c1").await.to_string(), "4");
        assert_eq!(app.account("hold:c1").await, Amount::ZERO);

        // What is called off is given back whole.
        app.deposit("c1", "1", "invoice 2").await;
        let id = client.submit(job).await;
        assert_eq!(app.account("client:c1").await, Amount::ZERO);
        client.cancel(id).await.expect(200);
        assert_eq!(app.account("client:c1").await.to_string(), "5");
        app.audit().await;
    }

    async fn nobody_is_charged_more_than_the_max_price(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        let job = json!({"workload": "llm_gen", "constraints": {"gpu": true, "max_price": "0.1"}});
        let view: JobView = client.post("/v1/jobs", job).await.expect(201).json();
        assert_eq!(view.price.max_price.unwrap().to_string(), "0.1");
        let taken = miner.take().await;
        app.advance(3600);
        let paid: Credited = miner.prove(&miner.proof(&taken, "done")).await.expect(201).json();
        assert_eq!(paid.credited.to_string(), "0.1");
        app.audit().await;
    }

    async fn late_work_is_paid_for_no_longer_than_the_job_may_run(app: TestApp) {
        let client = app.client("c1").await;
        let miner = gpu_miner(&app, "m1").await;
        let job = json!({"workload": "llm_gen", "constraints": {"gpu": true}, "limits": {"max_runtime_s": 60}});
        client.submit(job).await;
        let taken = miner.take().await;
        app.advance(500);
        app.sweep().await;
        let paid: Credited = miner.prove(&miner.proof(&taken, "done")).await.expect(201).json();
        assert_eq!(paid.receipt.units.to_string(), "60");
        app.audit().await;
    }

    async fn a_receipt_id_of_another_miner_does_no_harm(app: TestApp) {
        let client = app.client("c1").await;
        let miners = [gpu_miner(&app, "m1").await, gpu_miner(&app, "m2").await];
        for miner in &miners {
            client.submit(json!({"workload": "llm_gen", "constraints": {"gpu": true}})).await;
            let job = miner.take().await;
            app.advance(10);
            let mut proof = miner.proof(&job, "done");
            proof.receipt = Some(signed_receipt(miner, &job, "1", "r-1"));
            miner.prove(&proof).await.expect(201);
        }
        app.audit().await;
    }

    async fn nobody_may_ask_for_more_tokens_than_the_operator_allows(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| {
            let per_token = UnitPrice {
                unit_type: UnitType::Tokens,
                unit_price: "0.0001".parse().unwrap(),
                bonus: None,
            };
            config.prices.workloads.insert("llm_gen".parse().unwrap(), per_token);
        })
        .await;
        let client = app.client("c1").await;
        let job = json!({"workload": "llm_gen", "limits": {"max_tokens": 4_000_000_000_u32}});
        let refused = client.post("/v1/jobs", job).await.refused(ErrorCode::InvalidPayload);
        assert_eq!(refused.field(), "limits.max_tokens");
    }

    async fn a_key_that_was_used_for_another_proof_is_refused_and_harms_nobody(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        client.submit_any().await;
        let (first, second) = (miner.take().await, miner.take().await);
        app.advance(1);
        let prove = |proof: protocol::Proof| {
            let key = "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11";
            miner.send(Request::post("/v1/miner/proof", proof).header("idempotency-key", key))
        };
        prove(miner.proof(&first, "done")).await.expect(201);
        let other = miner.proof(&second, "done");
        prove(other.clone()).await.refused(ErrorCode::IdempotencyKeyReused);
        prove(other.clone()).await.refused(ErrorCode::IdempotencyKeyReused);
        prove(miner.proof(&first, "done")).await.expect(201);
        miner.prove(&other).await.expect(201);
        app.audit().await;
    }
}
