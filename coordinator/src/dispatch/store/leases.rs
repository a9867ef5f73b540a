//! Leases that are held: locked, changed, started; and how jobs ended that have no lease any more.

use std::collections::{BTreeSet, HashMap};

use protocol::{JobId, JobState, LeaseToken, Name, Timestamp};

use super::small;
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};

/// A row of the queue with its holder, locked.
#[derive(Debug, Clone)]
pub struct LeaseRow {
    /// The job.
    pub job_id: JobId,
    /// Its state; `QUEUED` also while it is delayed.
    pub state: JobState,
    /// The holder, or the last one while the row carries its fence.
    pub holder: Option<Holder>,
    /// How often it was leased.
    pub fence: i64,
    /// Its chargeable try.
    pub attempt: u32,
    /// How often it may be tried.
    pub max_attempts: u32,
    /// Its class.
    pub class_id: i32,
    /// Its place in the queue.
    pub rank: i64,
    /// Miners that must not get it.
    pub excluded: Vec<i64>,
    /// The number of its last event.
    pub event_seq: i32,
    /// When it lapses unless somebody takes it.
    pub expires_at: Timestamp,
    /// When its progress was last written down as an event.
    pub progress_at: Option<Timestamp>,
}

/// Who holds, or last held, a job.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The miner.
    pub miner_no: i64,
    /// Its label.
    pub miner_id: Name,
    /// Its wallet.
    pub wallet: Name,
    /// The key that signs its receipts.
    pub pubkey: Option<String>,
    /// It presents no token.
    pub tokenless: bool,
    /// The secret of the lease.
    pub token: LeaseToken,
    /// When the lease was granted.
    pub leased_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// Past which it is not renewed.
    pub deadline: Timestamp,
}

/// Locks rows of the queue, in the order of their ids, and reads them with their holders.
///
/// # Errors
/// Where the database does.
pub async fn lock(
    tx: &mut Tx,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashMap<JobId, LeaseRow>, DbError> {
    let jobs: BTreeSet<JobId> = jobs.into_iter().collect();
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let list = |tx: &Tx| Args::new().with_rows(Rows::list(tx.engine(), jobs.iter().copied()));
    if tx.engine() == Engine::Postgres {
        // In a statement of its own: whoever waited for a lock sees the new holder in the row, but
        // joins it with what its snapshot, which is older, knew of the miners.
        // By number: ordered by its id, the whole index would be read.
        let sql = "select q.job_id from unnest($1) with ordinality as r(job_id, no)
                   join queue q on q.job_id = any(array[r.job_id]) order by r.no for update of q";
        let args = list(tx);
        tx.rows(sql, args).await?;
    }
    let sql = tx.either(
        "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.rank,
                q.excluded, q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless,
                q.lease_token, q.leased_at, q.lease_expires_at, q.deadline_at,
                m.miner_id, m.wallet, m.pubkey
         from queue q left join miners m on m.miner_no = any(array[q.miner_no])
         where q.job_id = any($1)",
        "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.rank,
                q.excluded, q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless,
                q.lease_token, q.leased_at, q.lease_expires_at, q.deadline_at,
                m.miner_id, m.wallet, m.pubkey
         from queue q left join miners m on m.miner_no = q.miner_no
         where q.job_id in (select value ->> 'v' from json_each($1))",
    );
    let args = list(tx);
    let rows = tx.rows(sql, args).await?;
    rows.iter().map(|row| lease_row(row).map(|lease| (lease.job_id, lease))).collect()
}

/// Reads one row of the queue with its holder, without a lock.
///
/// # Errors
/// Where the database does.
pub async fn find(tx: &mut Tx, job_id: JobId) -> Result<Option<LeaseRow>, DbError> {
    let sql = "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.rank,
            q.excluded, q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless,
            q.lease_token, q.leased_at, q.lease_expires_at, q.deadline_at,
            m.miner_id, m.wallet, m.pubkey
     from queue q left join miners m on m.miner_no = q.miner_no where q.job_id = $1";
    let row = tx.row(sql, Args::new().with(job_id)).await?;
    row.as_ref().map(lease_row).transpose()
}

fn lease_row(row: &Row) -> Result<LeaseRow, DbError> {
    let miner_no: Option<i64> = row.get("miner_no")?;
    let holder = match miner_no {
        None => None,
        Some(miner_no) => Some(Holder {
            miner_no,
            miner_id: row.parse("miner_id")?,
            wallet: row.parse("wallet")?,
            pubkey: row.get("pubkey")?,
            tokenless: row.get("tokenless")?,
            token: row.get("lease_token")?,
            leased_at: row.get("leased_at")?,
            expires_at: row.get("lease_expires_at")?,
            deadline: row.get("deadline_at")?,
        }),
    };
    let state: String = row.get("state")?;
    Ok(LeaseRow {
        job_id: row.get("job_id")?,
        state: if state == "DELAYED" { JobState::Queued } else { row.parse("state")? },
        holder,
        fence: row.get("fence")?,
        attempt: small(row, "attempt")?,
        max_attempts: small(row, "max_attempts")?,
        class_id: row.get("class_id")?,
        rank: row.get("rank")?,
        excluded: row.json("excluded")?,
        event_seq: row.get("event_seq")?,
        expires_at: row.get("expires_at")?,
        progress_at: row.get("progress_at")?,
    })
}

/// What changes on a held job.
#[derive(Debug, Clone)]
pub struct Change {
    /// The job.
    pub job_id: JobId,
    /// Its state after this.
    pub state: JobState,
    /// When its lease lapses after this.
    pub expires_at: Timestamp,
    /// Per cent done, if it was said.
    pub pct: Option<i16>,
    /// What it is doing, if it was said.
    pub note: Option<String>,
    /// The number of its last event after this.
    pub event_seq: i32,
    /// When its progress was last written down as an event.
    pub progress_at: Option<Timestamp>,
}

/// Writes changes of held jobs.
///
/// # Errors
/// Where the database does.
pub async fn change(tx: &mut Tx, changes: &[Change]) -> Result<(), DbError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for change in changes {
        rows.row()
            .set("job_id", change.job_id)
            .set("state", change.state.as_str())
            .set("expires_at", change.expires_at)
            .set("pct", change.pct)
            .set("note", change.note.clone())
            .set("event_seq", change.event_seq)
            .set("progress_at", change.progress_at)
            .done();
    }
    let sql = tx.either(
        "update queue q set state = r.state, lease_expires_at = r.expires_at,
             pct = coalesce(r.pct, q.pct), note = coalesce(r.note, q.note), event_seq = r.event_seq,
             progress_at = r.progress_at
         from unnest($1, $2, $3, $4, $5, $6, $7)
             as r(job_id, state, expires_at, pct, note, event_seq, progress_at)
         where q.job_id = any(array[r.job_id])",
        "update queue set state = r.value ->> 'state', lease_expires_at = r.value ->> 'expires_at',
             pct = coalesce(r.value ->> 'pct', pct), note = coalesce(r.value ->> 'note', note),
             event_seq = r.value ->> 'event_seq', progress_at = r.value ->> 'progress_at'
         from json_each($1) r where job_id = r.value ->> 'job_id'",
    );
    let changed = tx.execute(sql, Args::new().with_columns(rows)).await?;
    DbError::expect("change leases", changes.len() as u64, changed)
}

/// Notes that work on leases has started.
///
/// # Errors
/// Where the database does.
pub async fn start_attempts(
    tx: &mut Tx,
    now: Timestamp,
    started: &[(JobId, i64)],
) -> Result<(), DbError> {
    if started.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for (job_id, fence) in started {
        rows.row().set("job_id", *job_id).set("fence", *fence).done();
    }
    let sql = tx.either(
        "update attempts a set started_at = $1
         from unnest($2, $3) as r(job_id, fence)
         where a.job_id = any(array[r.job_id]) and a.fence = r.fence",
        "update attempts set started_at = $1 from json_each($2) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'",
    );
    tx.execute(sql, Args::new().with(now).with_columns(rows)).await?;
    Ok(())
}

/// How jobs ended, of those that have.
///
/// # Errors
/// Where the database does.
pub async fn outcomes(
    tx: &mut Tx,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashMap<JobId, JobState>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, outcome from jobs where outcome is not null
         and job_id = any($1)",
        "select job_id, outcome from jobs where outcome is not null
         and job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, row.parse("outcome")?))).collect()
}
