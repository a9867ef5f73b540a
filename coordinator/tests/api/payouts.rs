//! What wallets are owed, as a file, and that it was paid.

use protocol::payout::{PaidOut, PayoutFile};
use protocol::wallet::{Balance, LedgerLine, Page};
use protocol::{ErrorCode, Timestamp};
use serde_json::json;

use crate::support::{Reply, Request, TestApp, TestMiner, on_both_engines};

async fn export(app: &TestApp, query: &str) -> PayoutFile {
    let path = format!("/v1/admin/payouts/export{query}");
    let file: PayoutFile = app.admin(Request::get(&path)).await.expect(200).json();
    assert_eq!(file.verify(), Ok(()));
    file
}

async fn mark(app: &TestApp, file: &PayoutFile) -> Reply {
    app.admin(Request::post("/v1/admin/payouts", file)).await
}

/// Ten seconds of work: 0.02.
async fn earn(app: &TestApp, miner: &TestMiner<'_>) {
    app.client("c1").await.submit_any().await;
    let job = miner.take().await;
    app.advance(10);
    miner.prove(&miner.proof(&job, "done")).await.expect(201);
}

fn owed(file: &PayoutFile) -> Vec<(&str, String, usize)> {
    let line = |line: &protocol::payout::PayoutLine| line.amount.to_string();
    file.items.iter().map(|l| (l.wallet.as_str(), line(l), l.receipts.len())).collect()
}

async fn balance(miner: &TestMiner<'_>) -> String {
    miner.get("/v1/wallet/balance").await.expect(200).json::<Balance>().balance.to_string()
}

fn minutes(from: Timestamp, minutes: i64) -> Timestamp {
    from.plus_secs(60 * minutes)
}

on_both_engines! {
    async fn what_is_marked_leaves_the_wallets_once(app: TestApp) {
        let (one, two) = (app.registered("m1").await, app.registered("m2").await);
        earn(&app, &one).await;
        earn(&app, &one).await;
        earn(&app, &two).await;
        app.advance(1);
        let file = export(&app, "").await;
        assert_eq!(owed(&file), [("w-m1", "0.04".into(), 2), ("w-m2", "0.02".into(), 1)]);
        assert_eq!(file.total.to_string(), "0.06");
        // An export changes nothing, and the same export is the same file.
        assert_eq!(balance(&one).await, "0.04");
        assert_eq!(export(&app, "").await.export_id, file.export_id);
        earn(&app, &one).await;

        let paid: PaidOut = mark(&app, &file).await.expect(200).json();
        assert_eq!((paid.wallets, paid.total.to_string(), paid.paid_at), (2, "0.06".into(), app.clock.now()));
        app.advance(60);
        assert_eq!(mark(&app, &file).await.expect(200).json::<PaidOut>(), paid);
        assert_eq!((balance(&one).await, balance(&two).await), ("0.02".into(), "0".into()));
        assert_eq!(app.account("paid_out").await.to_string(), "0.06");
        let lines: Page<LedgerLine> = one.get("/v1/wallet/ledger?limit=1").await.json();
        let line = &lines.items[0];
        assert_eq!((line.kind.as_str(), line.amount.to_string()), ("payout", "-0.04".into()));
        let rest = export(&app, "").await;
        assert_eq!(owed(&rest), [("w-m1", "0.02".into(), 3)]);
        app.audit().await;
    }

    async fn a_period_has_its_receipts_and_the_balance_at_its_end(app: TestApp) {
        let miner = app.registered("m1").await;
        let start = app.clock.now();
        earn(&app, &miner).await;
        app.advance(3600);
        earn(&app, &miner).await;
        app.advance(3600);
        earn(&app, &miner).await;
        app.advance(1);
        let period = |since, until| format!("?since={since}&until={until}");
        let second = export(&app, &period(minutes(start, 30), minutes(start, 90))).await;
        assert_eq!(owed(&second), [("w-m1", "0.04".into(), 1)]);
        mark(&app, &second).await.expect(200);
        // What was paid since is not owed any more, whatever the period.
        let same = export(&app, &period(minutes(start, 30), minutes(start, 90))).await;
        assert_eq!(owed(&same), []);
        mark(&app, &same).await.refused(ErrorCode::InvalidPayload);
        assert_eq!(owed(&export(&app, "").await), [("w-m1", "0.02".into(), 3)]);
        app.audit().await;
    }

    async fn where_a_wallet_holds_too_little_nobody_is_paid(app: TestApp) {
        let (one, two) = (app.registered("m1").await, app.registered("m2").await);
        earn(&app, &one).await;
        let alone = export(&app, "").await;
        earn(&app, &two).await;
        app.advance(1);
        let both = export(&app, "").await;
        assert_eq!(owed(&alone), []);
        let alone = PayoutFile::new(both.since, both.until, both.created_at, vec![both.items[0].clone()]);
        let alone = alone.unwrap().signed(&app.app.attestor);
        mark(&app, &alone).await.expect(200);
        let refused = mark(&app, &both).await.refused(ErrorCode::ConflictState);
        assert!(refused.text().contains("w-m1"));
        assert_eq!(balance(&two).await, "0.02");
        app.audit().await;
    }

    async fn two_marks_at_once_are_one(app: TestApp) {
        let miner = app.registered("m1").await;
        earn(&app, &miner).await;
        app.advance(1);
        let file = export(&app, "").await;
        let replies = futures_util::future::join_all((0..4).map(|_| mark(&app, &file))).await;
        let paid: Vec<PaidOut> = replies.into_iter().map(|reply| reply.expect(200).json()).collect();
        assert!(paid.iter().all(|other| *other == paid[0]));
        assert_eq!(app.account("paid_out").await.to_string(), "0.02");
        app.audit().await;
    }

    async fn only_our_own_files_count_and_only_admins_see_them(app: TestApp) {
        let miner = app.registered("m1").await;
        earn(&app, &miner).await;
        app.advance(1);
        let file = export(&app, "").await;
        let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        mark(&app, &file.clone().signed(&stranger)).await.refused(ErrorCode::BadSignature);
        let mut greedy = file.clone();
        greedy.total = "9".parse().unwrap();
        mark(&app, &greedy).await.refused(ErrorCode::BadSignature);
        miner.get("/v1/admin/payouts/export").await.refused(ErrorCode::ForbiddenScope);
        miner.send(Request::post("/v1/admin/payouts", &file)).await.refused(ErrorCode::ForbiddenScope);
        for query in ["until=2099-01-01T00:00:00Z", "since=x", "format=pdf", "wallet=w-m1"] {
            let path = format!("/v1/admin/payouts/export?{query}");
            app.admin(Request::get(&path)).await.refused(ErrorCode::InvalidParam);
        }
        let body = json!({"amount": "1", "reference": file.export_id});
        app.prepaid_client("p1").await;
        let taken = app.admin(Request::post("/v1/admin/wallets/p1/deposit", body)).await;
        assert_eq!(taken.refused(ErrorCode::InvalidPayload).field(), "reference");
    }

    async fn it_comes_as_a_table_too(app: TestApp) {
        let miner = app.registered("m1").await;
        earn(&app, &miner).await;
        app.advance(1);
        let file = export(&app, "").await;
        let reply = app.admin(Request::get("/v1/admin/payouts/export?format=csv")).await.expect(200);
        assert_eq!(reply.headers["content-type"], "text/csv; charset=utf-8");
        let receipt = &file.items[0].receipts[0];
        let expected = format!("wallet,amount,receipts\r\n\"w-m1\",0.02,\"{receipt}\"\r\n");
        assert_eq!(reply.text(), expected);
    }
}
