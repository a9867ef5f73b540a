//! What time has come for: leases, jobs, retries, classes.

use protocol::{JobId, Timestamp};

use crate::db::{Args, DbError, Tx};

/// Jobs whose lease has lapsed, at most `limit`, not locked yet.
///
/// # Errors
/// Where the database does.
pub async fn lapsed(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<JobId>, DbError> {
    let sql = "select job_id from queue where state in ('ASSIGNED', 'RUNNING')
               and lease_expires_at < $1 limit $2";
    job_ids(tx, sql, now, limit).await
}

/// When the first of the leases lapses that are held. It looks at all of them.
///
/// # Errors
/// Where the database does.
pub async fn first_lapse(tx: &mut Tx) -> Result<Option<Timestamp>, DbError> {
    let sql = "select min(lease_expires_at) as first from queue
               where state in ('ASSIGNED', 'RUNNING')";
    let row = tx.row(sql, Args::new()).await?;
    row.map_or(Ok(None), |row| row.get("first"))
}

/// Jobs that waited longer than they may, at most `limit`, not locked yet.
///
/// # Errors
/// Where the database does.
pub async fn overdue(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<JobId>, DbError> {
    let sql = "select job_id from queue where coalesce(state, '') in ('QUEUED', 'DELAYED')
               and expires_at < $1 limit $2";
    job_ids(tx, sql, now, limit).await
}

async fn job_ids(
    tx: &mut Tx,
    sql: &'static str,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<JobId>, DbError> {
    let rows = tx.rows(sql, Args::new().with(now).with(limit)).await?;
    rows.iter().map(|row| row.get("job_id")).collect()
}

/// Queues the delayed jobs that are due; returns their classes and ranks.
///
/// # Errors
/// Where the database does.
pub async fn queue_due(tx: &mut Tx, now: Timestamp) -> Result<Vec<(i32, i64)>, DbError> {
    let sql = "update queue set state = 'QUEUED', due_at = null
               where state = 'DELAYED' and due_at <= $1 returning class_id, rank";
    let rows = tx.rows(sql, Args::new().with(now)).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.get("rank")?))).collect()
}

/// Removes classes that no live job has, made before `before`.
///
/// # Errors
/// Where the database does.
pub async fn forget_classes(tx: &mut Tx, before: Timestamp) -> Result<u64, DbError> {
    if tx.engine() == crate::db::Engine::Postgres {
        // Waits for intakes that are about to use a class, and holds up new ones meanwhile.
        tx.execute("lock table classes in exclusive mode", Args::new()).await?;
    }
    // Looked through once: there may be many of both.
    let sql = "delete from classes where created_at < $1
               and class_id not in (select distinct class_id from queue)";
    tx.execute(sql, Args::new().with(before)).await
}
