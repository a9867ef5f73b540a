//! What an operator sees.

use protocol::admin::{AdminJob, AdminMiner, Availability, Stats};
use protocol::wallet::Page;
use protocol::{ErrorCode, JobState};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::support::{Request, TestApp, on_both_engines};

async fn get<T: DeserializeOwned>(app: &TestApp, path: &str) -> T {
    Request::get(path).key(&app.admin_key).send(app).await.expect(200).json()
}

on_both_engines! {
    async fn miners_are_listed_with_what_they_are_up_to(app: TestApp) {
        let client = app.client("c1").await;
        let (one, two) = (app.registered("m1").await, app.miner("m2").await);
        two.heartbeat(json!({"status": "BUSY", "metrics": {"cpu_load": 0.5}})).await.expect(200);
        client.submit_any().await;
        one.work().await;
        client.submit_any().await;
        let job = one.take().await;
        one.fail(&job, "E_EXIT").await.expect(200);
        app.sweep().await;
        let page: Page<AdminMiner> = get(&app, "/v1/admin/miners").await;
        let [second, first] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!((first.jobs_completed, first.jobs_failed, first.inflight), (1, 1, 0));
        assert_eq!((first.status, first.registered), (Availability::Online, true));
        assert_eq!(second.last_heartbeat, Some(app.clock.now()));
        assert!(!second.registered);
        assert_eq!(second.report["metrics"]["cpu_load"], 0.5);

        let limited: Page<AdminMiner> = get(&app, "/v1/admin/miners?limit=1").await;
        let next = limited.next.unwrap();
        let rest: Page<AdminMiner> = get(&app, &format!("/v1/admin/miners?cursor={next}")).await;
        assert_eq!(rest.items[0].miner_id.as_str(), "m1");

        app.advance(61);
        let page: Page<AdminMiner> = get(&app, "/v1/admin/miners").await;
        assert!(page.items.iter().all(|miner| miner.status == Availability::Offline));
    }

    async fn jobs_of_all_clients_are_listed(app: TestApp) {
        let (one, two) = (app.client("c1").await, app.client("c2").await);
        one.submit_any().await;
        let newest = two.submit_any().await;
        let page: Page<AdminJob> = get(&app, "/v1/admin/jobs?state=QUEUED").await;
        assert_eq!(page.items.len(), 2);
        let of_two = page.items.iter().find(|item| item.job.job_id == newest).unwrap();
        assert_eq!((of_two.client.as_str(), of_two.job.state), ("c2", JobState::Queued));
    }

    async fn stats_count(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let job = miner.take().await;
        app.advance(10);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        client.submit_any().await;
        let stats: Stats = get(&app, "/v1/admin/stats").await;
        assert_eq!(stats.live_jobs.get("QUEUED"), Some(&1));
        assert_eq!(stats.last_day.get("COMPLETED"), Some(&1));
        assert_eq!(stats.last_day.get("LIVE"), Some(&1));
        assert_eq!((stats.miners.known, stats.miners.online, stats.miners.draining), (1, 1, 0));
        assert_eq!(stats.issued.to_string(), "0.02");
        app.advance(25 * 3600);
        let stats: Stats = get(&app, "/v1/admin/stats").await;
        assert!(stats.last_day.is_empty());
    }

    async fn only_admins_see_it(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        for path in ["stats", "jobs", "miners"] {
            let path = format!("/v1/admin/{path}");
            client.get(&path).await.refused(ErrorCode::ForbiddenScope);
            miner.get(&path).await.refused(ErrorCode::ForbiddenScope);
        }
        let drain = json!({"drain": true});
        let reply = miner.post("/v1/admin/miners/m1/drain", drain).await;
        reply.refused(ErrorCode::ForbiddenScope);
    }
}
