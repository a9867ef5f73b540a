//! The shares of clients: where a newcomer's jobs leave when somebody else has 100,000 in the queue.

use coordinator::db::{Args, Db};
use protocol::JobId;
use protocol::why::JobWhy;
use serde_json::json;

use crate::support::{Client, TestApp, TestMiner, on_both_engines};

/// Jobs of the one who came first.
const MANY: i64 = 100_000;

/// By how much each job of a client of weight 1 stands behind the one before: a millisecond for each
/// second that it may run.
const STEP: i64 = 3_600_000;

async fn rank(db: &Db, job: JobId) -> i64 {
    let mut tx = db.read().await.unwrap();
    let sql = "select rank from queue where job_id = $1";
    tx.row(sql, Args::new().with(job)).await.unwrap().unwrap().get("rank").unwrap()
}

/// Gives a client 100,000 jobs: the first by intake, the others as copies of it, in the places that
/// intake would give them. Returns the last, which intake placed behind the copies.
async fn flood(app: &TestApp, client: &Client<'_>) -> JobId {
    let db = &app.app.db;
    let (one, two) = (client.submit_any().await, client.submit_any().await);
    let (first, second) = (rank(db, one).await, rank(db, two).await);
    assert_eq!(second - first, STEP);
    let mut tx = db.write().await.unwrap();
    let series = "with recursive n(n) as (select 1 union all select n + 1 from n where n < $2)";
    // The first 48 bits of an id are its time.
    let id = tx.either(
        "(substr(t.job_id::text, 1, 14) || '0000-0000-' || lpad(to_hex(n.n), 12, '0'))::uuid",
        "substr(t.job_id, 1, 14) || '0000-0000-' || printf('%012x', n.n)",
    );
    let copies = [
        "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts,
             max_runtime_s, event_seq)
         {series} select {id}, class_id, rank + n.n * $3, state, expires_at, max_attempts,
             max_runtime_s, event_seq from queue t, n where t.job_id = $1",
        "insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price, hold,
             priority, created_at, expires_at)
         {series} select {id}, client_id, workload, class_id, unit_type, unit_price, hold,
             priority, created_at, expires_at from jobs t, n where t.job_id = $1 and $3 > 0",
        "insert into job_specs (job_id, spec)
         {series} select {id}, spec from job_specs t, n where t.job_id = $1 and $3 > 0",
        "insert into job_events (job_id, seq, at, kind, data)
         {series} select {id}, seq, at, kind, data from job_events t, n
         where t.job_id = $1 and $3 > 0",
    ];
    for copy in copies {
        let sql = copy.replace("{series}", series).replace("{id}", id);
        let args = Args::new().with(two).with(MANY - 3).with(STEP);
        // Tests are short-lived: the few texts may stay.
        tx.execute(Box::leak(sql.into_boxed_str()), args).await.unwrap();
    }
    let sql = "update clients set last_rank = last_rank + $1 where client_id = 'many'";
    tx.execute(sql, Args::new().with((MANY - 3) * STEP)).await.unwrap();
    tx.commit().await.unwrap();
    let last = client.submit_any().await;
    assert_eq!(rank(db, last).await, first + (MANY - 1) * STEP);
    last
}

/// The clients of the next jobs, in the order in which they leave.
async fn leave(miner: &TestMiner<'_>, jobs: usize) -> Vec<String> {
    let mut clients = Vec::new();
    for _ in 0..jobs {
        clients.push(miner.take().await.client.to_string());
    }
    clients
}

/// At which places, from 1, jobs of the one who came later leave.
fn places(clients: &[String]) -> Vec<usize> {
    let late = |(i, client): (usize, &String)| (client == "late").then_some(i + 1);
    clients.iter().enumerate().filter_map(late).collect()
}

async fn why(client: &Client<'_>, job: JobId) -> JobWhy {
    client.get(&format!("/v1/jobs/{job}/why")).await.expect(200).json()
}

on_both_engines! {
    async fn ten_jobs_behind_a_hundred_thousand_wait_for_one_between_two(app: TestApp) {
        let (many, late) = (app.client("many").await, app.client("late").await);
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 64})).await.expect(201);
        let last = flood(&app, &many).await;
        app.advance(1);
        let mut jobs = Vec::new();
        for _ in 0..10 {
            jobs.push(late.submit_any().await);
        }
        // Both answers count by class, whatever the length of the queue.
        assert_eq!(why(&late, jobs[9]).await.ahead, Some(20));
        let behind = why(&many, last).await;
        assert_eq!(behind.ahead, Some(100_000));
        assert!(behind.summary.contains("behind 100000 jobs and more"), "{}", behind.summary);
        let left = leave(&miner, 21).await;
        assert_eq!(places(&left), [3, 5, 7, 9, 11, 13, 15, 17, 19, 21]);
        app.audit().await;
    }

    async fn three_times_the_weight_is_three_times_the_share(app: TestApp) {
        let (many, late) = (app.client("many").await, app.weighted_client("late", 3).await);
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 64})).await.expect(201);
        flood(&app, &many).await;
        app.advance(1);
        for _ in 0..10 {
            late.submit_any().await;
        }
        let left = leave(&miner, 14).await;
        assert_eq!(places(&left), [2, 3, 5, 6, 7, 9, 10, 11, 13, 14]);
    }

    async fn who_comes_an_hour_later_is_not_behind_all_that_is_older(app: TestApp) {
        let (many, late) = (app.client("many").await, app.client("late").await);
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 64})).await.expect(201);
        for _ in 0..30 {
            many.submit(json!({"workload": "hash", "ttl_seconds": 86_400})).await;
        }
        assert!(places(&leave(&miner, 5).await).is_empty());
        app.advance(3600);
        // Another class, but the same miners.
        for _ in 0..5 {
            late.submit(json!({"workload": "torch_bench"})).await;
        }
        assert_eq!(places(&leave(&miner, 10).await), [2, 4, 6, 8, 10]);
    }

    async fn a_class_of_ones_own_does_not_place_newcomers_of_others_behind(app: TestApp) {
        let (own, many, late) =
            (app.client("own").await, app.client("many").await, app.client("late").await);
        let (theirs, miner) = (app.miner("own").await, app.miner("m1").await);
        let only = json!({
            "concurrency": 64, "workloads": ["torch_bench"], "limits": {"max_runtime_s": 604_800},
        });
        theirs.register_with(only).await.expect(201);
        miner.register_with(json!({"concurrency": 64, "workloads": ["hash"]})).await.expect(201);
        for _ in 0..30 {
            many.submit_any().await;
        }
        assert_eq!(leave(&miner, 5).await, ["many"; 5]);
        for _ in 0..6 {
            let week = json!({"workload": "torch_bench", "limits": {"max_runtime_s": 604_800}});
            own.submit(week).await;
        }
        assert_eq!(leave(&theirs, 5).await, ["own"; 5]);
        app.advance(1);
        // In the class of the many, and in one that is new.
        for n in 0..5_u32 {
            late.submit(json!({"workload": "hash", "limits": {"ram_mb": n % 2}})).await;
        }
        assert_eq!(places(&leave(&miner, 10).await), [2, 4, 6, 8, 10]);
    }

    async fn who_comes_to_an_empty_queue_after_a_restart_is_not_in_front(app: TestApp) {
        let (many, late) = (app.client("many").await, app.client("late").await);
        let mut tx = app.app.db.write().await.unwrap();
        let ahead = app.app.now().micros() + 1_000 * STEP;
        let sql = "update clients set last_rank = $1 where client_id = 'many'";
        tx.execute(sql, Args::new().with(ahead)).await.unwrap();
        tx.commit().await.unwrap();
        let first = late.submit_any().await;
        assert_eq!(rank(&app.app.db, first).await, ahead + STEP);
        // The queue says it from now on: all stand behind each other at their own pace.
        let second = many.submit_any().await;
        assert_eq!(rank(&app.app.db, second).await, ahead + 2 * STEP);
    }

    async fn a_canceled_burst_counts_for_nothing(app: TestApp) {
        let (one, db) = (app.client("one").await, &app.app.db);
        let miner = app.registered("m1").await;
        let kept = one.submit_any().await;
        let start = rank(db, kept).await;
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut burst = Vec::new();
            for priority in [0, 9, 0, 5] {
                burst.push(one.submit(json!({"workload": "hash", "priority": priority})).await);
            }
            for n in order {
                one.cancel(burst[n]).await.expect(200);
            }
            let next = one.submit_any().await;
            assert_eq!(rank(db, next).await, start + STEP, "{order:?}");
            one.cancel(next).await.expect(200);
        }
        // What a miner had counts, whoever ended it.
        let job = miner.take().await;
        assert_eq!(job.id, kept);
        one.cancel(kept).await.expect(200);
        let next = one.submit_any().await;
        assert_eq!(rank(db, next).await, start + STEP);
    }

    async fn what_stands_behind_a_canceled_job_keeps_its_place(app: TestApp) {
        let (one, db) = (app.client("one").await, &app.app.db);
        let mut jobs = Vec::new();
        for _ in 0..5 {
            jobs.push(one.submit_any().await);
        }
        let third = rank(db, jobs[2]).await;
        for n in [0, 3, 4] {
            one.cancel(jobs[n]).await.expect(200);
        }
        assert_eq!(rank(db, jobs[2]).await, third);
        let next = one.submit_any().await;
        assert_eq!(rank(db, next).await, third + STEP);
        // It holds what was given away before it came.
        one.cancel(jobs[1]).await.expect(200);
        one.cancel(jobs[2]).await.expect(200);
        let last = one.submit_any().await;
        assert_eq!(rank(db, last).await, third + 2 * STEP);
    }

    async fn work_for_processors_takes_nothing_from_the_share_of_gpus(app: TestApp) {
        let (one, other) = (app.client("one").await, app.client("other").await);
        let db = &app.app.db;
        let mut last = one.submit_any().await;
        let first = rank(db, last).await;
        for _ in 0..9 {
            last = one.submit_any().await;
        }
        let gpu = || json!({"workload": "hash", "constraints": {"gpu": true}});
        let gpus = [one.submit(gpu()).await, one.submit(gpu()).await, other.submit(gpu()).await];
        // The first is where the first for processors is, the second behind it, and whoever comes
        // then starts where the first waits.
        let mut ranks = Vec::new();
        for job in gpus {
            ranks.push(rank(db, job).await);
        }
        assert_eq!(ranks, [first, first + STEP, first + STEP]);
        one.cancel(gpus[0]).await.expect(200);
        one.cancel(gpus[1]).await.expect(200);
        let next = one.submit_any().await;
        assert_eq!(rank(db, next).await, rank(db, last).await + STEP);
    }

    async fn an_empty_queue_of_one_kind_starts_where_its_clients_are(app: TestApp) {
        let (many, late) = (app.client("many").await, app.client("late").await);
        let ahead = app.app.now().micros() + 1_000 * STEP;
        let mut tx = app.app.db.write().await.unwrap();
        let sql = "update clients set last_gpu_rank = $1 where client_id = 'many'";
        tx.execute(sql, Args::new().with(ahead)).await.unwrap();
        tx.commit().await.unwrap();
        // Jobs for processors wait, and say nothing of GPUs.
        many.submit_any().await;
        let first = late.submit(json!({"workload": "hash", "constraints": {"gpu": true}})).await;
        assert_eq!(rank(&app.app.db, first).await, ahead + STEP);
    }
}
