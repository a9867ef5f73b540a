//! What miners have done so far, and names that are taken from them.

use protocol::admin::{AdminMiner, Released};
use protocol::miner::Reputation;
use protocol::wallet::Page;
use protocol::{ErrorCode, Units};
use serde_json::json;

use crate::support::{Request, TestApp, TestMiner, on_both_engines};

async fn reputation(miner: &TestMiner<'_>) -> Reputation {
    let path = format!("/v1/miner/reputation?miner={}", miner.name);
    miner.get(&path).await.expect(200).json()
}

on_both_engines! {
    async fn it_comes_from_attempts(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let fresh = reputation(&miner).await;
        assert_eq!((fresh.jobs_completed, fresh.success_bp), (0, None));
        client.submit_any().await;
        let job = miner.take().await;
        app.advance(1800);
        miner.heartbeat(json!({})).await.expect(200);
        app.sweep().await;
        // Late, but nobody else had it: what counted as failed is made good.
        miner.prove(&miner.proof(&job, "done")).await.expect(201);
        client.submit_any().await;
        let job = miner.take().await;
        miner.fail(&job, "E_DENY").await.expect(200);
        client.submit_any().await;
        let called_off = miner.take().await;
        client.cancel(called_off.id).await.expect(200);
        app.advance(2 * 3600);
        miner.heartbeat(json!({})).await.expect(200);
        app.sweep().await;

        let known = reputation(&miner).await;
        assert_eq!((known.jobs_completed, known.jobs_failed), (1, 1));
        assert_eq!(known.success_bp, Some(5_000));
        assert_eq!(known.compute_hours, "0.5".parse::<Units>().unwrap());
        assert_eq!(known.last_seen, Some(app.clock.now()));

        let page: Page<AdminMiner> = app.admin(Request::get("/v1/admin/miners")).await.json();
        assert_eq!(page.items[0].reputation, known);
        // Of what is long ago the sums stay, the rates do not.
        app.advance(40 * 86_400);
        let old = reputation(&miner).await;
        assert_eq!((old.jobs_completed, old.success_bp, old.uptime_bp), (1, None, 0));
    }

    async fn uptime_is_from_heartbeat_to_heartbeat(app: TestApp) {
        let miner = app.registered("m1").await;
        for _ in 0..3 {
            app.advance(20);
            miner.heartbeat(json!({})).await.expect(200);
        }
        assert_eq!(reputation(&miner).await.uptime_bp, 10_000);
        // A minute of two.
        app.advance(60);
        assert_eq!(reputation(&miner).await.uptime_bp, 5_000);
        // Gone, it is written, and counted no second time when it is back.
        app.advance(60);
        app.sweep().await;
        assert_eq!(reputation(&miner).await.uptime_bp, 3_333);
        miner.heartbeat(json!({})).await.expect(200);
        app.advance(20);
        miner.heartbeat(json!({})).await.expect(200);
        assert_eq!(reputation(&miner).await.uptime_bp, 4_000);
        let page: Page<AdminMiner> = app.admin(Request::get("/v1/admin/miners")).await.json();
        assert_eq!(page.items[0].reputation.uptime_bp, 4_000);
        // What is much is written although it goes on.
        for _ in 0..60 {
            app.advance(20);
            miner.heartbeat(json!({})).await.expect(200);
            app.sweep().await;
        }
        assert_eq!(reputation(&miner).await.uptime_bp, 9_142);
        app.advance(40 * 86_400);
        assert_eq!(reputation(&miner).await.uptime_bp, 0);
    }

    async fn it_is_the_miners_own(app: TestApp) {
        let (_, other) = (app.registered("m1").await, app.registered("m2").await);
        other.get("/v1/miner/reputation?miner=m1").await.refused(ErrorCode::MinerMismatch);
        let client = app.client("c1").await;
        client.get("/v1/miner/reputation?miner=m1").await.refused(ErrorCode::ForbiddenScope);
        other.get("/v1/miner/reputation?miner=m3").await.refused(ErrorCode::MinerNotRegistered);
    }

    async fn a_name_that_a_stranger_took_can_be_released(app: TestApp) {
        let client = app.client("c1").await;
        let stranger = app.registered("m1").await;
        client.submit_any().await;
        client.submit_any().await;
        let job = stranger.take().await;
        let release = || app.admin(Request::delete("/v1/admin/miners/m1"));
        let refused = release().await.refused(ErrorCode::ConflictState);
        assert!(refused.text().contains("holds jobs"));
        app.advance(1);
        let proof = stranger.proof(&job, "done");
        stranger.prove(&proof).await.expect(201);

        let released: Released = release().await.expect(200).json();
        assert_eq!(released.miner_id.as_str(), "m1");
        assert!(released.renamed.as_str().starts_with("m1~"));
        release().await.refused(ErrorCode::MinerNotRegistered);
        let mut owner = app.miner("owner").await;
        owner.name = "m1".to_owned();
        owner.register_with(json!({"wallet": "w-owner"})).await.expect(201);
        stranger.get("/v1/miner/next?miner=m1&slots=1").await.refused(ErrorCode::MinerMismatch);
        // What it did stays: the same proof again has the same answer.
        stranger.prove(&proof).await.expect(200);
        let page: Page<AdminMiner> = app.admin(Request::get("/v1/admin/miners")).await.json();
        let names: Vec<_> = page.items.iter().map(|miner| miner.miner_id.as_str()).collect();
        assert_eq!(names, ["m1", released.renamed.as_str()]);
        assert!(page.items[1].drain);
        owner.take().await;
        app.audit().await;
    }
}
