//! What an earlier version stored survives the next.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection,
};

use crate::support::PostgresDatabase;

const SQLITE: [&str; 2] = [
    include_str!("../../../migrations/sqlite/0001_the_path_of_a_job.sql"),
    include_str!("../../../migrations/sqlite/0002_control.sql"),
];
const POSTGRES: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_the_path_of_a_job.sql"),
    include_str!("../../../migrations/postgres/0002_control.sql"),
];

/// A credit of 5 with its receipt, and an attempt; times as each engine has them.
fn rows(early: &str, late: &str) -> String {
    format!(
        "insert into accounts (name, balance, updated_at)
             values ('wallet:w', 7, {late}), ('issuance', -7, {late});
         insert into transfers (transfer_id, kind, reference, created_at) values
             ('00000000-0000-0000-0000-000000000001', 'deposit', 'r', {early}),
             ('00000000-0000-0000-0000-000000000002', 'credit', null, {late});
         insert into entries (transfer_id, account_id, amount) values
             ('00000000-0000-0000-0000-000000000001', 1, 2),
             ('00000000-0000-0000-0000-000000000001', 2, -2),
             ('00000000-0000-0000-0000-000000000002', 1, 5),
             ('00000000-0000-0000-0000-000000000002', 2, -5);
         insert into attempts (job_id, fence, miner_no, miner_id, leased_at, ended_at, outcome) values
             ('00000000-0000-0000-0000-00000000000a', 1, 1, 'm', {early}, {late}, 'COMPLETED'),
             ('00000000-0000-0000-0000-00000000000b', 1, 1, 'm', {early}, {late}, 'FAILED'),
             ('00000000-0000-0000-0000-00000000000c', 1, 1, 'm', {early}, null, null)"
    )
}

/// What the migration made of them: day openings, transfers, the miner's day.
const LOOK: &str = "select
    (select day_opening from accounts where name = 'wallet:w') as opening,
    (select count(*) from transfers) as transfers,
    (select count(*) from entries e join transfers t on t.transfer_id = e.transfer_id) as entries,
    (select cast(completed * 100 + failed * 10 as bigint) from miner_days) as work,
    (select busy_us from miner_days) as busy";

const SEEN: [i64; 5] = [2, 2, 4, 110, 7_200_000_000];

/// What hours become: a day in whose hours 0, 2 and 23 the miner was there.
const HOURS: &str = "insert into miner_days (miner_no, day, hours) values (9, 20000, 8388613)";
const UPTIME: &str = "select up_us from miner_days where miner_no = 9";
const UP_US: i64 = 3 * 3_600_000_000;

/// The new kind is known, an unknown one is not, and what was written stays.
const PAYOUT: &str = "insert into transfers (transfer_id, kind, created_at)
    select '00000000-0000-0000-0000-000000000003', 'payout', max(created_at) from transfers";
const UNKNOWN: &str = "insert into transfers (transfer_id, kind, created_at)
    select '00000000-0000-0000-0000-000000000004', 'gift', max(created_at) from transfers";
const TWICE: &str = "insert into transfers (transfer_id, kind, reference, created_at)
    select '00000000-0000-0000-0000-000000000005', 'deposit', 'r', max(created_at) from transfers";

#[tokio::test]
async fn rows_survive_on_sqlite() {
    let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    db.execute("pragma foreign_keys = on").await.unwrap();
    db.execute(SQLITE[0]).await.unwrap();
    // 2026-01-23 23:00 and two hours later.
    let rows = rows("1769209200000000", "1769216400000000");
    db.execute(sqlx::query(AssertSqlSafe("begin"))).await.unwrap();
    db.execute(sqlx::raw_sql(AssertSqlSafe(rows))).await.unwrap();
    db.execute("commit").await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(SQLITE[1]).await.unwrap();
    tx.commit().await.unwrap();
    let row = db.fetch_one(LOOK).await.unwrap();
    let seen: Vec<i64> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(seen, SEEN);
    db.execute(PAYOUT).await.unwrap();
    for refused in [UNKNOWN, TWICE, "delete from transfers", "update transfers set kind = 'hold'"] {
        db.execute(refused).await.unwrap_err();
    }
    assert_eq!(db.fetch_all("pragma foreign_key_check").await.unwrap().len(), 0);
    assert_eq!(db.fetch_all("pragma foreign_key_list(entries)").await.unwrap().len(), 2);
    db.execute(HOURS).await.unwrap();
    db.execute(include_str!("../../../migrations/sqlite/0009_uptime.sql")).await.unwrap();
    assert_eq!(db.fetch_one(UPTIME).await.unwrap().get::<i64, _>(0), UP_US);
}

#[tokio::test]
async fn rows_survive_on_postgres() {
    let database = PostgresDatabase::create().await;
    let mut db = PgConnection::connect(&database.url).await.unwrap();
    db.execute(POSTGRES[0]).await.unwrap();
    let rows = rows("'2026-01-23T23:00:00Z'", "'2026-01-24T01:00:00Z'");
    db.execute(sqlx::raw_sql(AssertSqlSafe(rows))).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(POSTGRES[1]).await.unwrap();
    tx.commit().await.unwrap();
    let row = db.fetch_one(LOOK).await.unwrap();
    let seen: Vec<i64> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(seen, SEEN);
    db.execute(PAYOUT).await.unwrap();
    for refused in [UNKNOWN, TWICE, "delete from transfers", "update transfers set kind = 'hold'"] {
        db.execute(refused).await.unwrap_err();
    }
    db.execute(HOURS).await.unwrap();
    db.execute(include_str!("../../../migrations/postgres/0009_uptime.sql")).await.unwrap();
    assert_eq!(db.fetch_one(UPTIME).await.unwrap().get::<i64, _>(0), UP_US);
}
