//! What can be claimed, and by whom; leases granted and taken back.

use std::collections::{BTreeMap, HashSet};

use protocol::job::{Lease, SlotKind};
use protocol::{JobId, LeaseToken, Name, Timestamp};
use serde_json::json;

use super::{small, specs};
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};
use crate::dispatch::deal::Candidate;
use crate::jobs::Spec;

/// A lease to be granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Of which job.
    pub job_id: JobId,
    /// To whom.
    pub miner_no: i64,
    /// Its label.
    pub miner_id: Name,
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
    /// Its number among all leases; 0 on SQLite, which has none.
    pub lease_no: i64,
}

/// What some miners hold: each with the number of a lease before which it holds none.
///
/// # Errors
/// Where the database does.
pub async fn held_by(
    tx: &mut Tx,
    miners: impl IntoIterator<Item = (i64, i64)>,
) -> Result<Vec<HeldJob>, DbError> {
    let mut rows = Rows::new(tx.engine());
    for (miner_no, since) in miners {
        rows.row().set("miner_no", miner_no).set("since", since).done();
    }
    let sql = tx.either(
        "select q.job_id, q.miner_no, q.attempt, q.event_seq, q.fence, q.lease_token,
                q.lease_expires_at, q.deadline_at, q.lease_no, c.needs ->> 'slot' as slot
         from unnest($1, $2) as r(miner_no, since)
         cross join lateral (
             select * from queue where miner_no = r.miner_no and lease_no >= r.since
                 and state in ('ASSIGNED', 'RUNNING') offset 0) q
         join classes c on c.class_id = any(array[q.class_id])",
        "select q.job_id, q.miner_no, q.attempt, q.event_seq, q.fence, q.lease_token,
                q.lease_expires_at, q.deadline_at, 0 as lease_no, c.needs ->> 'slot' as slot
         from queue q join classes c on c.class_id = q.class_id
         where q.miner_no in (select value ->> 'miner_no' from json_each($1))
           and q.state in ('ASSIGNED', 'RUNNING')",
    );
    let rows = tx.rows(sql, Args::new().with_columns(rows)).await?;
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
        lease_no: row.get("lease_no")?,
    })
}

/// What is wanted of a class.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// How many jobs at most.
    pub most: i64,
    /// For which miners.
    pub miners: Vec<i64>,
    /// The rank below which none waits.
    pub from: i64,
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
    let sql = "select v from unnest($1) as r(v)
               where pg_try_advisory_xact_lock(4, (v % 2147483647)::int)";
    let rows = tx.rows(sql, Args::new().with_rows(miners)).await?;
    rows.iter().map(|row| row.get("v")).collect()
}

/// The first queued jobs of each class, by rank: at most as many as wanted of it, and none that
/// exclude all who want them.
///
/// Nothing is locked: who takes one locks it then, and finds out whether it is still there. With it
/// comes the lowest rank that waits for anybody, of the classes that have any; SQLite, which leaves
/// nothing of deleted rows in its indexes, does not ask.
///
/// # Errors
/// Where the database does.
pub async fn candidates(
    tx: &mut Tx,
    now: Timestamp,
    wanted: &BTreeMap<i32, Wanted>,
) -> Result<(Vec<Candidate>, BTreeMap<i32, i64>), DbError> {
    if wanted.is_empty() {
        return Ok((Vec::new(), BTreeMap::new()));
    }
    let sql = tx.either(
        "select q.job_id, q.class_id, q.rank, q.excluded, q.max_runtime_s, foremost
         from jsonb_to_recordset($1)
             as w(class_id int, most bigint, miners jsonb, from_rank bigint)
         cross join lateral (
             select rank as foremost from queue
             where class_id = w.class_id and state = 'QUEUED' and rank >= w.from_rank
             order by rank limit 1) f
         cross join lateral (
             select job_id, class_id, rank, excluded, max_runtime_s from queue
             where class_id = w.class_id and state = 'QUEUED' and rank >= f.foremost
               and expires_at > $2 and (excluded = '[]' or not excluded @> w.miners)
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
            for (class, Wanted { most, miners, from }) in wanted {
                classes
                    .row()
                    .set("class_id", *class)
                    .set("most", *most)
                    .set("miners", json!(miners))
                    .set("from_rank", *from)
                    .done();
            }
            rows = tx.rows(sql, Args::new().with_rows(classes).with(now)).await?;
        }
        Engine::Sqlite => {
            for (class, Wanted { most, miners, .. }) in wanted {
                let args = Args::new().with(*class).with(now).with(*most).with(json!(miners));
                rows.extend(tx.rows(sql, args).await?);
            }
        }
    }
    let mut foremost = BTreeMap::new();
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let class_id = row.get("class_id")?;
        if tx.engine() == Engine::Postgres {
            foremost.insert(class_id, row.get("foremost")?);
        }
        candidates.push(Candidate {
            job_id: row.get("job_id")?,
            class_id,
            rank: row.get("rank")?,
            excluded: row.json("excluded")?,
            max_runtime_s: row.get("max_runtime_s")?,
        });
    }
    Ok((candidates, foremost))
}

/// Grants leases and begins their history; jobs that another replica took meanwhile are left out of
/// the answer.
///
/// # Errors
/// Where the database does.
pub async fn lease(
    tx: &mut Tx,
    now: Timestamp,
    grants: &[Grant],
) -> Result<Vec<(HeldJob, Spec)>, DbError> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Rows::new(tx.engine());
    for grant in grants {
        rows.row()
            .set("job_id", grant.job_id)
            .set("miner_no", grant.miner_no)
            .set("miner_id", grant.miner_id.as_str())
            .set("tokenless", grant.tokenless)
            .set("token", grant.token)
            .set("expires_at", grant.expires_at)
            .set("deadline", grant.deadline)
            .done();
    }
    let args = Args::new().with(now).with_columns(rows);
    match tx.engine() {
        Engine::Postgres => lease_at_once(tx, args).await,
        Engine::Sqlite => lease_in_steps(tx, now, args, grants).await,
    }
}

/// In one statement: a miner that waits is told the sooner. The state is spelled so that no index of
/// queued jobs applies: where PostgreSQL last counted few, it would look through all of them.
async fn lease_at_once(tx: &mut Tx, args: Args) -> Result<Vec<(HeldJob, Spec)>, DbError> {
    let sql = "with free as (
             select g.* from unnest($2, $3, $4, $5, $6, $7, $8)
                 as g(job_id, miner_no, miner_id, tokenless, token, expires_at, deadline)
             join queue q on q.job_id = any(array[g.job_id])
             where q.state || '' = 'QUEUED' for update of q skip locked),
         leased as (
             update queue q set state = 'ASSIGNED', miner_no = g.miner_no, fence = q.fence + 1,
                 lease_token = g.token, tokenless = g.tokenless, leased_at = $1,
                 lease_expires_at = g.expires_at, deadline_at = g.deadline,
                 lease_no = nextval('lease_numbers'), event_seq = q.event_seq + 1,
                 pct = null, note = null
             from free g, classes c
             where q.job_id = any(array[g.job_id]) and c.class_id = any(array[q.class_id])
             returning q.job_id, q.miner_no, g.miner_id, q.attempt, q.event_seq, q.fence,
                 q.lease_token, q.lease_expires_at, q.deadline_at, q.lease_no,
                 c.needs ->> 'slot' as slot),
         begun as (
             insert into attempts (job_id, fence, miner_no, miner_id, leased_at)
             select job_id, fence, miner_no, miner_id, $1 from leased)
         select l.*, s.spec from leased l join job_specs s on s.job_id = any(array[l.job_id])";
    let rows = tx.rows(sql, args).await?;
    rows.iter().map(|row| Ok((held_job(row)?, row.json("spec")?))).collect()
}

async fn lease_in_steps(
    tx: &mut Tx,
    now: Timestamp,
    args: Args,
    grants: &[Grant],
) -> Result<Vec<(HeldJob, Spec)>, DbError> {
    let sql = "update queue set state = 'ASSIGNED', miner_no = g.value ->> 'miner_no',
             fence = fence + 1, lease_token = g.value ->> 'token',
             tokenless = g.value ->> 'tokenless', leased_at = $1,
             lease_expires_at = g.value ->> 'expires_at', deadline_at = g.value ->> 'deadline',
             event_seq = event_seq + 1, pct = null, note = null
         from json_each($2) g
         where queue.job_id = g.value ->> 'job_id' and queue.state = 'QUEUED'
         returning job_id, miner_no, attempt, event_seq, fence, lease_token, lease_expires_at,
             deadline_at, 0 as lease_no,
             (select c.needs ->> 'slot' from classes c where c.class_id = queue.class_id) as slot";
    let rows = tx.rows(sql, args).await?;
    let held: Vec<HeldJob> = rows.iter().map(held_job).collect::<Result<_, _>>()?;
    let mut begun = Rows::new(tx.engine());
    for held in &held {
        let grant = grants.iter().find(|grant| grant.job_id == held.job_id);
        begun
            .row()
            .set("job_id", held.job_id)
            .set("fence", held.lease.fence)
            .set("miner_no", held.miner_no)
            .set("miner_id", grant.map(|grant| grant.miner_id.as_str().to_owned()))
            .done();
    }
    let sql = "insert into attempts (job_id, fence, miner_no, miner_id, leased_at)
         select value ->> 'job_id', value ->> 'fence', value ->> 'miner_no', value ->> 'miner_id',
                $1
         from json_each($2)";
    tx.execute(sql, Args::new().with(now).with_rows(begun)).await?;
    let mut specs = specs(tx, held.iter().map(|held| held.job_id)).await?;
    Ok(held
        .into_iter()
        .filter_map(|held| {
            let spec = specs.remove(&held.job_id)?;
            Some((held, spec))
        })
        .collect())
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
         where q.job_id = any(array[r.job_id]) and q.fence = r.fence
           and q.state || '' = 'ASSIGNED'
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
         where a.job_id = any(array[r.job_id]) and a.fence = r.fence and a.started_at is null",
        "update attempts set ended_at = $2, outcome = 'RETURNED' from json_each($1) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'
           and started_at is null",
    );
    tx.execute(sql, Args::new().with_rows(attempts).with(now)).await?;
    taken.iter().map(|row| Ok((row.get("job_id")?, row.get("event_seq")?))).collect()
}
