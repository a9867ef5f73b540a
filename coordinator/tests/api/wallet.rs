//! Balances, ledger lines, deposits.

use protocol::client::JobView;
use protocol::wallet::{Balance, Deposited, LedgerLine, Page};
use protocol::{Amount, ErrorCode};
use serde_json::{Value, json};

use crate::support::{Client, Reply, Request, TestApp, on_both_engines};

async fn deposit(app: &TestApp, client: &str, body: Value) -> Reply {
    let path = format!("/v1/admin/wallets/{client}/deposit");
    Request::post(&path, body).key(&app.admin_key).send(app).await
}

async fn funds(client: &Client<'_>) -> String {
    let balance: Balance = client.get("/v1/wallet/balance").await.expect(200).json();
    balance.balance.to_string()
}

on_both_engines! {
    async fn a_wallet_is_seen_by_its_owner_and_by_admins(app: TestApp) {
        let client = app.client("c1").await;
        let (miner, other) = (app.registered("m1").await, app.registered("m2").await);
        let balance: Balance = miner.get("/v1/wallet/balance").await.expect(200).json();
        assert_eq!((balance.wallet.as_str(), balance.balance), ("w-m1", Amount::ZERO));
        assert_eq!(balance.currency, "AITBC");
        let admin = |wallet: &str| {
            let path = format!("/v1/wallet/balance{wallet}");
            Request::get(&path).key(&app.admin_key).send(&app)
        };
        admin("?wallet=w-m1").await.refused(ErrorCode::WalletNotFound);
        client.submit_any().await;
        let job = miner.take().await;
        app.advance(10);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        let seen: Balance = admin("?wallet=w-m1").await.expect(200).json();
        assert_eq!(seen.balance.to_string(), "0.02");
        admin("").await.refused(ErrorCode::InvalidParam);
        miner.get("/v1/wallet/balance?wallet=w-m1").await.expect(200);
        let foreign = other.get("/v1/wallet/balance?wallet=w-m1").await;
        foreign.refused(ErrorCode::WalletMismatch);
    }

    async fn a_prepaid_client_pays_out_of_its_deposits(app: TestApp) {
        let client = app.prepaid_client("c1").await;
        let miner = app.registered("m1").await;
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::InsufficientFunds);
        let body = json!({"amount": "0.3", "reference": "invoice 1"});
        let paid: Deposited = deposit(&app, "c1", body.clone()).await.expect(201).json();
        assert_eq!((paid.wallet.as_str(), paid.balance.to_string()), ("c1", "0.3".to_owned()));
        // One deposit per reference.
        deposit(&app, "c1", body).await.refused(ErrorCode::ConflictState);

        app.advance(1);
        let view: JobView = client.post("/v1/jobs", job.clone()).await.expect(201).json();
        assert_eq!(funds(&client).await, "0.1");
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::InsufficientFunds);
        let taken = miner.take().await;
        app.advance(10);
        miner.prove(&miner.proof(&taken, "x")).await.expect(201);
        assert_eq!(funds(&client).await, "0.28");
        app.advance(1);
        let canceled: JobView = client.post("/v1/jobs", job).await.expect(201).json();
        assert_eq!(funds(&client).await, "0.08");
        app.advance(1);
        client.cancel(canceled.job_id).await.expect(200);
        assert_eq!(funds(&client).await, "0.28");

        let page: Page<LedgerLine> = client.get("/v1/wallet/ledger?limit=2").await.json();
        let kinds: Vec<_> = page.items.iter().map(|line| line.kind.as_str()).collect();
        assert_eq!(kinds, ["release", "hold"]);
        let rest = format!("/v1/wallet/ledger?cursor={}", page.next.unwrap());
        let page: Page<LedgerLine> = client.get(&rest).await.json();
        let kinds: Vec<_> = page.items.iter().map(|line| line.kind.as_str()).collect();
        assert_eq!(kinds, ["credit", "hold", "deposit"]);
        assert_eq!(page.items[0].job_id, Some(view.job_id));
        app.audit().await;
    }

    async fn deposits_are_checked(app: TestApp) {
        app.prepaid_client("c1").await;
        let good = json!({"amount": "1", "reference": "r"});
        deposit(&app, "nobody", good.clone()).await.refused(ErrorCode::WalletNotFound);
        for (amount, reference, field) in [
            ("0", "r", "amount"),
            ("-1", "r", "amount"),
            ("1e3", "r", "amount"),
            ("9999999999999", "r", "amount"),
            ("1", "", "reference"),
            ("1", "a\u{0}", "reference"),
        ] {
            let body = json!({"amount": amount, "reference": reference});
            let reply = deposit(&app, "c1", body).await;
            assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), field);
        }
        let path = "/v1/admin/wallets/c1/deposit";
        let client = app.client("c2").await;
        client.post(path, good).await.refused(ErrorCode::ForbiddenScope);
        app.audit().await;
    }
}
