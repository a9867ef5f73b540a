//! Two replicas on one PostgreSQL.

use std::time::Duration;

use coordinator::app::{App, Clock, Parts};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::db::Args;
use coordinator::dispatch::store::{self, Grant};
use coordinator::router::router;
use ed25519_dalek::SigningKey;
use protocol::miner::Acked;
use protocol::{ErrorCode, Job, JobState};
use serde_json::json;

use crate::support::{Engine, Request, TestApp};

#[tokio::test]
async fn a_job_submitted_to_one_wakes_a_miner_that_waits_at_the_other() {
    // Looked for by itself once in an hour: what comes at once was a notice.
    let one = TestApp::with(Engine::Postgres, |config| config.leases.look_secs = 3600).await;
    let parts = Parts {
        config: (*one.app.config).clone(),
        db: one.app.db.clone(),
        clock: one.clock.clone(),
        auth: Auth::keys(),
        artifacts: Artifacts::memory(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    let other = router(App::start(parts).await.unwrap());
    let client = one.client("c1").await;
    let miner = one.registered("m1").await;
    for _ in 0..3 {
        let path = "/v1/miner/next?miner=m1&slots=1&wait=30";
        let waiting = Request::get(path).key(&miner.key).send_to(&other);
        let submitting = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.submit_any().await
        };
        let (reply, id) = tokio::join!(waiting, submitting);
        assert_eq!(reply.expect(200).json::<Job>().id, id);
    }
}

#[tokio::test]
async fn a_key_revoked_at_one_works_at_the_other_for_a_second_at_most() {
    let one = TestApp::postgres().await;
    let other = one.replica().await.router;
    let client = one.client("c1").await;
    let call = || Request::get("/v1/jobs").key(&client.key);
    // Both know it now, and need not ask for it again for a while.
    call().send(&one).await.expect(200);
    call().send_to(&other).await.expect(200);
    let id = client.key.split_once('.').unwrap().0;
    one.admin(Request::delete(&format!("/v1/admin/keys/{id}"))).await.expect(204);
    call().send(&one).await.refused(ErrorCode::UnauthorizedKey);
    one.clock.advance(Duration::from_secs(1));
    call().send_to(&other).await.refused(ErrorCode::UnauthorizedKey);
}

/// Polls until a session of this database waits for a lock.
async fn somebody_waits(app: &TestApp) {
    let sql = "select count(*) as n from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    loop {
        let mut tx = app.app.db.read().await.unwrap();
        let row = tx.row(sql, Args::new()).await.unwrap().unwrap();
        if row.get::<i64>("n").unwrap() > 0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_cancellation_that_waits_for_a_claim_finds_the_new_holder() {
    let app = TestApp::postgres().await;
    let client = app.client("c1").await;
    app.registered("m1").await;
    let id = client.submit_any().await;
    let mut claim = app.app.db.write().await.unwrap();
    let miner = coordinator::miners::store::find(&mut claim, &"m1".parse().unwrap()).await.unwrap();
    let (now, token) = (app.app.now(), coordinator::app::new_lease_token());
    let (miner_no, tokenless) = (miner.unwrap().no, false);
    let (expires_at, deadline) = (now.plus_secs(10), now.plus_secs(600));
    let miner_id = "m1".parse().unwrap();
    let grant = Grant { job_id: id, miner_no, miner_id, tokenless, token, expires_at, deadline };
    store::lease(&mut claim, now, &[grant]).await.unwrap();
    let committing = async {
        somebody_waits(&app).await;
        claim.commit().await.unwrap();
    };
    let (reply, ()) = tokio::join!(client.cancel(id), committing);
    reply.expect(200);
    assert_eq!(client.job(id).await.state, JobState::Canceled);
}

#[tokio::test]
async fn a_cancellation_locks_the_client_before_its_accounts_as_intake_does() {
    let app = TestApp::postgres().await;
    let client = app.prepaid_client("c1").await;
    app.deposit("c1", "5", "invoice 1").await;
    let job = json!({"workload": "hash", "constraints": {"max_price": "2"}});
    let id = client.submit(job).await;
    assert_eq!(app.account("hold:c1").await.to_string(), "2");
    let mut intake = app.app.db.write().await.unwrap();
    let sql = "select client_id from clients where client_id = 'c1' for no key update";
    assert_eq!(intake.rows(sql, Args::new()).await.unwrap().len(), 1);
    let going_on = async {
        somebody_waits(&app).await;
        // Whoever waits for the client must not have what intake takes next.
        let sql = "select account_id from accounts where name in ('client:c1', 'hold:c1')
                   for update nowait";
        assert_eq!(intake.rows(sql, Args::new()).await.unwrap().len(), 2);
        intake.commit().await.unwrap();
    };
    let (reply, ()) = tokio::join!(client.cancel(id), going_on);
    reply.expect(200);
    assert_eq!(app.account("client:c1").await.to_string(), "5");
    app.audit().await;
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_takes_nothing_from_a_lease() {
    let one = TestApp::postgres().await;
    let behind = Clock::manual(one.clock.now());
    behind.set_back(Duration::from_secs(3));
    let other = one.replica_with(behind, Artifacts::memory()).await.router;
    one.client("c1").await.submit_any().await;
    let miner = one.registered("m1").await;
    let job = miner.take().await;
    let acked: Acked = miner.ack(&job).await.expect(200).json();
    let path = format!("/v1/miner/jobs/{}/ack", job.id);
    let again = Request::post(&path, json!({"lease_token": job.lease.token})).key(&miner.key);
    let again: Acked = again.send_to(&other).await.expect(200).json();
    assert_eq!(again.lease, acked.lease);
}
