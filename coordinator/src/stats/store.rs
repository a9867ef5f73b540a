//! The SQL of the numbers that an operator watches: reads only, across all rooms.

use std::collections::{BTreeMap, HashMap};

use protocol::{Amount, JobId, JobState, Name, Timestamp};
use serde_json::Value;

use super::totals::Through;
use crate::app;
use crate::db::{Args, DbError, Row, Rows, Tx};

/// How many live jobs are in each state.
///
/// # Errors
/// Where the database fails.
pub async fn live_counts(tx: &mut Tx) -> Result<BTreeMap<String, u64>, DbError> {
    let sql = "select case state when 'DELAYED' then 'QUEUED' else state end as word,
                   count(*) as n
               from queue group by 1";
    counts(tx, sql, Args::new()).await
}

/// How the jobs that were submitted since `since` ended; `LIVE`: not yet.
///
/// # Errors
/// Where the database fails.
pub async fn counts_since(tx: &mut Tx, since: Timestamp) -> Result<BTreeMap<String, u64>, DbError> {
    // Ids begin with the time of submission, and have an index.
    let sql = "select coalesce(outcome, 'LIVE') as word, count(*) as n
               from jobs where job_id >= $1 group by 1";
    counts(tx, sql, Args::new().with(JobId::from_parts(since, 0))).await
}

async fn counts(
    tx: &mut Tx,
    sql: &'static str,
    args: Args,
) -> Result<BTreeMap<String, u64>, DbError> {
    let rows = tx.rows(sql, args).await?;
    let count =
        |row: &Row| Ok((row.get("word")?, u64::try_from(row.get::<i64>("n")?).unwrap_or(0)));
    rows.iter().map(count).collect()
}

/// How many miners are known, and how many of them get no more jobs.
///
/// # Errors
/// Where the database fails.
pub async fn miners(tx: &mut Tx) -> Result<(u64, u64), DbError> {
    let sql = "select count(*) as known, count(*) filter (where drain) as draining from miners";
    let row = tx.row(sql, Args::new()).await?;
    let count = |name| -> Result<u64, DbError> {
        let n = row.as_ref().map_or(Ok(0), |row| row.get::<i64>(name))?;
        Ok(u64::try_from(n).unwrap_or(0))
    };
    Ok((count("known")?, count("draining")?))
}

/// What was credited without being paid in, since the beginning.
///
/// # Errors
/// Where the database fails.
pub async fn issued(tx: &mut Tx) -> Result<Amount, DbError> {
    let row = tx.row("select balance from accounts where name = 'issuance'", Args::new()).await?;
    let balance: Amount = row.map_or(Ok(Amount::ZERO), |row| row.get("balance"))?;
    Ok(balance.checked_neg().unwrap_or(Amount::MAX))
}

/// Of how many starts and receipts at most the waits and shares are worked out.
const SAMPLE: i64 = 10_000;

/// The most classes and clients that are listed.
const LISTED: i64 = 200;

/// The live jobs of one class.
#[derive(Debug, Clone)]
pub struct ClassCount {
    /// The class.
    pub class_id: i32,
    /// What it needs.
    pub needs: Value,
    /// Jobs that can be claimed.
    pub queued: u64,
    /// Jobs that wait to be tried again.
    pub delayed: u64,
    /// Jobs that somebody holds.
    pub held: u64,
    /// The oldest that nobody holds.
    pub oldest: Option<JobId>,
}

/// The classes that have live jobs, most waiting first.
///
/// # Errors
/// Where the database fails.
pub async fn classes(tx: &mut Tx) -> Result<Vec<ClassCount>, DbError> {
    // Ids begin with the time of submission. PostgreSQL 15 has no min() of a uuid.
    let sql = tx.either(
        "select q.*, c.needs from (
             select class_id, count(*) filter (where state = 'QUEUED') as queued,
                 count(*) filter (where state = 'DELAYED') as delayed,
                 count(*) filter (where state in ('ASSIGNED', 'RUNNING')) as held,
                 min(job_id::text) filter (where state in ('QUEUED', 'DELAYED'))::uuid as oldest
             from queue group by class_id) q
         join classes c on c.class_id = q.class_id
         order by q.queued desc, q.class_id limit $1",
        "select q.*, c.needs from (
             select class_id, count(*) filter (where state = 'QUEUED') as queued,
                 count(*) filter (where state = 'DELAYED') as delayed,
                 count(*) filter (where state in ('ASSIGNED', 'RUNNING')) as held,
                 min(job_id) filter (where state in ('QUEUED', 'DELAYED')) as oldest
             from queue group by class_id) q
         join classes c on c.class_id = q.class_id
         order by q.queued desc, q.class_id limit $1",
    );
    let rows = tx.rows(sql, Args::new().with(LISTED)).await?;
    rows.iter()
        .map(|row| {
            Ok(ClassCount {
                class_id: row.get("class_id")?,
                needs: row.get("needs")?,
                queued: number(row, "queued")?,
                delayed: number(row, "delayed")?,
                held: number(row, "held")?,
                oldest: row.get("oldest")?,
            })
        })
        .collect()
}

fn number(row: &Row, name: &'static str) -> Result<u64, DbError> {
    Ok(u64::try_from(row.get::<i64>(name)?).unwrap_or(0))
}

/// What went through since a moment.
#[derive(Debug, Clone)]
pub struct Throughput {
    /// Jobs submitted.
    pub submitted: u64,
    /// Jobs ended, by how.
    pub ended: BTreeMap<String, u64>,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// What was credited.
    pub credited: Amount,
}

/// What went through since `since`; each count by an index that begins with the time.
///
/// # Errors
/// Where the database fails.
pub async fn throughput(tx: &mut Tx, since: Timestamp) -> Result<Throughput, DbError> {
    let sql = "select (select count(*) from jobs where job_id >= $1) as submitted,
                   (select count(*) from attempts where ended_at >= $2 and outcome = 'FAILED')
                       as failed_attempts,
                   (select cast(coalesce(sum(price), 0) as bigint) from receipts
                    where transfer_id >= $3) as credited";
    let args = Args::new()
        .with(JobId::from_parts(since, 0))
        .with(since)
        .with(app::first_transfer_id(since));
    let row = tx.row(sql, args).await?;
    let count = |name| row.as_ref().map_or(Ok(0), |row| number(row, name));
    let (submitted, failed_attempts) = (count("submitted")?, count("failed_attempts")?);
    let credited = row.as_ref().map_or(Ok(Amount::ZERO), |row| row.get("credited"))?;
    let sql = "select outcome as word, count(*) as n from jobs where finished_at >= $1 group by 1";
    let ended = counts(tx, sql, Args::new().with(since)).await?;
    Ok(Throughput { submitted, ended, failed_attempts, credited })
}

/// What went through from `from` on, and before `until` where that is given; each count by an index
/// that begins with the time.
///
/// # Errors
/// Where the database fails.
pub async fn through(
    tx: &mut Tx,
    from: Timestamp,
    until: Option<Timestamp>,
) -> Result<Through, DbError> {
    let until = until.unwrap_or(Timestamp::of_day(LAST_DAY));
    let sql = "select (select count(*) from jobs where job_id >= $1 and job_id < $2) as submitted,
                   (select cast(coalesce(sum(price), 0) as bigint) from receipts
                    where transfer_id >= $3 and transfer_id < $4) as credited";
    let args = Args::new()
        .with(JobId::from_parts(from, 0))
        .with(JobId::from_parts(until, 0))
        .with(app::first_transfer_id(from))
        .with(app::first_transfer_id(until));
    let row = tx.row(sql, args).await?;
    let submitted = row.as_ref().map_or(Ok(0), |row| row.get("submitted"))?;
    let credited = row.as_ref().map_or(Ok(Amount::ZERO), |row| row.get("credited"))?;
    let sql = "select outcome as word, count(*) as n from jobs
               where finished_at >= $1 and finished_at < $2 group by 1";
    let ended = counts(tx, sql, Args::new().with(from).with(until)).await?;
    let count = |outcome: JobState| {
        let count = ended.get(outcome.as_str()).copied().unwrap_or(0);
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    Ok(Through {
        submitted,
        completed: count(JobState::Completed),
        failed: count(JobState::Failed),
        canceled: count(JobState::Canceled),
        expired: count(JobState::Expired),
        credited,
    })
}

/// 9999-12-31: a job id has no room for times that are much later.
const LAST_DAY: i32 = 2_932_896;

/// The last day that is written down.
///
/// # Errors
/// Where the database fails.
pub async fn last_rolled(tx: &mut Tx) -> Result<Option<i32>, DbError> {
    let sql = "select day from metrics_rollup order by day desc limit 1";
    tx.row(sql, Args::new()).await?.map(|row| row.get("day")).transpose()
}

/// The day of the first job.
///
/// # Errors
/// Where the database fails.
pub async fn first_day(tx: &mut Tx) -> Result<Option<i32>, DbError> {
    let row = tx.row("select job_id from jobs order by job_id limit 1", Args::new()).await?;
    let first: Option<JobId> = row.map(|row| row.get("job_id")).transpose()?;
    Ok(first.map(|job| job.created_at().day()))
}

/// Writes down what went through on a day that is over; whoever comes second writes nothing.
///
/// # Errors
/// Where the database fails.
pub async fn roll(tx: &mut Tx, day: i32, of: &Through) -> Result<(), DbError> {
    let sql = "insert into metrics_rollup
                   (day, submitted, completed, failed, canceled, expired, credited)
               values ($1, $2, $3, $4, $5, $6, $7) on conflict (day) do nothing";
    let args = Args::new()
        .with(day)
        .with(of.submitted)
        .with(of.completed)
        .with(of.failed)
        .with(of.canceled)
        .with(of.expired)
        .with(of.credited);
    tx.execute(sql, args).await?;
    Ok(())
}

/// The sum of the days before `today` that are written down.
///
/// # Errors
/// Where the database fails.
pub async fn rolled(tx: &mut Tx, today: i32) -> Result<Through, DbError> {
    let sql = "select cast(coalesce(sum(submitted), 0) as bigint) as submitted,
                   cast(coalesce(sum(completed), 0) as bigint) as completed,
                   cast(coalesce(sum(failed), 0) as bigint) as failed,
                   cast(coalesce(sum(canceled), 0) as bigint) as canceled,
                   cast(coalesce(sum(expired), 0) as bigint) as expired,
                   cast(coalesce(sum(credited), 0) as bigint) as credited
               from metrics_rollup where day < $1";
    let Some(row) = tx.row(sql, Args::new().with(today)).await? else {
        return Ok(Through::default());
    };
    Ok(Through {
        submitted: row.get("submitted")?,
        completed: row.get("completed")?,
        failed: row.get("failed")?,
        canceled: row.get("canceled")?,
        expired: row.get("expired")?,
        credited: row.get("credited")?,
    })
}

/// A job that somebody was handed for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When.
    pub at: Timestamp,
    /// How long it had waited, in milliseconds.
    pub waited_ms: u64,
}

/// The newest jobs that started since `since`, with their clients.
///
/// # Errors
/// Where the database fails.
pub async fn starts(tx: &mut Tx, since: Timestamp) -> Result<Vec<(Name, Start)>, DbError> {
    let sql = "select a.leased_at, j.client_id, j.created_at
               from (select job_id, leased_at from attempts where fence = 1 and leased_at >= $1
                     order by leased_at desc limit $2) a
               join jobs j on j.job_id = a.job_id";
    let rows = tx.rows(sql, Args::new().with(since).with(SAMPLE)).await?;
    rows.iter()
        .map(|row| {
            let at: Timestamp = row.get("leased_at")?;
            let waited = at.since(row.get("created_at")?).as_millis();
            let waited_ms = u64::try_from(waited).unwrap_or(u64::MAX);
            Ok((row.parse("client_id")?, Start { at, waited_ms }))
        })
        .collect()
}

/// What clients paid, or was issued for them, in the newest receipts since `since`.
///
/// # Errors
/// Where the database fails.
pub async fn spent(tx: &mut Tx, since: Timestamp) -> Result<HashMap<Name, Amount>, DbError> {
    let sql = "select client_id, cast(sum(price) as bigint) as spent
               from (select client_id, price from receipts where transfer_id >= $1
                     order by transfer_id desc limit $2) newest
               group by client_id";
    let args = Args::new().with(app::first_transfer_id(since)).with(SAMPLE);
    let rows = tx.rows(sql, args).await?;
    rows.iter().map(|row| Ok((row.parse("client_id")?, row.get("spent")?))).collect()
}

/// How many live jobs clients have, those with the most first: in all, and at work.
///
/// # Errors
/// Where the database fails.
pub async fn live_by_client(tx: &mut Tx) -> Result<HashMap<Name, (u64, u64)>, DbError> {
    let sql = "select client_id, count(*) as n from jobs where outcome is null
               group by client_id order by n desc, client_id limit $1";
    let mut live = HashMap::new();
    for row in tx.rows(sql, Args::new().with(LISTED)).await? {
        live.insert(row.parse("client_id")?, (number(&row, "n")?, 0));
    }
    let sql = "select j.client_id, count(*) as n
               from queue q join jobs j on j.job_id = q.job_id
               where q.state in ('ASSIGNED', 'RUNNING') group by j.client_id";
    for row in tx.rows(sql, Args::new()).await? {
        let held = number(&row, "n")?;
        if let Some((_, of)) = live.get_mut(&row.parse::<Name>("client_id")?) {
            *of = held;
        }
    }
    Ok(live)
}

/// The weights of clients.
///
/// # Errors
/// Where the database fails.
pub async fn weights(
    tx: &mut Tx,
    clients: impl Iterator<Item = &Name>,
) -> Result<HashMap<Name, u32>, DbError> {
    let clients = Rows::list(tx.engine(), clients.map(Name::as_str));
    let sql = tx.either(
        "select client_id, weight from clients
         where client_id = any($1)",
        "select client_id, weight from clients
         where client_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(clients)).await?;
    rows.iter()
        .map(|row| {
            let weight = u32::try_from(row.get::<i32>("weight")?).unwrap_or(1);
            Ok((row.parse("client_id")?, weight))
        })
        .collect()
}
