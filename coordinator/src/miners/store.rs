//! The SQL of miners: who they are (`miners`) and when they were last heard of (`miner_live`).

use std::collections::HashMap;

use protocol::{Name, Timestamp};
use serde_json::{Value, json};

use super::Miner;
use super::presence::Sighting;
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};

fn miner(row: &Row) -> Result<Miner, DbError> {
    Ok(Miner {
        no: row.get("miner_no")?,
        id: row.parse("miner_id")?,
        wallet: row.parse("wallet")?,
        registered: row.get("registered")?,
        pubkey: row.get("pubkey")?,
        drain: row.get("drain")?,
        gpu_lost: row.get("gpu_lost")?,
        capabilities: row.json("capabilities")?,
    })
}

/// The miner of that name.
///
/// # Errors
/// Where the database fails.
pub async fn find(tx: &mut Tx, id: &Name) -> Result<Option<Miner>, DbError> {
    let sql = "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
               from miners where miner_id = $1";
    tx.row(sql, Args::new().with(id.as_str())).await?.as_ref().map(miner).transpose()
}

/// The miner of that name, locked until the transaction ends.
///
/// # Errors
/// Where the database fails.
pub async fn lock(tx: &mut Tx, id: &Name) -> Result<Option<Miner>, DbError> {
    let sql = tx.either(
        "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
         from miners where miner_id = $1 for update",
        "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
         from miners where miner_id = $1",
    );
    tx.row(sql, Args::new().with(id.as_str())).await?.as_ref().map(miner).transpose()
}

/// The miners of these numbers.
///
/// # Errors
/// Where the database fails.
pub async fn by_no(tx: &mut Tx, nos: &[i64]) -> Result<Vec<Miner>, DbError> {
    let sql = tx.either(
        "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
         from miners where miner_no = any($1)",
        "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
         from miners where miner_no in (select value ->> 'v' from json_each($1))",
    );
    let nos = Rows::list(tx.engine(), nos.iter().copied());
    tx.rows(sql, Args::new().with_rows(nos)).await?.iter().map(miner).collect()
}

/// The miners about which something changed since `since`.
///
/// # Errors
/// Where the database fails.
pub async fn changed_since(tx: &mut Tx, since: Timestamp) -> Result<Vec<Miner>, DbError> {
    let sql = "select miner_no, miner_id, wallet, pubkey, registered, capabilities, gpu_lost, drain
               from miners where updated_at >= $1";
    tx.rows(sql, Args::new().with(since)).await?.iter().map(miner).collect()
}

/// The numbers of the miners that were heard of since `since`, and when they last were.
///
/// # Errors
/// Where the database fails.
pub async fn heard_since(tx: &mut Tx, since: Timestamp) -> Result<Vec<(i64, Timestamp)>, DbError> {
    let sql = "select miner_no, seen_at from miner_live where seen_at >= $1";
    let rows = tx.rows(sql, Args::new().with(since)).await?;
    rows.iter().map(|row| Ok((row.get("miner_no")?, row.get("seen_at")?))).collect()
}

/// The first number of the advisory locks that stand for wallets; of the two-number kind, so that
/// they are no idempotency keys.
const WALLET_LOCKS: i32 = 1;

/// How many miners a wallet has. Nobody else adds one to it until the transaction ends.
///
/// # Errors
/// Where the database fails.
pub async fn lock_wallet(tx: &mut Tx, wallet: &Name) -> Result<u64, DbError> {
    if tx.engine() == Engine::Postgres {
        // In a statement of its own: the count's snapshot must be younger than the lock.
        let sql = "select pg_advisory_xact_lock($1, hashtext($2))";
        tx.rows(sql, Args::new().with(WALLET_LOCKS).with(wallet.as_str())).await?;
    }
    let sql = "select count(*) as miners from miners where wallet = $1";
    let row = tx.row(sql, Args::new().with(wallet.as_str())).await?;
    let miners: i64 = row.map_or(Ok(0), |row| row.get("miners"))?;
    Ok(u64::try_from(miners).unwrap_or(0))
}

/// Adds a miner unless its name is taken; returns its number if it was added. `miner.no` is not
/// looked at.
///
/// # Errors
/// Where the database fails.
pub async fn insert(tx: &mut Tx, now: Timestamp, miner: &Miner) -> Result<Option<i64>, DbError> {
    let sql = "insert into miners
                   (miner_id, wallet, pubkey, registered, capabilities, created_at, updated_at)
               values ($1, $2, $3, $4, $5, $6, $6)
               on conflict (miner_id) do nothing
               returning miner_no";
    let args = Args::new()
        .with(miner.id.as_str())
        .with(miner.wallet.as_str())
        .with(miner.pubkey.clone())
        .with(miner.registered)
        .with(json!(miner.capabilities))
        .with(now);
    tx.row(sql, args).await?.map(|row| row.get("miner_no")).transpose()
}

/// Writes everything about a miner that can change.
///
/// # Errors
/// Where the database fails, or has no such miner.
pub async fn update(tx: &mut Tx, now: Timestamp, miner: &Miner) -> Result<(), DbError> {
    let sql = "update miners set wallet = $2, pubkey = $3, registered = $4, capabilities = $5,
                   gpu_lost = $6, drain = $7, updated_at = $8
               where miner_no = $1";
    let args = Args::new()
        .with(miner.no)
        .with(miner.wallet.as_str())
        .with(miner.pubkey.clone())
        .with(miner.registered)
        .with(json!(miner.capabilities))
        .with(miner.gpu_lost)
        .with(miner.drain)
        .with(now);
    DbError::expect("update of a miner", 1, tx.execute(sql, args).await?)
}

/// Jobs that a miner holds.
///
/// # Errors
/// Where the database fails.
pub async fn inflight(tx: &mut Tx, no: i64) -> Result<u64, DbError> {
    let sql = "select count(*) as inflight from queue
               where miner_no = $1 and state in ('ASSIGNED', 'RUNNING')";
    let row = tx.row(sql, Args::new().with(no)).await?;
    let inflight: i64 = row.map_or(Ok(0), |row| row.get("inflight"))?;
    Ok(u64::try_from(inflight).unwrap_or(0))
}

/// Gives a miner another name, and drains it.
///
/// # Errors
/// Where the database fails, or has no such miner.
pub async fn rename(tx: &mut Tx, now: Timestamp, miner: &Miner) -> Result<(), DbError> {
    let sql = "update miners set miner_id = $2, drain = $3, updated_at = $4 where miner_no = $1";
    let args = Args::new().with(miner.no).with(miner.id.as_str()).with(miner.drain).with(now);
    DbError::expect("rename a miner", 1, tx.execute(sql, args).await?)
}

/// Notes who was heard of and what they reported; an empty report leaves the last one.
///
/// # Errors
/// Where the database fails.
pub async fn saw(tx: &mut Tx, sightings: &[Sighting]) -> Result<(), DbError> {
    // In one order everywhere, so that two replicas do not lock each other out.
    let sql = tx.either(
        "insert into miner_live (miner_no, seen_at, report)
         select n, s, r from jsonb_to_recordset($1) as rows(n bigint, s timestamptz, r jsonb)
         order by n
         on conflict (miner_no) do update set
             seen_at = greatest(miner_live.seen_at, excluded.seen_at),
             report = case when excluded.report = '{}'::jsonb then miner_live.report
                           else excluded.report end",
        "insert into miner_live (miner_no, seen_at, report)
         select value ->> 'n', value ->> 's', value -> 'r' from json_each($1)
         where true
         on conflict (miner_no) do update set
             seen_at = max(miner_live.seen_at, excluded.seen_at),
             report = case when excluded.report = '{}' then miner_live.report
                           else excluded.report end",
    );
    let mut rows = Rows::new(tx.engine());
    for sighting in sightings {
        rows.row()
            .set("n", sighting.miner_no)
            .set("s", sighting.seen_at)
            .set("r", sighting.report.clone())
            .done();
    }
    tx.execute(sql, Args::new().with_rows(rows)).await?;
    Ok(())
}

/// Notes how long miners were there, on the day on which they were last heard of.
///
/// # Errors
/// Where the database fails.
pub async fn note_uptime(tx: &mut Tx, sightings: &[Sighting]) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for sighting in sightings.iter().filter(|sighting| !sighting.up.is_zero()) {
        let up = i64::try_from(sighting.up.as_micros()).unwrap_or(i64::MAX);
        rows.row().set("n", sighting.miner_no).set("d", sighting.seen_at.day()).set("u", up).done();
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "insert into miner_days (miner_no, day, up_us)
         select n, d, u from jsonb_to_recordset($1) as r(n bigint, d int, u bigint) order by n
         on conflict (miner_no, day) do update set up_us = miner_days.up_us + excluded.up_us",
        "insert into miner_days (miner_no, day, up_us)
         select value ->> 'n', value ->> 'd', value ->> 'u' from json_each($1) where true
         on conflict (miner_no, day) do update set up_us = miner_days.up_us + excluded.up_us",
    );
    tx.execute(sql, Args::new().with_rows(rows)).await?;
    Ok(())
}

/// A day of a miner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Which one, counted from 1970-01-01 (UTC).
    pub day: i32,
    /// For how long it was there, in microseconds.
    pub up_us: i64,
    /// Attempts that were accepted.
    pub completed: i32,
    /// Attempts that failed.
    pub failed: i32,
    /// From lease to accepted proof, in microseconds.
    pub busy_us: i64,
}

/// All days of these miners, by their numbers: a row for each day on which they did something. What
/// is not yet in the miners' days is counted, too.
///
/// # Errors
/// Where the database fails.
pub async fn days(tx: &mut Tx, nos: &[i64]) -> Result<HashMap<i64, Vec<Day>>, DbError> {
    let sql = tx.either(
        "select miner_no, day, cast(sum(up_us) as bigint) as up_us,
                cast(sum(completed) as integer) as completed,
                cast(sum(failed) as integer) as failed, cast(sum(busy_us) as bigint) as busy_us
         from (select miner_no, day, up_us, completed, failed, busy_us from miner_days
               where miner_no = any($1)
               union all
               select n, w.day, 0, c, f, b from miner_work w
               cross join lateral unnest(w.miner_no, w.completed, w.failed, w.busy_us)
                   as r(n, c, f, b)
               where n = any($1)) days_and_work
         group by miner_no, day",
        "select miner_no, day, sum(up_us) as up_us, sum(completed) as completed,
                sum(failed) as failed, sum(busy_us) as busy_us
         from (select miner_no, day, up_us, completed, failed, busy_us from miner_days
               union all
               select w.value ->> 'n', day, 0, w.value ->> 'c', w.value ->> 'f', w.value ->> 'b'
               from miner_work, json_each(work) w)
         where miner_no in (select value ->> 'v' from json_each($1))
         group by miner_no, day",
    );
    let mut days: HashMap<i64, Vec<Day>> = HashMap::new();
    let nos = Rows::list(tx.engine(), nos.iter().copied());
    for row in tx.rows(sql, Args::new().with_rows(nos)).await? {
        days.entry(row.get("miner_no")?).or_default().push(Day {
            day: row.get("day")?,
            up_us: row.get("up_us")?,
            completed: row.get("completed")?,
            failed: row.get("failed")?,
            busy_us: row.get("busy_us")?,
        });
    }
    Ok(days)
}

/// When a miner was first and last heard of, as far as it was written.
///
/// # Errors
/// Where the database fails.
pub async fn heard_of(
    tx: &mut Tx,
    no: i64,
) -> Result<Option<(Timestamp, Option<Timestamp>)>, DbError> {
    let sql = "select m.created_at, l.seen_at from miners m
               left join miner_live l on l.miner_no = m.miner_no where m.miner_no = $1";
    let row = tx.row(sql, Args::new().with(no)).await?;
    row.map(|row| Ok((row.get("created_at")?, row.get("seen_at")?))).transpose()
}

/// A miner with what its rows elsewhere say.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The miner.
    pub miner: Miner,
    /// When it was first heard of.
    pub created_at: Timestamp,
    /// When it was last heard of, as far as it was written.
    pub seen_at: Option<Timestamp>,
    /// What it last reported.
    pub report: Value,
    /// Jobs that it holds.
    pub inflight: u64,
}

/// Miners older than the number `before`, newest first.
///
/// # Errors
/// Where the database fails.
pub async fn overview(tx: &mut Tx, limit: i64, before: Option<i64>) -> Result<Vec<Seen>, DbError> {
    let sql = "select m.miner_no, m.miner_id, m.wallet, m.pubkey, m.registered, m.capabilities,
                   m.gpu_lost, m.drain, m.created_at, l.seen_at, l.report,
                   (select count(*) from queue q where q.miner_no = m.miner_no
                    and q.state in ('ASSIGNED', 'RUNNING')) as inflight
               from miners m
               left join miner_live l on l.miner_no = m.miner_no
               where m.miner_no < $1
               order by m.miner_no desc
               limit $2";
    let args = Args::new().with(before.unwrap_or(i64::MAX)).with(limit);
    let rows = tx.rows(sql, args).await?;
    rows.iter()
        .map(|row| {
            Ok(Seen {
                miner: miner(row)?,
                created_at: row.get("created_at")?,
                seen_at: row.get("seen_at")?,
                report: row.get::<Option<Value>>("report")?.unwrap_or_default(),
                inflight: u64::try_from(row.get::<i64>("inflight")?).unwrap_or(0),
            })
        })
        .collect()
}
