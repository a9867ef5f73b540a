//! Idempotency keys at their table: what parallel transactions, lists and age do to them.

use coordinator::accounts::{IdempotencyKey, StoredReply, store};
use coordinator::error::ApiError;
use protocol::{ErrorCode, Sha256Hex};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Engine, TestApp, on_both_engines};

fn key(number: u128, body: &[u8]) -> IdempotencyKey {
    IdempotencyKey {
        key_id: "client-1".to_owned(),
        route: "POST /v1/jobs".to_owned(),
        key: Uuid::from_u128(number),
        body: Sha256Hex::of(body),
    }
}

fn reply(status: u16) -> StoredReply {
    StoredReply { status, body: json!({"text": "U+0000 \u{0} and \"quotes\"", "n": 1}) }
}

on_both_engines! {
    async fn a_list_has_one_outcome_per_key(app: TestApp) {
        let (db, now) = (&app.app.db, app.app.now());
        let (old, new) = (key(1, b"a"), key(2, b"a"));
        let mut tx = db.write().await.unwrap();
        assert_eq!(store::begin(&mut tx, &[&old]).await.unwrap(), [Ok(None)]);
        store::finish(&mut tx, now, &[(&old, reply(201))]).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.write().await.unwrap();
        let other_body = key(1, b"b");
        let other_route = IdempotencyKey { route: "POST /v1/inputs".to_owned(), ..old.clone() };
        let other_caller = IdempotencyKey { key_id: "client-2".to_owned(), ..old.clone() };
        let keys = [&new, &old, &new, &other_route, &other_caller];
        let outcomes = store::begin(&mut tx, &keys).await.unwrap();
        assert_eq!(outcomes[0], Ok(None));
        assert_eq!(outcomes[1], Ok(Some(reply(201))));
        assert_eq!(outcomes[2].as_ref().unwrap_err().code, ErrorCode::IdempotencyInFlight);
        assert_eq!(outcomes[3..], [Ok(None), Ok(None)]);
        let reused = store::begin(&mut tx, &[&other_body]).await.unwrap();
        assert_eq!(reused[0].as_ref().unwrap_err().code, ErrorCode::IdempotencyKeyReused);
    }

    async fn what_may_change_is_not_kept(app: TestApp) {
        let (db, now) = (&app.app.db, app.app.now());
        let keys = [key(1, b"a"), key(2, b"a"), key(3, b"a")];
        let mut tx = db.write().await.unwrap();
        let replies: Vec<_> = keys.iter().zip([429, 503, 422]).map(|(k, s)| (k, reply(s))).collect();
        store::finish(&mut tx, now, &replies).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.write().await.unwrap();
        let outcomes = store::begin(&mut tx, &keys.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(outcomes, [Ok(None), Ok(None), Ok(Some(reply(422)))]);
    }

    async fn old_replies_are_forgotten(app: TestApp) {
        let (db, now) = (&app.app.db, app.app.now());
        let (old, new) = (key(1, b"a"), key(2, b"a"));
        let mut tx = db.write().await.unwrap();
        store::finish(&mut tx, now, &[(&old, reply(201))]).await.unwrap();
        store::finish(&mut tx, now.plus_secs(10), &[(&new, reply(201))]).await.unwrap();
        assert_eq!(store::forget(&mut tx, now.plus_secs(10), 10).await.unwrap(), 1);
        let outcomes = store::begin(&mut tx, &[&old, &new]).await.unwrap();
        assert_eq!(outcomes, [Ok(None), Ok(Some(reply(201)))]);
    }

    async fn a_rolled_back_effect_leaves_no_reply(app: TestApp) {
        let (db, now) = (&app.app.db, app.app.now());
        let key = key(1, b"a");
        let mut tx = db.write().await.unwrap();
        assert_eq!(store::begin(&mut tx, &[&key]).await.unwrap(), [Ok(None)]);
        store::finish(&mut tx, now, &[(&key, reply(201))]).await.unwrap();
        drop(tx);
        // The driver rolls back when the connection is back in its pool: not at once.
        let mut outcomes = vec![Err(ApiError::internal())];
        for _ in 0..1000 {
            let mut tx = db.write().await.unwrap();
            outcomes = store::begin(&mut tx, &[&key]).await.unwrap();
            if outcomes[0].is_ok() {
                break;
            }
        }
        assert_eq!(outcomes, [Ok(None)]);
    }
}

/// On SQLite the second writer waits for the first; there is nothing to lose.
#[tokio::test]
async fn the_loser_of_a_race_is_told_so_and_the_next_is_answered_on_postgres() {
    let app = TestApp::with(Engine::Postgres, |_| {}).await;
    let (db, now) = (&app.app.db, app.app.now());
    let key = key(1, b"a");
    let mut first = db.write().await.unwrap();
    assert_eq!(store::begin(&mut first, &[&key]).await.unwrap(), [Ok(None)]);
    let mut second = db.write().await.unwrap();
    let lost = store::begin(&mut second, &[&key]).await.unwrap();
    assert_eq!(lost[0].as_ref().unwrap_err().code, ErrorCode::IdempotencyInFlight);
    store::finish(&mut first, now, &[(&key, reply(201))]).await.unwrap();
    first.commit().await.unwrap();
    // The same transaction that lost, younger statement: it sees what was committed.
    assert_eq!(store::begin(&mut second, &[&key]).await.unwrap(), [Ok(Some(reply(201)))]);
}
