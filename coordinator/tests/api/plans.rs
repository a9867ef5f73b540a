//! What PostgreSQL reads of a table that has grown since it was last counted.

use coordinator::db::Args;

use crate::support::TestApp;

/// What a backlog is put together of, besides the one job that is worked on.
const MANY: i64 = 3000;

/// As many copies of the rows of a table, under other ids.
async fn multiply(app: &TestApp, table: &'static str) {
    let copy = match table {
        "jobs" => {
            "insert into jobs select (jsonb_populate_record(t,
                 jsonb_build_object('job_id', gen_random_uuid()))).* from jobs t
             cross join generate_series(1, $1) where t.job_id = (select job_id from jobs order by created_at desc limit 1)"
        }
        _ => {
            "insert into queue select (jsonb_populate_record(t,
                 jsonb_build_object('job_id', gen_random_uuid(), 'rank', t.rank + g))).* from queue t
             cross join generate_series(1, $1) g"
        }
    };
    let mut tx = app.app.db.write().await.unwrap();
    let copied = tx.execute(copy, Args::new().with(MANY)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(copied, MANY as u64, "{table}");
}

async fn count(app: &TestApp) {
    let mut tx = app.app.db.write().await.unwrap();
    tx.execute("analyze jobs", Args::new()).await.unwrap();
    tx.execute("analyze queue", Args::new()).await.unwrap();
    tx.commit().await.unwrap();
}

/// How many entries of the indexes of live jobs were read until now, and how often rows were looked
/// up by their ids in both tables.
async fn read(app: &TestApp) -> (i64, i64, i64) {
    let sql = "select cast(sum(idx_tup_read) filter (where indexrelname in
                   ('jobs_live', 'jobs_live_ranks', 'queue_ready', 'queue_held')) as bigint) as entries,
                   cast(sum(idx_scan) filter (where indexrelname = 'jobs_pkey') as bigint) as jobs,
                   cast(sum(idx_scan) filter (where indexrelname = 'queue_pkey') as bigint) as queue
               from pg_stat_user_indexes";
    let mut tx = app.app.db.read().await.unwrap();
    let row = tx.row(sql, Args::new()).await.unwrap().unwrap();
    (row.get("entries").unwrap(), row.get("jobs").unwrap(), row.get("queue").unwrap())
}

#[tokio::test]
async fn what_was_counted_while_nothing_waited_makes_nobody_read_a_whole_backlog() {
    let app = TestApp::postgres().await;
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    client.submit_any().await;
    app.advance(1);
    miner.work().await;
    multiply(&app, "jobs").await;
    count(&app).await;
    // Each connection plans for what there is when it first needs a statement.
    for _ in 0..20 {
        client.submit_any().await;
        app.advance(1);
        miner.work().await;
    }
    client.submit_any().await;
    multiply(&app, "jobs").await;
    multiply(&app, "queue").await;
    let before = read(&app).await;
    app.advance(1);
    miner.work().await;
    // What a connection has read is counted at once, but only in a while.
    loop {
        let after = read(&app).await;
        if after.1 > before.1 && after.2 > before.2 {
            let entries = after.0 - before.0;
            assert!(entries < MANY / 10, "{entries} entries for one job of {MANY}");
            break;
        }
        tokio::task::yield_now().await;
    }
}
