//! The SQL of the numbers that an operator watches: reads only, across all rooms.

use std::collections::BTreeMap;

use protocol::{Amount, JobId, Timestamp};

use crate::db::{Args, DbError, Row, Tx};

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
