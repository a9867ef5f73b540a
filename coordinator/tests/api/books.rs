//! The audit of the books finds what is wrong: every rule, broken by hand.

use std::collections::BTreeSet;

use coordinator::db::Args;
use coordinator::ledger::audit::store::{audit, rules};
use serde_json::json;

use crate::pay::{earn, prices};
use crate::support::{TestApp, on_both_engines};

/// A transfer that nobody made.
const TRANSFER: &str = "insert into transfers (transfer_id, kind, created_at)
    select '00000000-0000-0000-0000-000000000001', 'deposit', max(created_at) from transfers";
const CREDIT: &str = "insert into transfers (transfer_id, kind, created_at)
    select '00000000-0000-0000-0000-000000000001', 'credit', max(created_at) from transfers";
const PAYOUT: &str = "insert into transfers (transfer_id, kind, created_at)
    select '00000000-0000-0000-0000-000000000001', 'payout', max(created_at) from transfers";

const EXTERNAL: &str = "insert into entries (transfer_id, account_id, amount)
    select '00000000-0000-0000-0000-000000000001', account_id, 5 from accounts where name = 'external'";
const FEE: &str = "insert into entries (transfer_id, account_id, amount)
    select '00000000-0000-0000-0000-000000000001', account_id, 5 from accounts where name = 'fee'";
const ISSUANCE: &str = "insert into entries (transfer_id, account_id, amount)
    select '00000000-0000-0000-0000-000000000001', account_id, 5 from accounts where name = 'issuance'";

/// What breaks the books, and how the rule begins that is broken.
const BREACHES: &[(&[&str], &str)] = &[
    (&[TRANSFER, EXTERNAL], "every transfer's entries sum to zero"),
    (&[TRANSFER], "every transfer has entries"),
    (&["update accounts set balance = balance + 1 where name = 'fee'"], "every balance is"),
    (&["update accounts set balance = -1 where name = 'wallet:w-m1'"], "no wallet, client or hold"),
    (&[CREDIT, EXTERNAL], "every credit has its receipt"),
    (
        &["update accounts set name = 'wallet:x' where name = 'wallet:w-m1'"],
        "every receipt has its credit",
    ),
    (&["update jobs set fee_bp = 999 where outcome is not null"], "every fee is the share"),
    (&[TRANSFER, FEE], "every fee is booked"),
    (&["update jobs set hold = 5 where outcome is not null"], "what a receipt issues"),
    (&[TRANSFER, ISSUANCE], "nothing is issued without a receipt"),
    (&[PAYOUT, EXTERNAL], "every payout goes from wallets"),
    (&["update jobs set hold = hold + 1 where outcome is null"], "every held amount"),
    (&["update jobs set hold = hold + 1 where outcome is null"], "holds are what"),
    (&["update jobs set bonus = null"], "every bonus is what"),
    (
        &["update jobs set outcome = 'FAILED' where outcome is not null"],
        "every receipt belongs to a completed",
    ),
    (&["update attempts set outcome = 'FAILED'"], "every receipt belongs to one accepted"),
    (&["insert into promises (amount) values (1)"], "what is promised is what"),
    (&["delete from queue"], "a job is in the queue or has ended"),
];

on_both_engines! {
    async fn every_rule_is_broken_by_something(app: TestApp) {
        let (client, prepaid) = (app.client("c1").await, app.prepaid_client("p1").await);
        let miner = app.registered("m1").await;
        app.deposit("p1", "9", "invoice 1").await;
        app.decide(json!({"fee_bp": 1000, "prices": prices()})).await;
        client.submit_any().await;
        earn(&app, &miner, json!({"tokens_per_kJ": 300})).await;
        prepaid.submit_any().await;
        app.audit().await;
        let mut broken = BTreeSet::new();
        for (statements, rule) in BREACHES {
            let mut tx = app.app.db.write().await.unwrap();
            for sql in *statements {
                tx.execute(sql, Args::new()).await.unwrap();
            }
            let faults = audit(&mut tx).await.unwrap().faults;
            let found = faults.iter().find(|fault| fault.rule.starts_with(rule));
            broken.insert(found.unwrap_or_else(|| panic!("{rule}: {faults:?}")).rule);
        }
        assert_eq!(broken, rules().collect::<BTreeSet<_>>());
        app.audit().await;
    }
}
