//! Where jobs start in the queue, and what canceled ones give back of it.

use std::collections::{BTreeMap, HashMap};

use protocol::job::SlotKind;
use protocol::{JobId, Sha256Hex, Timestamp};

use crate::db::{Args, DbError, Engine, Rows, Tx};
use crate::dispatch::Dispatch;
use crate::intake::Submission;
use crate::intake::rank::Share;

/// Where jobs of the batch's classes are handed out now: what was handed out last, else the first
/// that waits; for a class without jobs the same of its kind of slot.
pub(super) async fn served(
    tx: &mut Tx,
    now: Timestamp,
    dispatch: &Dispatch,
    class_ids: &HashMap<Sha256Hex, i32>,
    submissions: &[&Submission],
) -> Result<HashMap<i32, i64>, DbError> {
    let mut levels = HashMap::new();
    let mut unknown: BTreeMap<i32, SlotKind> = BTreeMap::new();
    for submission in submissions {
        let needs = &submission.draft.needs;
        let Some(class) = class_ids.get(&needs.digest()) else { continue };
        match dispatch.served(*class) {
            Some(rank) => drop(levels.insert(*class, rank)),
            None => drop(unknown.insert(*class, needs.slot)),
        }
    }
    for (class, rank) in first_of(tx, unknown.keys().copied()).await? {
        unknown.remove(&class);
        levels.insert(class, rank);
    }
    let mut by_kind: Vec<(SlotKind, i64)> = Vec::new();
    for (class, kind) in unknown {
        let found = by_kind.iter().find(|(of, _)| *of == kind).map(|(_, rank)| *rank);
        let rank = match found.or_else(|| dispatch.served_kind(kind)) {
            Some(rank) => rank,
            None => start_of(tx, now, kind).await?,
        };
        by_kind.push((kind, rank));
        levels.insert(class, rank);
    }
    Ok(levels)
}

/// The lowest rank that waits in each of some classes. One probe of an index for each.
async fn first_of(
    tx: &mut Tx,
    classes: impl IntoIterator<Item = i32>,
) -> Result<Vec<(i32, i64)>, DbError> {
    let classes = Rows::list(tx.engine(), classes);
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select * from (
             select r.v as class_id, (select q.rank from queue q
                 where q.class_id = r.v and q.state = 'QUEUED' order by q.rank limit 1) as foremost
             from unnest($1) as r(v)) by_class
         where foremost is not null",
        "select * from (
             select c.class_id, (select q.rank from queue q
                 where q.class_id = c.class_id and q.state = 'QUEUED'
                 order by q.rank limit 1) as foremost
             from classes c where c.class_id in (select value ->> 'v' from json_each($1))) by_class
         where foremost is not null",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.get("foremost")?))).collect()
}

/// Where a kind of slot starts of which nothing was handed out here: at the first that waits, else
/// now. Where nothing of it waits, what clients used may run ahead of the clock: all of them start
/// at the end of that, so that none stands in front for having come last. It looks at all clients,
/// but only until the first of these jobs is in the queue.
async fn start_of(tx: &mut Tx, now: Timestamp, kind: SlotKind) -> Result<i64, DbError> {
    let sql = "select min(foremost) as foremost from (
                   select (select q.rank from queue q
                           where q.class_id = c.class_id and q.state = 'QUEUED'
                           order by q.rank limit 1) as foremost
                   from classes c where c.needs ->> 'slot' = $1) by_class
               where foremost is not null";
    let row = tx.row(sql, Args::new().with(kind.as_str())).await?;
    let first: Option<i64> = row.map_or(Ok(None), |row| row.get("foremost"))?;
    if let Some(first) = first {
        return Ok(first);
    }
    let sql = match kind {
        SlotKind::Cpu => "select max(last_rank) as last from clients",
        SlotKind::Gpu => "select max(last_gpu_rank) as last from clients",
    };
    let row = tx.row(sql, Args::new()).await?;
    let last: Option<i64> = row.map_or(Ok(None), |row| row.get("last"))?;
    Ok(now.micros().max(last.unwrap_or(0)))
}

/// A job is about to be canceled that nobody had: its client's share gets back what it took, as far
/// as nothing stands behind it. Before the job ends: its end may lock accounts, and who locks
/// clients and accounts locks clients first.
///
/// # Errors
/// Where the database does.
pub async fn give_back(tx: &mut Tx, job: JobId) -> Result<(), DbError> {
    let sql = "select client_id, slot, rank_cost from jobs where job_id = $1";
    let Some(row) = tx.row(sql, Args::new().with(job)).await? else { return Ok(()) };
    let (client, slot): (String, String) = (row.get("client_id")?, row.get("slot")?);
    let cost: i64 = row.get("rank_cost")?;
    let gpu = slot == SlotKind::Gpu.as_str();
    // Nobody reserves anything until the transaction ends.
    let sql = match (gpu, tx.engine()) {
        (false, Engine::Postgres) => {
            "select last_rank as last, forgone_rank as forgone from clients
             where client_id = $1 for no key update"
        }
        (true, Engine::Postgres) => {
            "select last_gpu_rank as last, forgone_gpu_rank as forgone from clients
             where client_id = $1 for no key update"
        }
        (false, Engine::Sqlite) => {
            "select last_rank as last, forgone_rank as forgone from clients where client_id = $1"
        }
        (true, Engine::Sqlite) => {
            "select last_gpu_rank as last, forgone_gpu_rank as forgone from clients
             where client_id = $1"
        }
    };
    let Some(row) = tx.row(sql, Args::new().with(client.as_str())).await? else { return Ok(()) };
    let (last_rank, forgone) = (row.get("last")?, row.get("forgone")?);
    // The weight is in the cost already.
    let mut share = Share { weight: 1, last_rank, forgone };
    let sql = "select reserved_rank as live from jobs
               where client_id = $1 and slot = $2 and outcome is null and job_id <> $3
               order by reserved_rank desc limit 1";
    let row = tx.row(sql, Args::new().with(client.as_str()).with(slot).with(job)).await?;
    share.give_back(cost, row.map_or(Ok(0), |row| row.get("live"))?);
    let sql = if gpu {
        "update clients set last_gpu_rank = $2, forgone_gpu_rank = $3 where client_id = $1"
    } else {
        "update clients set last_rank = $2, forgone_rank = $3 where client_id = $1"
    };
    tx.execute(sql, Args::new().with(client).with(share.last_rank).with(share.forgone)).await?;
    Ok(())
}
