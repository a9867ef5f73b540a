//! What an operator decides while the coordinator runs.

use coordinator::controls::Switchboard;
use coordinator::db::Args;
use protocol::client::{BatchReply, JobView, Quote};
use protocol::control::Controls;
use protocol::miner::HeartbeatReply;
use protocol::proof::Credited;
use protocol::{ErrorCode, Job};
use serde_json::{Value, json};

use crate::support::{Reply, Request, TestApp, on_both_engines};

fn details(reply: &Reply) -> Value {
    reply.json::<Value>()["error"]["details"].clone()
}

async fn put(app: &TestApp, controls: Value) -> Reply {
    app.admin(Request::put("/v1/admin/controls", controls)).await
}

/// The statuses of a batch of jobs.
async fn batch(app: &TestApp, key: &str, count: usize) -> Vec<u16> {
    let body = json!({"jobs": vec![json!({"workload": "hash"}); count]});
    let reply = Request::post("/v1/jobs/batch", body).key(key).send(app).await;
    let reply: BatchReply = reply.expect(200).json();
    reply.items.iter().map(|item| item.status).collect()
}

on_both_engines! {
    async fn they_are_counted_and_a_stale_version_is_refused(app: TestApp) {
        let get = || app.admin(Request::get("/v1/admin/controls"));
        let first: Controls = get().await.expect(200).json();
        assert_eq!(first, Controls { version: Some(0), ..Controls::default() });
        let second = app.decide(json!({"version": 0, "fee_bp": 250})).await;
        assert_eq!((second.version, second.fee_bp), (Some(1), 250));
        let stale = put(&app, json!({"version": 0})).await;
        assert_eq!(details(&stale.refused(ErrorCode::ConflictState))["version"], 1);
        assert_eq!(get().await.json::<Controls>(), second);
        // Without a version the last one wins.
        assert_eq!(app.decide(json!({})).await.version, Some(2));
        let client = app.client("c1").await;
        client.get("/v1/admin/controls").await.refused(ErrorCode::ForbiddenScope);
        client.send(Request::put("/v1/admin/controls", json!({}))).await
            .refused(ErrorCode::ForbiddenScope);
    }

    async fn wrong_values_are_named_and_change_nothing(app: TestApp) {
        let wrong = json!({"fee_bp": 10_001, "clients": {"c1": {"weight": 0}}});
        let refused = put(&app, wrong).await.refused(ErrorCode::InvalidPayload);
        assert_eq!(refused.field(), "fee_bp");
        assert_eq!(details(&refused)["problems"][1]["field"], "clients.c1.weight");
        for (wrong, field) in [
            (json!({"intake": 1}), "intake"),
            (json!({"inttake": true}), "inttake"),
            (json!({"daily_cap": "1e3"}), "daily_cap"),
            (json!({"clients": {"c1": {"limit": 1}}}), "clients.c1.limit"),
        ] {
            let refused = put(&app, wrong).await.refused(ErrorCode::InvalidPayload);
            assert_eq!(refused.field(), field);
        }
        let controls: Controls = app.admin(Request::get("/v1/admin/controls")).await.json();
        assert_eq!(controls.version, Some(0));
    }

    async fn while_intake_is_paused_nothing_is_taken_in(app: TestApp) {
        let client = app.client("c1").await;
        app.decide(json!({"intake": false})).await;
        let submit = |key: &str| {
            let request = Request::post("/v1/jobs", json!({"workload": "hash"}));
            client.send(request.header("idempotency-key", key))
        };
        let key = "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11";
        let refused = submit(key).await.refused(ErrorCode::IntakePaused);
        assert_eq!(refused.headers["retry-after"], "30");
        assert_eq!(batch(&app, &client.key, 2).await, [503, 503]);
        app.decide(json!({})).await;
        submit(key).await.expect(201);
    }

    async fn while_dispatch_is_paused_work_goes_on_and_none_is_given(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        client.submit_any().await;
        let job = miner.take().await;
        app.decide(json!({"dispatch": false})).await;
        assert_eq!(miner.next().await, None);
        app.advance(10);
        let paid: Credited = miner.prove(&miner.proof(&job, "done")).await.expect(201).json();
        assert_eq!(paid.credited.to_string(), "0.02");
        // Who waits is given the other as soon as there is something to give.
        let path = "/v1/miner/next?miner=m1&slots=1&wait=30";
        let waiting = miner.get(path);
        let resuming = async {
            tokio::task::yield_now().await;
            app.decide(json!({})).await
        };
        let (reply, _) = tokio::join!(waiting, resuming);
        reply.expect(200).json::<Job>();
    }

    async fn other_prices_are_for_new_jobs_only(app: TestApp) {
        let client = app.client("c1").await;
        let before = client.submit_any().await;
        let prices = json!({
            "workloads": {"hash": {"unit_type": "cpu_seconds", "unit_price": "0.5"}},
            "gpu": {"unit_type": "gpu_seconds", "unit_price": "1"},
            "cpu": {"unit_type": "cpu_seconds", "unit_price": "0.1"},
        });
        app.decide(json!({"prices": prices})).await;
        let after = client.submit_any().await;
        let price = async |id| client.job(id).await.price.unit_price.to_string();
        assert_eq!((price(before).await, price(after).await), ("0.002".into(), "0.5".into()));
        let dry = client.post("/v1/jobs?dry_run=true", json!({"workload": "torch_bench"})).await;
        assert_eq!(dry.expect(200).json::<Quote>().unit_price.to_string(), "0.1");
        app.decide(json!({})).await;
        let again = client.submit_any().await;
        assert_eq!(price(again).await, "0.002");
    }

    async fn a_banned_client_is_told_why(app: TestApp) {
        let (client, other) = (app.client("c1").await, app.client("c2").await);
        let before = client.submit_any().await;
        app.decide(json!({"clients": {"c1": {"banned": "unpaid invoice 7"}}})).await;
        let refused = client.post("/v1/jobs", json!({"workload": "hash"})).await;
        assert!(refused.refused(ErrorCode::Banned).text().contains("unpaid invoice 7"));
        other.submit_any().await;
        // What it has may go on, and may be called off.
        client.job(before).await;
        client.cancel(before).await.expect(200);
    }

    async fn live_jobs_have_a_quota_that_ended_jobs_make_room_in(app: TestApp) {
        let client = app.client("c1").await;
        let kept = client.submit_any().await;
        app.decide(json!({"clients": {"c1": {"max_live_jobs": 3}}})).await;
        // One batch is one transaction: it must not slip through as a whole.
        assert_eq!(batch(&app, &client.key, 4).await, [201, 201, 429, 429]);
        let refused = client.post("/v1/jobs", json!({"workload": "hash"})).await;
        let refused = refused.refused(ErrorCode::QuotaExceeded);
        assert_eq!((&details(&refused)["quota"], &details(&refused)["limit"]), (&json!("max_live_jobs"), &json!(3)));
        client.cancel(kept).await.expect(200);
        client.submit_any().await;
        client.post("/v1/jobs", json!({"workload": "hash"})).await.refused(ErrorCode::QuotaExceeded);
        app.client("c2").await.submit_any().await;
    }

    async fn a_day_has_a_quota_and_a_new_day_a_new_one(app: TestApp) {
        let client = app.client("c1").await;
        client.submit_any().await;
        app.decide(json!({"clients": {"c1": {"max_jobs_per_day": 3}}})).await;
        assert_eq!(batch(&app, &client.key, 3).await, [201, 201, 429]);
        let refused = client.post("/v1/jobs", json!({"workload": "hash"})).await;
        let refused = refused.refused(ErrorCode::QuotaExceeded);
        assert_eq!(details(&refused)["quota"], "max_jobs_per_day");
        assert_eq!(refused.headers["retry-after"], "86400");
        app.advance(86_400);
        assert_eq!(batch(&app, &client.key, 4).await, [201, 201, 201, 429]);
    }

    async fn quotas_are_exact_under_concurrency(app: TestApp) {
        let client = app.client("c1").await;
        app.decide(json!({"clients": {"c1": {"max_live_jobs": 5, "max_jobs_per_day": 7}}})).await;
        let submit = || client.post("/v1/jobs", json!({"workload": "hash"}));
        let replies = futures_util::future::join_all((0..12).map(|_| submit())).await;
        let taken: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
        assert_eq!(taken.len(), 5);
        for reply in taken {
            client.cancel(reply.json::<JobView>().job_id).await.expect(200);
        }
        let replies = futures_util::future::join_all((0..12).map(|_| submit())).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 2);
    }

    async fn a_weight_counts_in_place_of_the_one_of_the_key(app: TestApp) {
        let (light, heavy) = (app.client("c1").await, app.client("c2").await);
        let miner = app.registered("m1").await;
        app.decide(json!({"clients": {"c2": {"weight": 100}}})).await;
        for _ in 0..3 {
            light.submit_any().await;
        }
        for _ in 0..3 {
            heavy.submit_any().await;
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            order.push(miner.take().await.client.to_string());
        }
        // Whoever comes later starts where the queue is served.
        assert_eq!(order, ["c1", "c2", "c2", "c2", "c1", "c1"]);
    }

    async fn banned_miners_and_wallets_get_no_more_and_are_paid_for_what_they_have(app: TestApp) {
        let client = app.client("c1").await;
        let (one, two) = (app.registered("m1").await, app.registered("m2").await);
        for _ in 0..4 {
            client.submit_any().await;
        }
        let jobs = [one.take().await, two.take().await];
        let banned = json!({
            "banned_miners": {"m1": "wrong results"}, "banned_wallets": {"w-m2": "stolen key"},
        });
        app.decide(banned).await;
        app.advance(10);
        for (miner, job, reason) in [(&one, &jobs[0], "wrong results"), (&two, &jobs[1], "stolen key")] {
            assert_eq!(miner.next().await, None);
            let said: HeartbeatReply = miner.heartbeat(json!({})).await.expect(200).json();
            assert_eq!((said.drain, said.reason.as_deref()), (true, Some(reason)));
            let paid: Credited = miner.prove(&miner.proof(job, "done")).await.expect(201).json();
            assert_eq!(paid.credited.to_string(), "0.02");
        }
        let now = json!({"workload": "hash", "require_now": true});
        client.post("/v1/jobs", now).await.refused(ErrorCode::NoEligibleMiner);
        app.decide(json!({})).await;
        let said: HeartbeatReply = one.heartbeat(json!({})).await.expect(200).json();
        assert_eq!((said.drain, said.reason), (false, None));
        one.take().await;
        app.audit().await;
    }

    async fn another_replica_takes_them_over(app: TestApp) {
        let other = Switchboard::start(&app.app.db).await.unwrap();
        assert!(other.in_force().takes_in());
        app.decide(json!({"intake": false})).await;
        assert!(other.in_force().takes_in());
        other.refresh(&app.app.db).await.unwrap();
        assert!(!other.in_force().takes_in());
        assert_eq!(other.in_force().version, 1);
    }

    async fn no_more_is_issued_in_a_day_than_the_cap(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        // 100 s at 0.002: at most 0.2 each.
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        app.decide(json!({"daily_cap": "0.5"})).await;
        client.submit(job.clone()).await;
        client.submit(job.clone()).await;
        let refused = client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::DailyCapReached);
        assert_eq!(refused.headers["retry-after"], "86400");
        // Half of the first was not needed: what is left is enough for another.
        let taken = miner.take().await;
        app.advance(50);
        miner.prove(&miner.proof(&taken, "done")).await.expect(201);
        client.submit(job.clone()).await;
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::DailyCapReached);
        // 0.1 issued and 0.4 promised. Who pays by himself is not concerned.
        let prepaid = app.prepaid_client("p1").await;
        app.deposit("p1", "1", "invoice 1").await;
        prepaid.submit(job.clone()).await;
        // What is promised stays promised when the day turns; what was issued does not count.
        app.advance(86_400);
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::DailyCapReached);
        app.sweep().await;
        client.submit(job.clone()).await;
        client.submit(job.clone()).await;
        client.post("/v1/jobs", job).await.refused(ErrorCode::DailyCapReached);
        app.audit().await;
    }

    async fn many_promises_become_one_and_count_on(app: TestApp) {
        let client = app.client("c1").await;
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        for n in 0..60 {
            let id = client.submit(job.clone()).await;
            if n < 58 {
                client.cancel(id).await.expect(200);
            }
        }
        let rows = || async {
            let mut tx = app.app.db.read().await.unwrap();
            let sql = "select count(*) as n from promises";
            tx.row(sql, Args::new()).await.unwrap().unwrap().get::<i64>("n").unwrap()
        };
        assert_eq!(rows().await, 118);
        app.sweep().await;
        assert_eq!(rows().await, 1);
        // 0.4 are promised to the two that are left.
        app.decide(json!({"daily_cap": "0.6"})).await;
        client.submit(job.clone()).await;
        client.post("/v1/jobs", job).await.refused(ErrorCode::DailyCapReached);
        app.audit().await;
    }

    async fn promises_beyond_the_range_of_the_books_stop_nothing(app: TestApp) {
        let client = app.client("c1").await;
        let most = "insert into promises (amount)
                    values (9000000000000000000), (9000000000000000000)";
        let mut tx = app.app.db.write().await.unwrap();
        for _ in 0..60 {
            tx.execute(most, Args::new()).await.unwrap();
        }
        tx.commit().await.unwrap();
        app.sweep().await;
        client.submit_any().await;
        app.decide(json!({"daily_cap": "1000"})).await;
        let refused = client.post("/v1/jobs", json!({"workload": "hash"})).await;
        refused.refused(ErrorCode::DailyCapReached);
    }

    async fn the_cap_holds_for_batches_and_crowds(app: TestApp) {
        let clients = [app.client("c1").await, app.client("c2").await];
        app.decide(json!({"daily_cap": "36"})).await;
        // 3600 s at 0.002: at most 7.2 each, so five.
        let submit = |n: usize| clients[n % 2].post("/v1/jobs", json!({"workload": "hash"}));
        let replies = futures_util::future::join_all((0..12).map(submit)).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 5);
        assert_eq!(batch(&app, &clients[0].key, 2).await, [429, 429]);
    }
}
