//! What PostgreSQL reads of tables that have grown since it last counted them.

use coordinator::db::Args;
use protocol::JobId;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::support::{Client, TestApp, TestMiner};

/// What a backlog is put together of, besides the few jobs that are worked on.
const MANY: i64 = 20_000;

/// Copies the last job: its own row, its specification and, where it waits, its place behind all.
async fn multiply(app: &TestApp) {
    let copy = "with last as (select job_id from jobs order by created_at desc limit 1),
             copies as materialized (
                 select n, jsonb_build_object('job_id', gen_random_uuid()) as id
                 from generate_series(1, $1) n),
             specs as (
                 insert into job_specs select r.* from last
                 join job_specs t on t.job_id = last.job_id cross join copies
                 cross join lateral jsonb_populate_record(t, copies.id) r),
             places as (
                 insert into queue select r.* from last
                 join queue t on t.job_id = last.job_id cross join copies
                 cross join lateral jsonb_populate_record(t,
                     copies.id || jsonb_build_object('rank', t.rank + n)) r)
         insert into jobs select r.* from last
         join jobs t on t.job_id = last.job_id cross join copies
         cross join lateral jsonb_populate_record(t, copies.id) r";
    let mut tx = app.app.db.write().await.unwrap();
    let copied = tx.execute(copy, Args::new().with(MANY)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(copied, MANY as u64);
}

async fn count(app: &TestApp) {
    let mut tx = app.app.db.write().await.unwrap();
    tx.execute("analyze jobs, job_specs, queue, attempts", Args::new()).await.unwrap();
    tx.commit().await.unwrap();
}

/// How many entries of the indexes of jobs were read from the beginning.
async fn read(app: &TestApp) -> i64 {
    // A connection has told what it read when it is gone.
    app.app.db.close().await;
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    loop {
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and backend_type = 'client backend'";
        let connected: i64 = sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0);
        if connected == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let sql = "select sum(idx_tup_read)::bigint from pg_stat_user_indexes
               where relname in ('jobs', 'job_specs', 'queue', 'attempts')";
    sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
}

/// What may happen to jobs: the first that waits is done, the next one fails, `last` is canceled.
async fn happen(app: &TestApp, client: &Client<'_>, miner: &TestMiner<'_>, last: JobId) {
    app.advance(1);
    miner.work().await;
    let job = miner.take().await;
    miner.ack(&job).await.expect(200);
    miner.heartbeat(json!({})).await.expect(200);
    miner.fail(&job, "E_INPUT").await.expect(200);
    client.cancel(last).await.expect(200);
    app.sweep().await;
}

#[tokio::test]
async fn what_was_counted_while_nothing_waited_makes_nobody_read_a_whole_backlog() {
    let app = TestApp::postgres().await;
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    client.submit_any().await;
    app.advance(1);
    miner.work().await;
    multiply(&app).await;
    count(&app).await;
    // Each connection plans for what there is when it first needs a statement.
    for _ in 0..20 {
        client.submit_any().await;
        client.submit_any().await;
        let last = client.submit_any().await;
        happen(&app, &client, &miner, last).await;
    }
    let mut jobs = Vec::new();
    for _ in 0..15 {
        jobs.push(client.submit_any().await);
    }
    multiply(&app).await;
    for _ in 0..5 {
        happen(&app, &client, &miner, jobs.pop().unwrap()).await;
    }
    let entries = read(&app).await;
    assert!(entries > 0);
    assert!(entries < MANY / 2, "{entries} entries for 76 jobs of {MANY}");
}

#[tokio::test]
async fn while_a_transaction_is_open_nobody_walks_over_all_that_was_done_since() {
    const JOBS: i64 = 200;
    let app = TestApp::postgres().await;
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let mut open = connection.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read")
        .execute(&mut *open)
        .await
        .unwrap();
    sqlx::query("select count(*) from jobs").fetch_one(&mut *open).await.unwrap();
    for _ in 0..JOBS {
        client.submit_any().await;
    }
    app.advance(1);
    for _ in 0..JOBS {
        miner.work().await;
        app.sweep().await;
    }
    open.rollback().await.unwrap();
    connection.close().await.unwrap();
    let entries = read(&app).await;
    assert!(entries < 50 * JOBS, "{entries} entries for {JOBS} jobs");
}
