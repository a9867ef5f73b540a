//! The whole way of a job: submitted, leased, run, proven, credited.

use protocol::client::JobView;
use protocol::miner::Acked;
use protocol::wallet::{Balance, LedgerLine, Page};
use protocol::{Amount, ErrorCode, JobState, Receipt, Units};
use serde_json::{Value, json};

use crate::support::{Engine, TestApp, on_both_engines};

#[tokio::test]
async fn the_way_of_a_job_in_memory() {
    let memory = || TestApp::with(Engine::Memory, |_| {});
    a_job_is_submitted_run_and_paid::on(memory().await).await;
    a_repeated_proof_is_answered_the_same_and_paid_once::on(memory().await).await;
    a_lapsed_lease_goes_to_another_miner_and_is_paid_once::on(memory().await).await;
    the_seeds_script_works_without_ack_token_or_registration::on(memory().await).await;
}

on_both_engines! {
    async fn a_job_is_submitted_run_and_paid(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit(json!({"workload": "hash", "params": {"bytes": 10}})).await;
        assert_eq!(client.job(id).await.state, JobState::Queued);

        let job = miner.take().await;
        assert_eq!((job.id, job.attempt, job.lease.fence), (id, 1, 1));
        assert_eq!(client.job(id).await.state, JobState::Assigned);
        let acked: Acked = miner.ack(&job).await.expect(200).json();
        assert_eq!(acked.state, JobState::Running);
        miner.about(&job, "progress", json!({"pct": 40, "note": "hashing"})).await.expect(200);
        let view = client.job(id).await;
        assert_eq!(view.state, JobState::Running);
        assert_eq!(view.progress.unwrap().pct, Some(40));
        assert_eq!(view.miner_id.unwrap().as_str(), "m1");
        client.get(&format!("/v1/jobs/{id}/result")).await.refused(ErrorCode::JobNotReady);

        app.advance(10);
        let reply = miner.prove(&miner.proof(&job, "output")).await.expect(201);
        let paid: protocol::proof::Credited = reply.json();
        // Ten seconds of one thread at the default price of a CPU second.
        assert_eq!(paid.credited, "0.02".parse::<Amount>().unwrap());
        assert_eq!(paid.receipt.verify(), Ok(()));
        assert_eq!(paid.receipt.units, "10".parse::<Units>().unwrap());

        let view: JobView = client.job(id).await;
        assert_eq!(view.state, JobState::Completed);
        assert!(view.result_available && view.progress.is_none() && view.finished_at.is_some());
        assert_eq!(view.receipt_id.as_ref(), Some(&paid.receipt.receipt_id));
        let result = client.result(id).await;
        assert_eq!((result.result, result.exit_code), (Some(json!("output")), Some(0)));
        let receipt: Receipt =
            client.get(&format!("/v1/jobs/{id}/receipt")).await.expect(200).json();
        assert_eq!(receipt, paid.receipt);

        let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
        assert_eq!(balance.balance, paid.credited);
        let ledger: Page<LedgerLine> = miner.get("/v1/wallet/ledger").await.expect(200).json();
        assert_eq!(ledger.items[0].id, paid.transfer_id);
        assert_eq!((ledger.items[0].job_id, ledger.next), (Some(id), None));
        app.audit().await;
    }

    async fn a_repeated_proof_is_answered_the_same_and_paid_once(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let job = miner.take().await;
        app.advance(5);
        let proof = miner.proof(&job, "x");
        let replies = futures_util::future::join_all((0..50).map(|_| miner.prove(&proof))).await;
        let first = replies.iter().filter(|reply| reply.status == 201).count();
        assert_eq!(first, 1);
        let bodies: Vec<protocol::proof::Credited> =
            replies.into_iter().map(|reply| reply.json()).collect();
        for body in &bodies {
            assert_eq!(body.receipt, bodies[0].receipt);
            assert_eq!(body.transfer_id, bodies[0].transfer_id);
        }
        let balance: Balance = miner.get("/v1/wallet/balance").await.json();
        assert_eq!(balance.balance, bodies[0].credited);
        miner.prove(&miner.proof(&job, "y")).await.refused(ErrorCode::DuplicateProof);
        app.audit().await;
    }

    async fn a_lapsed_lease_goes_to_another_miner_and_is_paid_once(app: TestApp) {
        let client = app.client("c1").await;
        let (slow, fast) = (app.registered("slow").await, app.registered("fast").await);
        let id = client.submit_any().await;
        let lost = slow.take().await;
        slow.ack(&lost).await.expect(200);
        app.advance(31);
        app.sweep().await;
        let view = client.job(id).await;
        assert_eq!((view.state, view.attempt), (JobState::Queued, 2));
        let job = fast.take().await;
        assert_eq!((job.id, job.attempt, job.lease.fence), (id, 2, 2));
        slow.prove(&slow.proof(&lost, "late")).await.refused(ErrorCode::LeaseLost);
        fast.prove(&fast.proof(&job, "in time")).await.expect(201);
        assert_eq!(client.job(id).await.miner_id.unwrap().as_str(), "fast");
        app.audit().await;
        // What it has in hand is of no use any more, and not a matter of its key.
        slow.prove(&slow.proof(&lost, "late")).await.refused(ErrorCode::LeaseLost);
    }

    async fn a_late_result_counts_while_nobody_else_has_the_job(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        app.advance(31);
        app.sweep().await;
        assert_eq!(client.job(id).await.state, JobState::Queued);
        miner.prove(&miner.proof(&job, "late")).await.expect(201);
        assert_eq!(client.job(id).await.state, JobState::Completed);
        app.audit().await;
    }

    async fn a_job_without_ack_goes_back_within_ten_seconds(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        miner.take().await;
        app.advance(11);
        app.sweep().await;
        let view = client.job(id).await;
        assert_eq!((view.state, view.attempt), (JobState::Queued, 2));
    }

    async fn a_failed_job_costs_nothing_and_leaves_no_receipt(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit(json!({"workload": "hash", "max_attempts": 1})).await;
        let job = miner.take().await;
        miner.fail(&job, "E_EXIT").await.expect(200);
        let result = client.result(id).await;
        assert_eq!(result.state, JobState::Failed);
        assert_eq!(result.error.unwrap().code, "E_EXIT");
        let receipt = client.get(&format!("/v1/jobs/{id}/receipt")).await;
        receipt.refused(ErrorCode::ReceiptNotFound);
        let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
        assert_eq!(balance.balance, Amount::ZERO);
        app.audit().await;
    }

    async fn what_a_failed_attempt_used_is_told(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit(json!({"workload": "hash", "max_attempts": 2})).await;
        let fail = async |metrics: Value| {
            let job = miner.take().await;
            let report = json!({"error_code": "E_EXIT", "metrics": metrics});
            miner.about(&job, "fail", report).await.expect(200);
            client.job(id).await.error.unwrap()
        };
        let used = json!({"max_rss_mb": 96, "cpu_seconds": 0.5, "isolation": "bwrap"});
        let told = fail(used.clone()).await;
        assert_eq!((told.code.as_str(), Value::Object(told.metrics)), ("E_EXIT", used));
        app.advance(60);
        app.sweep().await;
        // What nobody measures is left out.
        let told = fail(json!({"max_rss_mb": 95, "log": "x".repeat(300), "list": [1]})).await;
        assert_eq!(Value::Object(told.metrics), json!({"max_rss_mb": 95}));
        assert_eq!(client.result(id).await.error.unwrap().metrics["max_rss_mb"], 95);
        // Of a job that went well in the end it is history.
        let id = client.submit(json!({"workload": "hash", "max_attempts": 2})).await;
        let job = miner.take().await;
        let report = json!({"error_code": "E_EXIT", "metrics": {"max_rss_mb": 1}});
        miner.about(&job, "fail", report).await.expect(200);
        app.advance(60);
        app.sweep().await;
        let job = miner.take().await;
        miner.prove(&miner.proof(&job, "done")).await.expect(201);
        assert_eq!(client.job(id).await.error, None);
    }

    async fn the_seeds_script_works_without_ack_token_or_registration(app: TestApp) {
        let client = app.client("c1").await;
        let script = app.miner("host-gpu0").await;
        script.heartbeat(json!({})).await.expect(200);
        let id = client.submit(json!({"workload": "torch_bench"})).await;
        let job = script.take().await;
        assert_eq!(job.id, id);
        // It asks again when it comes back from a crash, and gets the same job.
        assert_eq!(script.take().await.id, id);
        // Longer than any lease, in silence.
        app.advance(600);
        app.sweep().await;
        let sha = protocol::Sha256Hex::of(b"out");
        let proof = json!({"id": id, "mode": "cpu", "output_sha": sha, "metrics": {}});
        script.post("/v1/miner/proof", proof).await.expect(201);
        assert_eq!(client.job(id).await.state, JobState::Completed);
        app.audit().await;
    }
}
