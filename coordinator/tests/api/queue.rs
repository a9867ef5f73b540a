//! Who gets what, and when: order, fairness, exclusion, room, waiting.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::{ErrorCode, Job, JobState};
use serde_json::json;

use crate::support::{TestApp, on_both_engines};

on_both_engines! {
    async fn fifty_parallel_calls_on_ten_jobs_get_ten_jobs(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 50})).await.expect(201);
        for _ in 0..10 {
            client.submit_any().await;
        }
        let path = "/v1/miner/next?miner=m1&slots=50";
        let replies = join_all((0..50).map(|_| miner.get(path))).await;
        let taken: Vec<Job> =
            replies.into_iter().filter(|reply| reply.status == 200).map(|r| r.json()).collect();
        let distinct: HashSet<_> = taken.iter().map(|job| job.id).collect();
        assert_eq!((taken.len(), distinct.len()), (10, 10));
    }

    async fn a_miner_never_holds_more_than_it_runs_at_once(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 2})).await.expect(201);
        for _ in 0..3 {
            client.submit_any().await;
        }
        let first = miner.take().await;
        miner.take().await;
        assert_eq!(miner.next().await, None);
        app.advance(1);
        miner.prove(&miner.proof(&first, "done")).await.expect(201);
        assert!(miner.next().await.is_some());
    }

    async fn higher_priority_leaves_first_but_does_not_starve_what_is_older(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 200})).await.expect(201);
        let old = client.submit(json!({"workload": "hash", "priority": 0})).await;
        app.advance(1);
        let low = client.submit(json!({"workload": "hash", "priority": 1})).await;
        // Of jobs with the same rank the oldest leaves first.
        app.advance(1);
        for _ in 0..200 {
            client.submit(json!({"workload": "hash", "priority": 9})).await;
        }
        let first = miner.take().await;
        // A node's owner may have rules for it.
        assert_eq!(first.priority, 9);
        let mut order = vec![first.id];
        for _ in 1..160 {
            order.push(miner.take().await.id);
        }
        let place = |job| order.iter().position(|taken| *taken == job);
        // A step of priority is worth sixteen jobs of the same cost.
        assert_eq!((place(low), place(old)), (Some(127), Some(143)));
    }

    async fn one_clients_many_jobs_do_not_stand_in_front_of_anothers_first(app: TestApp) {
        let (many, one) = (app.client("many").await, app.client("one").await);
        let miner = app.registered("m1").await;
        for _ in 0..30 {
            many.submit_any().await;
        }
        let lone = one.submit_any().await;
        let mut position = 0;
        loop {
            position += 1;
            let job = miner.take().await;
            if job.id == lone {
                break;
            }
            miner.prove(&miner.proof(&job, "done")).await.expect(201);
        }
        assert!(position <= 3, "position {position}");
    }

    async fn who_denies_a_job_does_not_get_it_again(app: TestApp) {
        let client = app.client("c1").await;
        let (first, second) = (app.registered("m1").await, app.registered("m2").await);
        for miner in [&first, &second] {
            miner.heartbeat(json!({})).await.expect(200);
        }
        let id = client.submit_any().await;
        let job = first.take().await;
        first.fail(&job, "E_DENY").await.expect(200);
        assert_eq!(client.job(id).await.state, JobState::Queued);
        assert_eq!(first.next().await, None);
        let job = second.take().await;
        assert_eq!((job.id, job.attempt), (id, 2));
        // Nobody else is left.
        second.fail(&job, "E_DENY").await.expect(200);
        assert_eq!(client.job(id).await.state, JobState::Failed);
    }

    async fn a_miner_without_gpu_after_all_gets_no_gpu_job_until_it_changes(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        let gpu = json!({"mode": "gpu", "gpu": true, "gpus": [{"index": 0, "name": "g", "vram_mb": 8192}]});
        miner.register_with(gpu.clone()).await.expect(201);
        let id = client.submit(json!({"workload": "hash", "constraints": {"gpu": true}})).await;
        let job = miner.take().await;
        miner.fail(&job, "E_NOGPU").await.expect(200);
        let view = client.job(id).await;
        assert_eq!((view.state, view.attempt), (JobState::Queued, 1));
        assert_eq!(miner.next().await, None);
        let mut repaired = gpu;
        repaired["gpus"][0]["driver"] = json!("550.1");
        miner.register_with(repaired).await.expect(200);
        assert_eq!(miner.take().await.id, id);
    }

    async fn a_failed_try_comes_back_after_its_delay(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.fail(&job, "E_EXIT").await.expect(200);
        app.advance(4);
        app.sweep().await;
        assert_eq!(miner.next().await, None);
        app.advance(2);
        app.sweep().await;
        assert_eq!(miner.take().await.id, id);
    }

    async fn a_job_that_nobody_takes_lapses(app: TestApp) {
        let client = app.client("c1").await;
        let id = client.submit(json!({"workload": "hash", "ttl_seconds": 60})).await;
        app.advance(61);
        app.sweep().await;
        assert_eq!(client.job(id).await.state, JobState::Expired);
        app.audit().await;
    }

    async fn a_waiting_miner_is_woken_by_the_submission(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let waiting = miner.get("/v1/miner/next?miner=m1&slots=1&wait=30");
        let submitting = async {
            // The miner is at the counter before the job is there.
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.submit_any().await
        };
        let (reply, id) = tokio::join!(waiting, submitting);
        assert_eq!(reply.expect(200).json::<Job>().id, id);
    }

    async fn waiting_miners_are_sent_home_at_shutdown(app: TestApp) {
        let miner = app.registered("m1").await;
        let waiting = miner.get("/v1/miner/next?miner=m1&slots=1&wait=30");
        let draining = async {
            tokio::task::yield_now().await;
            app.app.dispatch.drain();
        };
        let (reply, ()) = tokio::join!(waiting, draining);
        reply.expect(204);
    }

    async fn heartbeats_renew_and_name_what_to_stop(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        client.submit_any().await;
        let (kept, canceled) = (miner.take().await, miner.take().await);
        for job in [&kept, &canceled] {
            miner.ack(job).await.expect(200);
        }
        client.cancel(canceled.id).await.expect(200);
        for _ in 0..5 {
            app.advance(25);
            let active: Vec<_> = [&kept, &canceled]
                .iter()
                .map(|job| json!({"id": job.id, "lease_token": job.lease.token}))
                .collect();
            let reply: protocol::miner::HeartbeatReply =
                miner.heartbeat(json!({"active_jobs": active})).await.expect(200).json();
            assert_eq!(reply.renewed, [kept.id]);
            assert_eq!(reply.cancel_jobs, [canceled.id]);
            app.sweep().await;
        }
        let view = client.job(kept.id).await;
        assert_eq!((view.state, view.attempt), (JobState::Running, 1));
        // Past its deadline no heartbeat helps.
        app.advance(3600 + 60);
        let active = json!([{"id": kept.id, "lease_token": kept.lease.token}]);
        miner.heartbeat(json!({"active_jobs": active})).await.expect(200);
        app.advance(1);
        app.sweep().await;
        assert_eq!(client.job(kept.id).await.attempt, 2);
    }

    async fn a_long_job_that_lapses_is_tried_again_and_not_expired(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit(json!({"workload": "hash", "ttl_seconds": 60})).await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        for _ in 0..60 {
            app.advance(20);
            let active = json!([{"id": job.id, "lease_token": job.lease.token}]);
            miner.heartbeat(json!({"active_jobs": active})).await.expect(200);
            app.sweep().await;
        }
        app.advance(31);
        app.sweep().await;
        app.sweep().await;
        let view = client.job(id).await;
        assert_eq!((view.state, view.attempt), (JobState::Queued, 2));
    }

    async fn no_lease_is_taken_right_after_a_silence_of_the_coordinator(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| config.leases.start_grace_secs = 15).await;
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        app.sweep().await;
        // Ten minutes without a sweep: the database was away, and nobody could renew.
        app.advance(600);
        app.sweep().await;
        assert_eq!(client.job(id).await.state, JobState::Running);
        for _ in 0..16 {
            app.advance(1);
            app.sweep().await;
        }
        assert_eq!(client.job(id).await.state, JobState::Queued);
    }

    async fn a_clock_that_was_set_back_keeps_no_lease_alive(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| config.leases.start_grace_secs = 15).await;
        app.sweep().await;
        app.clock.set_back(Duration::from_secs(3600));
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        miner.ack(&miner.take().await).await.expect(200);
        for _ in 0..8 {
            app.sweep().await;
            assert_eq!(client.job(id).await.state, JobState::Running);
            app.advance(4);
        }
        app.sweep().await;
        assert_eq!(client.job(id).await.state, JobState::Queued);
    }

    async fn jobs_that_a_miner_denied_do_not_stand_in_front_of_others(app: TestApp) {
        let client = app.client("c1").await;
        let (picky, busy) = (app.registered("m1").await, app.registered("m2").await);
        busy.heartbeat(json!({})).await.expect(200);
        for _ in 0..12 {
            client.submit_any().await;
        }
        for _ in 0..12 {
            let job = picky.take().await;
            picky.fail(&job, "E_DENY").await.expect(200);
        }
        assert_eq!(picky.next().await, None);
        let id = client.submit_any().await;
        assert_eq!(picky.take().await.id, id);
        assert!(busy.next().await.is_some());
    }

    async fn a_miner_cannot_cancel_what_its_client_did_not(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.fail(&job, "E_CANCELED").await.expect(200);
        assert_eq!(client.job(id).await.state, JobState::Queued);
    }

    async fn one_client_cannot_use_up_the_classes_of_all(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| config.limits.classes_per_client = 3).await;
        let (many, one) = (app.client("many").await, app.client("one").await);
        let job = |threads: u32| json!({"workload": "hash", "constraints": {"cpu_threads": threads}});
        for threads in 1..=3 {
            many.submit(job(threads)).await;
        }
        many.post("/v1/jobs", job(4)).await.refused(ErrorCode::Overloaded);
        // What exists may be shared, and another client has room of its own.
        many.submit(job(2)).await;
        one.submit(job(5)).await;
    }
}
