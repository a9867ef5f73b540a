//! Many proofs at once: each has its own outcome, and no job is paid twice.

use coordinator::accounts::{Answer, Binding, Caller};
use coordinator::error::ApiError;
use futures_util::future::join_all;
use protocol::proof::Credited;
use protocol::wallet::Balance;
use protocol::{ErrorCode, Job, Proof};
use serde_json::json;

use crate::money::signed_receipt;
use crate::support::{TestApp, TestMiner, on_both_engines};

/// Submits jobs and has one miner take them all.
async fn taken(app: &TestApp, miner: &TestMiner<'_>, jobs: usize) -> Vec<Job> {
    let client = app.client("c1").await;
    join_all((0..jobs).map(|_| client.submit_any())).await;
    let slots = jobs + 1;
    miner
        .register_with(json!({"concurrency": slots, "slots": {"cpu": slots, "gpu": 0}}))
        .await
        .expect(201);
    let mut taken = Vec::new();
    for _ in 0..jobs {
        taken.push(miner.take().await);
    }
    taken
}

fn caller(wallet: &str) -> Caller {
    let binding = Binding::Miner { wallet: wallet.parse().unwrap(), miner_id: None };
    Caller { key_id: "test".to_owned(), binding }
}

/// Proves past the HTTP edge, so that all of them are in the queue before the first transaction.
async fn prove_at_once(
    app: &TestApp,
    proofs: Vec<(Caller, Proof)>,
) -> Vec<Result<Credited, ErrorCode>> {
    let prove = |(caller, proof)| app.app.settlement.prove(caller, proof, None);
    let outcome = |outcome: Result<Answer<(Credited, bool)>, ApiError>| match outcome {
        Ok(Answer::Fresh((credited, _))) => Ok(credited),
        Ok(Answer::Replayed(reply)) => panic!("nobody sent a key: {reply:?}"),
        Err(error) => Err(error.code),
    };
    join_all(proofs.into_iter().map(prove)).await.into_iter().map(outcome).collect()
}

on_both_engines! {
    async fn of_256_proofs_four_are_bad_and_252_are_paid(app: TestApp) {
        let miner = app.miner("m1").await;
        let jobs = taken(&app, &miner, 254).await;
        app.advance(1);
        let own = caller(&miner.wallet());
        let mut proofs: Vec<(Caller, Proof)> =
            jobs[..252].iter().map(|job| (own.clone(), miner.proof(job, "done"))).collect();
        let mut nul = miner.proof(&jobs[252], "done");
        nul.metrics.insert("note".to_owned(), json!("a\u{0}b"));
        let contradicting = miner.proof(&jobs[0], "something else");
        let mut unknown = miner.proof(&jobs[0], "done");
        unknown.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
        proofs.insert(100, (own.clone(), nul));
        proofs.push((own.clone(), contradicting));
        proofs.push((own, unknown));
        proofs.push((caller("w-stranger"), miner.proof(&jobs[253], "done")));
        assert_eq!(proofs.len(), 256);

        let outcomes = prove_at_once(&app, proofs).await;
        let refused: Vec<_> =
            outcomes.iter().enumerate().filter_map(|(i, o)| Some((i, *o.as_ref().err()?))).collect();
        assert_eq!(refused, [
            (100, ErrorCode::InvalidPayload),
            (253, ErrorCode::DuplicateProof),
            (254, ErrorCode::JobNotFound),
            (255, ErrorCode::MinerMismatch),
        ]);
        let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
        // 252 times one second of one thread at 0.002.
        assert_eq!(balance.balance.to_string(), "0.504");
        app.audit().await;
    }

    async fn fifty_equal_proofs_in_one_transaction_are_one_credit(app: TestApp) {
        let miner = app.miner("m1").await;
        let job = taken(&app, &miner, 1).await.remove(0);
        app.advance(1);
        let proof = (caller(&miner.wallet()), miner.proof(&job, "done"));
        let outcomes = prove_at_once(&app, vec![proof; 50]).await;
        let receipts: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().receipt).collect();
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
        let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
        assert_eq!(balance.balance.to_string(), "0.002");
        app.audit().await;
    }

    async fn a_row_that_only_the_database_refuses_fails_alone(app: TestApp) {
        let miner = app.miner("m1").await;
        let jobs = taken(&app, &miner, 20).await;
        app.advance(1);
        let proofs = jobs
            .iter()
            .enumerate()
            .map(|(i, job)| {
                let mut proof = miner.proof(job, "done");
                // Two receipts of one id: no rule of ours sees that, the table does.
                let id = if i == 13 { 4 } else { i };
                proof.receipt = Some(signed_receipt(&miner, job, "1", &format!("r-{id}")));
                (caller(&miner.wallet()), proof)
            })
            .collect();
        let outcomes = prove_at_once(&app, proofs).await;
        for (i, outcome) in outcomes.iter().enumerate() {
            let expected = if i == 13 { Some(ErrorCode::InvalidPayload) } else { None };
            assert_eq!(outcome.as_ref().err().copied(), expected, "proof {i}");
        }
        app.audit().await;
    }
}
