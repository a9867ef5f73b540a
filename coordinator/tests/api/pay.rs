//! Fees and bonuses: fixed at submit, exact, bounded, and visible.

use protocol::client::JobView;
use protocol::proof::Credited;
use protocol::wallet::{LedgerLine, Page};
use protocol::{Amount, ErrorCode};
use serde_json::{Value, json};

use crate::support::{TestApp, TestMiner, on_both_engines};

/// 0.002 a second, and a tenth on top at 300 tokens per kJ, none at 100.
pub fn prices() -> Value {
    let bonus = json!({"metric": "tokens_per_kJ", "from": 100, "full_at": 300, "max_bp": 1000});
    json!({
        "cpu": {"unit_type": "cpu_seconds", "unit_price": "0.002", "bonus": bonus},
        "gpu": {"unit_type": "gpu_seconds", "unit_price": "0.02"},
    })
}

/// Proves a job after 100 seconds, with these metrics.
pub async fn earn(app: &TestApp, miner: &TestMiner<'_>, metrics: Value) -> Credited {
    let job = miner.take().await;
    app.advance(100);
    let mut proof = miner.proof(&job, "done");
    proof.metrics = metrics.as_object().cloned().unwrap();
    let paid: Credited = miner.prove(&proof).await.expect(201).json();
    // A repeat says the same.
    let again: Credited = miner.prove(&proof).await.expect(200).json();
    assert_eq!(again, paid);
    paid
}

async fn newest(miner: &TestMiner<'_>) -> LedgerLine {
    let page: Page<LedgerLine> = miner.get("/v1/wallet/ledger?limit=1").await.expect(200).json();
    page.items[0].clone()
}

fn amounts(paid: &Credited) -> [String; 4] {
    let text = |amount: Option<Amount>| amount.map_or("-".to_owned(), |amount| amount.to_string());
    let price = paid.receipt.price.to_string();
    [price, text(paid.fee), text(paid.bonus), paid.credited.to_string()]
}

on_both_engines! {
    async fn the_fee_is_the_one_at_submit_and_rounds_down(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        app.decide(json!({"fee_bp": 333})).await;
        client.submit_any().await;
        app.decide(json!({"fee_bp": 10_000})).await;
        let paid = earn(&app, &miner, json!({"cpu_seconds": "0.000001234"})).await;
        // 0.000001234 x 0.002 = 0.000000002, and 3.33 % of that are nothing.
        assert_eq!(amounts(&paid), ["0.000000002", "-", "-", "0.000000002"]);
        app.decide(json!({"fee_bp": 333})).await;
        client.submit_any().await;
        app.decide(json!({})).await;
        let paid = earn(&app, &miner, json!({})).await;
        assert_eq!(amounts(&paid), ["0.2", "0.00666", "-", "0.19334"]);
        assert_eq!(app.account("fee").await.to_string(), "0.00666");
        assert_eq!(app.account("issuance").await.to_string(), "-0.200000002");
        let line = newest(&miner).await;
        assert_eq!((line.amount.to_string(), line.fee.unwrap().to_string()), ("0.19334".into(), "0.00666".into()));
        app.audit().await;
    }

    async fn a_prepaid_client_pays_the_price_and_the_fee_is_in_it(app: TestApp) {
        let client = app.prepaid_client("c1").await;
        let miner = app.registered("m1").await;
        app.deposit("c1", "1", "invoice 1").await;
        app.decide(json!({"fee_bp": 1000, "prices": prices()})).await;
        client.submit(json!({"workload": "hash", "limits": {"max_runtime_s": 200}})).await;
        let paid = earn(&app, &miner, json!({"tokens_per_kJ": 1000})).await;
        assert_eq!(amounts(&paid), ["0.2", "0.02", "0.02", "0.2"]);
        // The bonus is the operator's, not the client's.
        assert_eq!(app.account("client:c1").await.to_string(), "0.8");
        assert_eq!(app.account("issuance").await.to_string(), "-0.02");
        let page: Page<LedgerLine> = client.get("/v1/wallet/ledger?limit=1").await.json();
        assert_eq!((page.items[0].fee, page.items[0].bonus), (None, None));
        app.audit().await;
    }

    async fn a_bonus_is_bounded_and_nonsense_earns_none(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        app.decide(json!({"prices": prices()})).await;
        for (measured, bonus) in [
            (json!(100), "-"),
            (json!(150.5), "0.00505"),
            (json!("200"), "0.01"),
            (json!(300), "0.02"),
            (json!(1_000_000), "0.02"),
            (json!(-5), "-"),
            (json!(1e300), "-"),
            (json!("much"), "-"),
            (json!({"tokens": 1}), "-"),
            (json!(null), "-"),
        ] {
            client.submit_any().await;
            let paid = earn(&app, &miner, json!({"tokens_per_kJ": measured})).await;
            assert_eq!(amounts(&paid)[2], bonus, "{measured}");
        }
        client.submit_any().await;
        earn(&app, &miner, json!({"tokens_per_kJ": 300})).await;
        let line = newest(&miner).await;
        assert_eq!((line.amount.to_string(), line.bonus.unwrap().to_string()), ("0.22".into(), "0.02".into()));
        // Who says nothing, and who measures something else, gets none.
        client.submit_any().await;
        let paid = earn(&app, &miner, json!({"tokens_per_TFLOP_s": 1000})).await;
        assert_eq!(paid.bonus, None);
        app.audit().await;
    }

    async fn a_bonus_is_fixed_at_submit(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        app.decide(json!({"prices": prices()})).await;
        assert_eq!(earn(&app, &miner, json!({"tokens_per_kJ": 300})).await.bonus, None);
        client.submit_any().await;
        app.decide(json!({})).await;
        let paid = earn(&app, &miner, json!({"tokens_per_kJ": 300})).await;
        assert_eq!(amounts(&paid), ["0.2", "-", "0.02", "0.22"]);
        app.audit().await;
    }

    async fn bonuses_count_for_the_daily_cap(app: TestApp) {
        let prepaid = app.prepaid_client("p1").await;
        let client = app.client("c1").await;
        app.deposit("p1", "9", "invoice 1").await;
        // Issued at most: 0.22 of a client's job, 0.02 of a prepaid one.
        app.decide(json!({"prices": prices(), "daily_cap": "0.45"})).await;
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        client.submit(job.clone()).await;
        let _: JobView = prepaid.post("/v1/jobs", job.clone()).await.expect(201).json();
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::DailyCapReached);
        for _ in 0..10 {
            prepaid.submit(job.clone()).await;
        }
        prepaid.post("/v1/jobs", job).await.refused(ErrorCode::DailyCapReached);
        app.audit().await;
    }
}
