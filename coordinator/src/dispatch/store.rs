//! SQL of dispatch: what is ready, what can be claimed, who holds what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use protocol::job::{Lease, SlotKind};
use protocol::{JobId, JobState, LeaseToken, Name, Timestamp};
use serde_json::json;

use super::deal::Candidate;
use super::matching::Needs;
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};
use crate::jobs::Spec;

/// A lease to be granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Of which job.
    pub job_id: JobId,
    /// To whom.
    pub miner_no: i64,
    /// It never registered: it cannot present the token.
    pub tokenless: bool,
    /// The secret of the lease.
    pub token: LeaseToken,
    /// When it lapses unless renewed.
    pub expires_at: Timestamp,
    /// Past which it is not renewed.
    pub deadline: Timestamp,
}

/// A job in a miner's hands.
#[derive(Debug, Clone)]
pub struct HeldJob {
    /// The job.
    pub job_id: JobId,
    /// Who holds it.
    pub miner_no: i64,
    /// On which kind of slot.
    pub slot: SlotKind,
    /// Its chargeable try.
    pub attempt: u32,
    /// The number of its last event.
    pub event_seq: i32,
    /// The lease.
    pub lease: Lease,
}

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

/// What jobs of some classes need.
///
/// # Errors
/// Where the database does.
pub async fn classes(
    tx: &mut Tx,
    classes: impl IntoIterator<Item = i32>,
) -> Result<Vec<(i32, Needs)>, DbError> {
    let classes = Rows::list(tx.engine(), classes);
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select class_id, needs from classes
         where class_id in (select v from jsonb_to_recordset($1) as r(v int))",
        "select class_id, needs from classes
         where class_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.json("needs")?))).collect()
}

/// Classes that have a queued job.
///
/// # Errors
/// Where the database does.
pub async fn ready_classes(tx: &mut Tx) -> Result<Vec<i32>, DbError> {
    // One probe of the partial index per class, whatever the length of the queue.
    let sql = "select c.class_id from classes c where exists
               (select 1 from queue q where q.class_id = c.class_id and q.state = 'QUEUED')";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
}

/// The highest rank that is at work, for each class: what other replicas handed out.
///
/// # Errors
/// Where the database does.
pub async fn held_ranks(tx: &mut Tx) -> Result<Vec<(i32, SlotKind, i64)>, DbError> {
    let sql = "select c.class_id, c.needs ->> 'slot' as slot, max(q.rank) as rank
               from queue q join classes c on c.class_id = q.class_id
               where q.state in ('ASSIGNED', 'RUNNING') group by 1, 2";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.word("slot")?, row.get("rank")?))).collect()
}

/// Those of some classes that have a queued job.
///
/// # Errors
/// Where the database does.
pub async fn ready_among(tx: &mut Tx, classes: &BTreeSet<i32>) -> Result<Vec<i32>, DbError> {
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let classes = Rows::list(tx.engine(), classes.iter().copied());
    let sql = tx.either(
        "select r.v as class_id from jsonb_to_recordset($1) as r(v int) where exists
         (select 1 from queue q where q.class_id = r.v and q.state = 'QUEUED')",
        "select r.value ->> 'v' as class_id from json_each($1) r where exists
         (select 1 from queue q where q.class_id = r.value ->> 'v' and q.state = 'QUEUED')",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
}

/// What some miners hold.
///
/// # Errors
/// Where the database does.
pub async fn held_by(
    tx: &mut Tx,
    miners: impl IntoIterator<Item = i64>,
) -> Result<Vec<HeldJob>, DbError> {
    let miners = Rows::list(tx.engine(), miners);
    let sql = tx.either(
        "select q.job_id, q.miner_no, q.attempt, q.event_seq, q.fence, q.lease_token,
                q.lease_expires_at, q.deadline_at, c.needs ->> 'slot' as slot
         from queue q join classes c on c.class_id = q.class_id
         where q.miner_no in (select v from jsonb_to_recordset($1) as r(v bigint))
           and q.state in ('ASSIGNED', 'RUNNING')",
        "select q.job_id, q.miner_no, q.attempt, q.event_seq, q.fence, q.lease_token,
                q.lease_expires_at, q.deadline_at, c.needs ->> 'slot' as slot
         from queue q join classes c on c.class_id = q.class_id
         where q.miner_no in (select value ->> 'v' from json_each($1))
           and q.state in ('ASSIGNED', 'RUNNING')",
    );
    let rows = tx.rows(sql, Args::new().with_rows(miners)).await?;
    rows.iter().map(held_job).collect()
}

fn held_job(row: &Row) -> Result<HeldJob, DbError> {
    Ok(HeldJob {
        job_id: row.get("job_id")?,
        miner_no: row.get("miner_no")?,
        slot: row.word("slot")?,
        attempt: small(row, "attempt")?,
        event_seq: row.get("event_seq")?,
        lease: Lease {
            token: row.get("lease_token")?,
            fence: row.get("fence")?,
            expires_at: row.get("lease_expires_at")?,
            deadline: row.get("deadline_at")?,
        },
    })
}

fn small(row: &Row, column: &'static str) -> Result<u32, DbError> {
    let value: i16 = row.get(column)?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// What is wanted of a class.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// How many jobs at most.
    pub most: i64,
    /// For which miners.
    pub miners: Vec<i64>,
}

/// Locks miners for the length of the transaction; returns those that nobody else has locked.
/// Without it, two replicas could hand one miner more than it runs at once.
///
/// # Errors
/// Where the database does.
pub async fn lock_miners(
    tx: &mut Tx,
    miners: impl IntoIterator<Item = i64>,
) -> Result<HashSet<i64>, DbError> {
    if tx.engine() == Engine::Sqlite {
        return Ok(miners.into_iter().collect());
    }
    let miners = Rows::list(tx.engine(), miners);
    // The first number only keeps these locks apart from others of ours.
    let sql = "select v from jsonb_to_recordset($1) as r(v bigint)
               where pg_try_advisory_xact_lock(4, (v % 2147483647)::int)";
    let rows = tx.rows(sql, Args::new().with_rows(miners)).await?;
    rows.iter().map(|row| row.get("v")).collect()
}

/// The first queued jobs of each class, by rank: at most as many as wanted of it, and none that
/// exclude all who want them.
///
/// Nothing is locked: who takes one locks it then, and finds out whether it is still there.
///
/// # Errors
/// Where the database does.
pub async fn candidates(
    tx: &mut Tx,
    now: Timestamp,
    wanted: &BTreeMap<i32, Wanted>,
) -> Result<Vec<Candidate>, DbError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select q.job_id, q.class_id, q.rank, q.excluded, q.max_runtime_s
         from jsonb_to_recordset($1) as w(class_id int, most bigint, miners jsonb)
         cross join lateral (
             select job_id, class_id, rank, excluded, max_runtime_s from queue
             where class_id = w.class_id and state = 'QUEUED' and expires_at > $2
               and (excluded = '[]' or not excluded @> w.miners)
             order by rank limit w.most) q",
        // SQLite has no lateral join; with one writer, one class after the other is as good.
        "select job_id, class_id, rank, excluded, max_runtime_s from queue
         where class_id = $1 and state = 'QUEUED' and expires_at > $2
           and (excluded = '[]' or exists (
               select 1 from json_each($4) m
               where m.value not in (select x.value from json_each(excluded) x)))
         order by rank limit $3",
    );
    let mut rows = Vec::new();
    match tx.engine() {
        Engine::Postgres => {
            let mut classes = Rows::new(tx.engine());
            for (class, Wanted { most, miners }) in wanted {
                classes
                    .row()
                    .set("class_id", *class)
                    .set("most", *most)
                    .set("miners", json!(miners))
                    .done();
            }
            rows = tx.rows(sql, Args::new().with_rows(classes).with(now)).await?;
        }
        Engine::Sqlite => {
            for (class, Wanted { most, miners }) in wanted {
                let args = Args::new().with(*class).with(now).with(*most).with(json!(miners));
                rows.extend(tx.rows(sql, args).await?);
            }
        }
    }
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                job_id: row.get("job_id")?,
                class_id: row.get("class_id")?,
                rank: row.get("rank")?,
                excluded: row.json("excluded")?,
                max_runtime_s: row.get("max_runtime_s")?,
            })
        })
        .collect()
}

/// Grants leases; jobs that another replica took meanwhile are left out of the answer.
///
/// # Errors
/// Where the database does.
pub async fn lease(tx: &mut Tx, now: Timestamp, grants: &[Grant]) -> Result<Vec<HeldJob>, DbError> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Rows::new(tx.engine());
    for grant in grants {
        rows.row()
            .set("job_id", grant.job_id)
            .set("miner_no", grant.miner_no)
            .set("tokenless", grant.tokenless)
            .set("token", grant.token)
            .set("expires_at", grant.expires_at)
            .set("deadline", grant.deadline)
            .done();
    }
    let sql = tx.either(
        "with g as (
             select * from jsonb_to_recordset($1) as r(job_id uuid, miner_no bigint,
                 tokenless boolean, token uuid, expires_at timestamptz, deadline timestamptz)),
         free as (
             select q.job_id from queue q join g on g.job_id = q.job_id
             where q.state = 'QUEUED' order by q.job_id for update of q skip locked)
         update queue q set state = 'ASSIGNED', miner_no = g.miner_no, fence = q.fence + 1,
             lease_token = g.token, tokenless = g.tokenless, leased_at = $2,
             lease_expires_at = g.expires_at, deadline_at = g.deadline,
             event_seq = q.event_seq + 1, pct = null, note = null
         from g join free on free.job_id = g.job_id, classes c
         where q.job_id = g.job_id and c.class_id = q.class_id
         returning q.job_id, q.miner_no, q.attempt, q.event_seq, q.fence, q.lease_token,
             q.lease_expires_at, q.deadline_at, c.needs ->> 'slot' as slot",
        "update queue set state = 'ASSIGNED', miner_no = g.value ->> 'miner_no', fence = fence + 1,
             lease_token = g.value ->> 'token', tokenless = g.value ->> 'tokenless', leased_at = $2,
             lease_expires_at = g.value ->> 'expires_at', deadline_at = g.value ->> 'deadline',
             event_seq = event_seq + 1, pct = null, note = null
         from json_each($1) g
         where queue.job_id = g.value ->> 'job_id' and queue.state = 'QUEUED'
         returning job_id, miner_no, attempt, event_seq, fence, lease_token, lease_expires_at,
             deadline_at,
             (select c.needs ->> 'slot' from classes c where c.class_id = queue.class_id) as slot",
    );
    let rows = tx.rows(sql, Args::new().with_rows(rows).with(now)).await?;
    rows.iter().map(held_job).collect()
}

/// Begins the history of leases.
///
/// # Errors
/// Where the database does.
pub async fn begin_attempts<'a>(
    tx: &mut Tx,
    now: Timestamp,
    granted: &[HeldJob],
    name: impl Fn(i64) -> &'a str,
) -> Result<(), DbError> {
    if granted.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for held in granted {
        rows.row()
            .set("job_id", held.job_id)
            .set("fence", held.lease.fence)
            .set("miner_no", held.miner_no)
            .set("miner_id", name(held.miner_no))
            .done();
    }
    let sql = tx.either(
        "insert into attempts (job_id, fence, miner_no, miner_id, leased_at)
         select job_id, fence, miner_no, miner_id, $2 from jsonb_to_recordset($1)
             as r(job_id uuid, fence bigint, miner_no bigint, miner_id text)",
        "insert into attempts (job_id, fence, miner_no, miner_id, leased_at)
         select value ->> 'job_id', value ->> 'fence', value ->> 'miner_no', value ->> 'miner_id',
                $2
         from json_each($1)",
    );
    let begun = tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    DbError::expect("begin attempts", granted.len() as u64, begun)
}

/// What is stored of jobs.
///
/// # Errors
/// Where the database does.
pub async fn specs(
    tx: &mut Tx,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashMap<JobId, Spec>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, spec from job_specs
         where job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select job_id, spec from job_specs
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, row.json("spec")?))).collect()
}

/// Locks rows of the queue, in the order of their ids, and reads them with their holders.
///
/// # Errors
/// Where the database does.
pub async fn lock(
    tx: &mut Tx,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashMap<JobId, LeaseRow>, DbError> {
    let jobs: Vec<JobId> = jobs.into_iter().collect();
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let list = |tx: &Tx| Args::new().with_rows(Rows::list(tx.engine(), jobs.iter().copied()));
    if tx.engine() == Engine::Postgres {
        // In a statement of its own: whoever waited for a lock sees the new holder in the row, but
        // joins it with what its snapshot, which is older, knew of the miners.
        let sql = "select job_id from queue
                   where job_id in (select v from jsonb_to_recordset($1) as r(v uuid))
                   order by job_id for update";
        let args = list(tx);
        tx.rows(sql, args).await?;
    }
    let sql = tx.either(
        "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.excluded,
                q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless, q.lease_token,
                q.leased_at, q.lease_expires_at, q.deadline_at, m.miner_id, m.wallet, m.pubkey
         from queue q left join miners m on m.miner_no = q.miner_no
         where q.job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.excluded,
                q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless, q.lease_token,
                q.leased_at, q.lease_expires_at, q.deadline_at, m.miner_id, m.wallet, m.pubkey
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
    let sql =
        "select q.job_id, q.state, q.fence, q.attempt, q.max_attempts, q.class_id, q.excluded,
            q.event_seq, q.expires_at, q.progress_at, q.miner_no, q.tokenless, q.lease_token, q.leased_at,
            q.lease_expires_at, q.deadline_at, m.miner_id, m.wallet, m.pubkey
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
         from jsonb_to_recordset($1) as r(job_id uuid, state text, expires_at timestamptz,
             pct smallint, note text, event_seq int, progress_at timestamptz)
         where q.job_id = r.job_id",
        "update queue set state = r.value ->> 'state', lease_expires_at = r.value ->> 'expires_at',
             pct = coalesce(r.value ->> 'pct', pct), note = coalesce(r.value ->> 'note', note),
             event_seq = r.value ->> 'event_seq', progress_at = r.value ->> 'progress_at'
         from json_each($1) r where job_id = r.value ->> 'job_id'",
    );
    let changed = tx.execute(sql, Args::new().with_rows(rows)).await?;
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
        "update attempts a set started_at = $2
         from jsonb_to_recordset($1) as r(job_id uuid, fence bigint)
         where a.job_id = r.job_id and a.fence = r.fence",
        "update attempts set started_at = $2 from json_each($1) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
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
         and job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select job_id, outcome from jobs where outcome is not null
         and job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, row.parse("outcome")?))).collect()
}

/// Takes back leases that nobody heard of: the jobs are queued as if they had not been handed out,
/// save that their fence is used up. Returns those that were taken back, with their events' numbers.
///
/// # Errors
/// Where the database does.
pub async fn take_back(
    tx: &mut Tx,
    now: Timestamp,
    leases: &[(JobId, i64)],
) -> Result<Vec<(JobId, i32)>, DbError> {
    let rows = || {
        let mut rows = Rows::new(tx.engine());
        for (job_id, fence) in leases {
            rows.row().set("job_id", *job_id).set("fence", *fence).done();
        }
        rows
    };
    let (queue, attempts) = (rows(), rows());
    let sql = tx.either(
        "update queue q set state = 'QUEUED', event_seq = q.event_seq + 1
         from jsonb_to_recordset($1) as r(job_id uuid, fence bigint)
         where q.job_id = r.job_id and q.fence = r.fence and q.state = 'ASSIGNED'
         returning q.job_id, q.event_seq",
        "update queue set state = 'QUEUED', event_seq = event_seq + 1
         from json_each($1) r
         where queue.job_id = r.value ->> 'job_id' and queue.fence = r.value ->> 'fence'
           and queue.state = 'ASSIGNED'
         returning job_id, event_seq",
    );
    let taken = tx.rows(sql, Args::new().with_rows(queue)).await?;
    let sql = tx.either(
        "update attempts a set ended_at = $2, outcome = 'RETURNED'
         from jsonb_to_recordset($1) as r(job_id uuid, fence bigint)
         where a.job_id = r.job_id and a.fence = r.fence and a.started_at is null",
        "update attempts set ended_at = $2, outcome = 'RETURNED' from json_each($1) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'
           and started_at is null",
    );
    tx.execute(sql, Args::new().with_rows(attempts).with(now)).await?;
    taken.iter().map(|row| Ok((row.get("job_id")?, row.get("event_seq")?))).collect()
}
