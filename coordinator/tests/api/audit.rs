//! The audit log: complete, in order, append-only, and without secrets.

use coordinator::db::Args;
use protocol::ErrorCode;
use protocol::control::AuditLine;
use protocol::wallet::{CreatedKey, Page};
use serde_json::json;

use crate::support::{Engine, Request, TestApp, on_both_engines};

async fn lines(app: &TestApp, query: &str) -> Page<AuditLine> {
    app.admin(Request::get(&format!("/v1/admin/audit{query}"))).await.expect(200).json()
}

on_both_engines! {
    async fn every_change_by_an_operator_is_in_it(app: TestApp) {
        let actor = app.admin_key.split_once('.').unwrap().0.to_owned();
        app.prepaid_client("c1").await;
        let miner = app.registered("m1").await;
        let new = json!({"scope": "client", "client": "c2"});
        let created: CreatedKey =
            app.admin(Request::post("/v1/admin/keys", new)).await.expect(201).json();
        let revoke = || Request::delete(&format!("/v1/admin/keys/{}", created.id));
        app.admin(revoke()).await.expect(204);
        // A second time changes nothing.
        app.admin(revoke()).await.expect(204);
        app.deposit("c1", "5", "invoice 1").await;
        app.decide(json!({"fee_bp": 100})).await;
        app.admin(Request::post("/v1/admin/miners/m1/drain", json!({"drain": true}))).await.expect(200);
        // A miner's own draining is no operator's act.
        miner.post("/v1/miner/drain", json!({"miner_id": "m1", "drain": false})).await.expect(200);
        let key = json!({"miner_id": "m1", "pubkey": miner.pubkey(), "signed_at": app.clock.now()});
        app.admin(Request::post("/v1/miner/key", key)).await.expect(200);
        app.admin(Request::delete("/v1/admin/miners/m1")).await.expect(200);

        let page = lines(&app, "?limit=7").await;
        let seen: Vec<_> = page
            .items
            .iter()
            .map(|line| (line.action.as_str(), line.subject.as_str()))
            .collect();
        let expected = [
            ("miner.release", "m1"),
            ("miner.key", "m1"),
            ("miner.drain", "m1"),
            ("controls.put", "controls"),
            ("wallet.deposit", "c1"),
            ("key.revoke", created.id.as_str()),
            ("key.create", created.id.as_str()),
        ];
        assert_eq!(seen, expected);
        assert!(page.items.iter().all(|line| line.actor == actor && line.at == app.clock.now()));
        assert_eq!(page.items[3].data, json!({"version": 1, "changed": {"fee_bp": 100}}));
        let secret = created.key.split_once('.').unwrap().1;
        assert!(!format!("{page:?}").contains(secret));

        let older = lines(&app, &format!("?cursor={}", page.next.unwrap())).await;
        assert!(older.items.iter().all(|line| line.actor == "local" && line.action == "key.create"));
        let one = lines(&app, "?action=wallet.deposit").await;
        assert_eq!(one.items.len(), 1);
        assert_eq!(one.items[0].data["reference"], "invoice 1");
    }

    async fn what_is_refused_is_not_in_it(app: TestApp) {
        let before = lines(&app, "").await.items.len();
        app.admin(Request::put("/v1/admin/controls", json!({"fee_bp": 20_000}))).await
            .refused(ErrorCode::InvalidPayload);
        app.admin(Request::delete("/v1/admin/keys/client-0011223344556677")).await
            .refused(ErrorCode::KeyNotFound);
        assert_eq!(lines(&app, "").await.items.len(), before);
        let client = app.client("c1").await;
        client.get("/v1/admin/audit").await.refused(ErrorCode::ForbiddenScope);
        app.admin(Request::get("/v1/admin/audit?limit=0")).await.refused(ErrorCode::InvalidParam);
    }

    async fn nobody_changes_what_is_in_it(app: TestApp) {
        app.decide(json!({})).await;
        for table in ["audit_log", "controls"] {
            for change in ["update", "delete", "truncate"] {
                let sql = match (table, change) {
                    ("audit_log", "update") => "update audit_log set actor = 'x'",
                    ("audit_log", "delete") => "delete from audit_log",
                    ("audit_log", _) => "truncate audit_log",
                    (_, "update") => "update controls set actor = 'x'",
                    (_, "delete") => "delete from controls",
                    _ => "truncate controls",
                };
                let mut tx = app.app.db.write().await.unwrap();
                let error = tx.execute(sql, Args::new()).await.unwrap_err().to_string();
                // SQLite knows no truncate.
                let foreign = app.engine() == Engine::Sqlite && change == "truncate";
                let refusal = if foreign { "syntax error" } else { "append-only" };
                assert!(error.contains(refusal), "{change} {table}: {error}");
            }
        }
    }
}
