//! SQL of the answers: reads only, by class where it is about the queue.

use std::collections::HashMap;

use protocol::job::SlotKind;
use protocol::{JobId, JobState, Name, Timestamp};
use serde_json::json;

use super::pay::{Attempt, Refusal};
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};
use crate::dispatch::deal::Load;

/// The most attempts of a job that are told of.
const MAX_ATTEMPTS: i64 = 100;

/// A job, ended or not, as far as the answer needs it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who submitted it.
    pub client: Name,
    /// Where it stands.
    pub state: JobState,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed, or its last attempt did: code and sentence.
    pub error: Option<(String, String)>,
    /// Its row in the queue, until it ends.
    pub live: Option<Live>,
}

/// A job in the queue.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its class.
    pub class_id: i32,
    /// Its place.
    pub rank: i64,
    /// It waits until then to be tried again.
    pub due_at: Option<Timestamp>,
    /// When it lapses unless somebody takes it.
    pub expires_at: Timestamp,
    /// Which chargeable try this is.
    pub attempt: i16,
    /// How often it is tried.
    pub max_attempts: i16,
    /// Miners that must not get it.
    pub excluded: Vec<i64>,
    /// Who holds it, or last did.
    pub holder: Option<Name>,
    /// Since when.
    pub leased_at: Option<Timestamp>,
    /// When that lease lapses.
    pub lease_expires_at: Option<Timestamp>,
}

/// A job.
///
/// # Errors
/// Where the database does.
pub async fn facts(tx: &mut Tx, job_id: JobId) -> Result<Option<Facts>, DbError> {
    let sql = "select j.client_id, j.outcome, j.finished_at, j.error_code, j.error_message,
                   q.state, q.class_id, q.rank, q.due_at, q.expires_at, q.attempt, q.max_attempts,
                   q.excluded, q.leased_at, q.lease_expires_at, m.miner_id
               from jobs j
               left join queue q on q.job_id = j.job_id
               left join miners m on m.miner_no = q.miner_no
               where j.job_id = $1";
    tx.row(sql, Args::new().with(job_id)).await?.as_ref().map(facts_row).transpose()
}

fn facts_row(row: &Row) -> Result<Facts, DbError> {
    let outcome: Option<JobState> = row.parse_opt("outcome")?;
    let state: Option<String> = row.get("state")?;
    let live = match &state {
        None => None,
        Some(_) => Some(live(row)?),
    };
    let code: Option<String> = row.get("error_code")?;
    let message: Option<String> = row.get("error_message")?;
    Ok(Facts {
        client: row.parse("client_id")?,
        state: outcome.unwrap_or(match state.as_deref() {
            Some("ASSIGNED") => JobState::Assigned,
            Some("RUNNING") => JobState::Running,
            _ => JobState::Queued,
        }),
        finished_at: row.get("finished_at")?,
        error: code.map(|code| (code, message.unwrap_or_default())),
        live,
    })
}

fn live(row: &Row) -> Result<Live, DbError> {
    Ok(Live {
        class_id: row.get("class_id")?,
        rank: row.get("rank")?,
        due_at: row.get("due_at")?,
        expires_at: row.get("expires_at")?,
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        excluded: row.json("excluded")?,
        holder: row.parse_opt("miner_id")?,
        leased_at: row.get("leased_at")?,
        lease_expires_at: row.get("lease_expires_at")?,
    })
}

/// What each miner holds, of those that hold something.
///
/// # Errors
/// Where the database does.
pub async fn loads(tx: &mut Tx) -> Result<HashMap<i64, Load>, DbError> {
    let sql = "select q.miner_no, c.needs ->> 'slot' as slot, count(*) as n
               from queue q join classes c on c.class_id = q.class_id
               where q.state in ('ASSIGNED', 'RUNNING') group by 1, 2";
    let mut loads: HashMap<i64, Load> = HashMap::new();
    for row in tx.rows(sql, Args::new()).await? {
        let load = loads.entry(row.get("miner_no")?).or_default();
        let jobs = u32::try_from(row.get::<i64>("n")?).unwrap_or(u32::MAX);
        match row.word("slot")? {
            SlotKind::Cpu => load.cpu = jobs,
            SlotKind::Gpu => load.gpu = jobs,
        }
    }
    Ok(loads)
}

/// How many queued jobs of some classes leave before one, counted up to `most`.
///
/// # Errors
/// Where the database does.
pub async fn ahead(
    tx: &mut Tx,
    classes: &[i32],
    (rank, job_id): (i64, JobId),
    most: i64,
) -> Result<u64, DbError> {
    let sql = tx.either(
        "select count(*) as n from (
             select 1 from queue q
             where q.class_id = any($1)
               and q.state = 'QUEUED' and (q.rank, q.job_id) < ($2, $3) limit $4) before",
        "select count(*) as n from (
             select 1 from queue q
             where q.class_id in (select value ->> 'v' from json_each($1))
               and q.state = 'QUEUED' and (q.rank, q.job_id) < ($2, $3) limit $4) before",
    );
    let classes = Rows::list(tx.engine(), classes.iter().copied());
    let args = Args::new().with_rows(classes).with(rank).with(job_id).with(most);
    let row = tx.row(sql, args).await?;
    row.map_or(Ok(0), |row| number(&row, "n"))
}

/// How many jobs of each class nobody holds: that can be claimed, and that are delayed.
///
/// # Errors
/// Where the database does.
pub async fn waiting(tx: &mut Tx) -> Result<HashMap<i32, (u64, u64)>, DbError> {
    let sql = "select class_id, count(*) filter (where state = 'QUEUED') as queued,
                   count(*) filter (where state = 'DELAYED') as delayed
               from queue where state in ('QUEUED', 'DELAYED') group by class_id";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter()
        .map(|row| Ok((row.get("class_id")?, (number(row, "queued")?, number(row, "delayed")?))))
        .collect()
}

/// How many queued jobs of each class exclude a miner.
///
/// # Errors
/// Where the database does.
pub async fn excluding(tx: &mut Tx, miner_no: i64) -> Result<HashMap<i32, u64>, DbError> {
    let sql = tx.either(
        "select class_id, count(*) as n from queue
         where state = 'QUEUED' and excluded <> '[]' and excluded @> $1 group by class_id",
        "select class_id, count(*) as n from queue
         where state = 'QUEUED' and excluded <> '[]'
           and exists (select 1 from json_each(excluded) x where x.value = $1) group by class_id",
    );
    let args = match tx.engine() {
        Engine::Postgres => Args::new().with(json!([miner_no])),
        Engine::Sqlite => Args::new().with(miner_no),
    };
    let rows = tx.rows(sql, args).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, number(row, "n")?))).collect()
}

fn number(row: &Row, name: &'static str) -> Result<u64, DbError> {
    Ok(u64::try_from(row.get::<i64>(name)?).unwrap_or(0))
}

/// The newest attempts of a job, oldest first: of all miners, or of a wallet's, or of one of these.
///
/// # Errors
/// Where the database does.
pub async fn attempts(
    tx: &mut Tx,
    job_id: JobId,
    wallet: Option<&Name>,
    miner_id: Option<&Name>,
) -> Result<Vec<Attempt>, DbError> {
    // Who came next is looked up before anybody is left out.
    let sql = "select * from (
                   select a.fence, a.miner_id, a.started_at, a.leased_at, a.ended_at, a.outcome,
                       a.error_code, a.error_message, a.refusal_code, a.refusal_message,
                       a.refused_at, r.receipt_id, r.price - r.fee + r.bonus as credited,
                       r.created_at as paid_at, m.wallet,
                       lead(a.leased_at) over (order by a.fence) as next_at,
                       lead(a.miner_id) over (order by a.fence) as next_miner_id
                   from attempts a
                   join miners m on m.miner_no = a.miner_no
                   left join receipts r on r.job_id = a.job_id and r.fence = a.fence
                   where a.job_id = $1) told
               where ($2 is null or wallet = $2) and ($3 is null or miner_id = $3)
               order by fence desc limit $4";
    let args = Args::new()
        .with(job_id)
        .with(wallet.map(Name::to_string))
        .with(miner_id.map(Name::to_string))
        .with(MAX_ATTEMPTS);
    let rows = tx.rows(sql, args).await?;
    rows.iter().rev().map(attempt).collect()
}

fn attempt(row: &Row) -> Result<Attempt, DbError> {
    let pair = |code: &'static str, message: &'static str| -> Result<_, DbError> {
        let code: Option<String> = row.get(code)?;
        let message: Option<String> = row.get(message)?;
        Ok(code.map(|code| (code, message.unwrap_or_default())))
    };
    let refused_at: Option<Timestamp> = row.get("refused_at")?;
    let refused = pair("refusal_code", "refusal_message")?.zip(refused_at);
    let next_at: Option<Timestamp> = row.get("next_at")?;
    Ok(Attempt {
        fence: row.get("fence")?,
        miner_id: row.parse("miner_id")?,
        leased_at: row.get("leased_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        outcome: row.get("outcome")?,
        error: pair("error_code", "error_message")?,
        refusal: refused.map(|((code, message), at)| Refusal { at, code, message }),
        receipt_id: row.parse_opt("receipt_id")?,
        amount: row.get("credited")?,
        paid_at: row.get("paid_at")?,
        next: next_at.zip(row.parse_opt("next_miner_id")?),
    })
}
