//! What an operator sees.

use protocol::admin::{AdminJob, AdminMiner, Availability, Stats};
use protocol::control::{Capacities, Queues, Rates};
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

    async fn queues_rates_and_capacities_count(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        let offer = json!({"models": ["qwen"], "region": "eu", "slots": {"cpu": 3, "gpu": 0}});
        miner.register_with(offer).await.expect(201);
        client.submit_any().await;
        app.advance(2);
        let job = miner.take().await;
        app.advance(10);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        client.submit_any().await;
        let job = miner.take().await;
        miner.fail(&job, "E_EXIT").await.expect(200);
        client.submit_any().await;
        miner.take().await;
        client.submit(json!({"workload": "sd_infer"})).await;
        app.advance(1);

        let queues: Queues = get(&app, "/v1/admin/queues").await;
        let [nobody, hash] = &queues.items[..] else { panic!("{queues:?}") };
        assert_eq!((nobody.queued, nobody.delayed, nobody.held, nobody.able), (1, 0, 0, 0));
        assert_eq!(nobody.needs["workload"], "sd_infer");
        assert_eq!((hash.queued, hash.delayed, hash.held, hash.able), (0, 1, 1, 1));
        assert_eq!(hash.oldest, Some(app.clock.now().plus_secs(-1)));

        let rates: Rates = get(&app, "/v1/admin/rates").await;
        assert_eq!(rates.items.iter().map(|rate| rate.secs).collect::<Vec<_>>(), [60, 3600, 86_400]);
        for rate in &rates.items {
            assert_eq!((rate.submitted, rate.failed_attempts), (4, 1));
            assert_eq!(rate.ended.get("COMPLETED"), Some(&1));
            assert_eq!(rate.credited.to_string(), "0.02");
            assert_eq!((rate.wait_p50_ms, rate.wait_p99_ms), (Some(0), Some(2000)));
        }
        app.advance(120);
        let rates: Rates = get(&app, "/v1/admin/rates").await;
        let submitted: Vec<_> = rates.items.iter().map(|rate| rate.submitted).collect();
        assert_eq!(submitted, [0, 4, 4]);
        assert_eq!(rates.items[0].wait_p50_ms, None);

        miner.heartbeat(json!({})).await.expect(200);
        let offered: Capacities = get(&app, "/v1/admin/capacities").await;
        assert_eq!((offered.online, offered.cpu_slots, offered.gpu_slots), (1, 3, 0));
        assert_eq!(offered.inflight, 1);
        assert_eq!(offered.workloads.len(), 3);
        assert_eq!(offered.models.values().sum::<u64>() + offered.regions.values().sum::<u64>(), 2);
    }

    async fn stats_show_the_shares_of_clients(app: TestApp) {
        let (one, two) = (app.client("c1").await, app.weighted_client("c2", 3).await);
        let miner = app.registered("m1").await;
        for _ in 0..3 {
            one.submit_any().await;
        }
        app.advance(10);
        let job = miner.take().await;
        app.advance(10);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        miner.take().await;
        two.submit_any().await;
        let stats: Stats = get(&app, "/v1/admin/stats").await;
        let [first, second] = &stats.clients[..] else { panic!("{stats:?}") };
        assert_eq!((first.client.as_str(), first.weight), ("c1", 1));
        assert_eq!((first.queued, first.held, first.started), (1, 1, 2));
        assert_eq!((first.wait_p50_ms, first.spent.to_string()), (Some(10_000), "0.02".to_owned()));
        assert_eq!((second.client.as_str(), second.weight), ("c2", 3));
        assert_eq!((second.queued, second.held, second.started), (1, 0, 0));
        app.decide(json!({"clients": {"c1": {"weight": 7}}})).await;
        app.advance(3600);
        let stats: Stats = get(&app, "/v1/admin/stats").await;
        let weight = |client| stats.clients.iter().find(|s| s.client.as_str() == client).unwrap().weight;
        assert_eq!((weight("c1"), weight("c2")), (7, 3));
        assert!(stats.clients.iter().all(|share| share.started == 1 || share.started == 0));
        assert_eq!(stats.clients[0].spent.to_string(), "0.02");
        app.advance(30);
        let stats: Stats = get(&app, "/v1/admin/stats").await;
        assert!(stats.clients.iter().all(|share| share.started == 0 && share.spent.nanos() == 0));
    }

    async fn only_admins_see_it(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        for path in ["stats", "queues", "rates", "capacities", "jobs", "miners"] {
            let path = format!("/v1/admin/{path}");
            client.get(&path).await.refused(ErrorCode::ForbiddenScope);
            miner.get(&path).await.refused(ErrorCode::ForbiddenScope);
        }
        let drain = json!({"drain": true});
        let reply = miner.post("/v1/admin/miners/m1/drain", drain).await;
        reply.refused(ErrorCode::ForbiddenScope);
    }
}
