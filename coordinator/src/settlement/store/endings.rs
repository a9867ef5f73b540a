//! Jobs that end: out of the queue, into the history.

use std::collections::{BTreeSet, HashMap};

use protocol::{Amount, JobId, JobState, Name, Timestamp};
use serde_json::{Value, json};

use crate::app;
use crate::db::{Args, DbError, Rows, Tx};
use crate::dispatch::store::LeaseRow;
use crate::events::{self, Event};
use crate::intake;
use crate::ledger::store::Book;
use crate::ledger::{Account, Transfer, TransferKind};

/// A job that ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Its row in the queue.
    pub row: LeaseRow,
    /// How.
    pub outcome: JobState,
    /// Why, where it did not complete: a failure code and a sentence.
    pub error: Option<(String, String)>,
    /// What the attempt that failed left.
    pub remains: Remains,
    /// Its receipt, where it completed.
    pub receipt_id: Option<Name>,
}

/// What an attempt that failed leaves for people to look at.
#[derive(Debug, Clone, Default)]
pub struct Remains {
    /// The end of its log.
    pub logs_tail: Option<String>,
    /// What it used, as its node measured it.
    pub metrics: Option<Value>,
}

/// Ends jobs: out of the queue, into the history, and what is held of prepaid funds goes back
/// unless the job is paid.
///
/// # Errors
/// Where the database does.
pub async fn end(tx: &mut Tx, now: Timestamp, endings: &[Ending]) -> Result<(), DbError> {
    if endings.is_empty() {
        return Ok(());
    }
    let ids = || endings.iter().map(|ending| ending.row.job_id);
    let sql = tx.either(
        "delete from queue where job_id = any($1)",
        "delete from queue where job_id in (select value ->> 'v' from json_each($1))",
    );
    let gone = tx.execute(sql, Args::new().with_rows(Rows::list(tx.engine(), ids()))).await?;
    DbError::expect("leave the queue", endings.len() as u64, gone)?;
    write_outcomes(tx, now, endings).await?;
    let closed: Vec<_> = endings
        .iter()
        .filter(|ending| ending.row.state.is_leased() || ending.receipt_id.is_some())
        .map(|ending| Closed {
            row: &ending.row,
            outcome: ending.outcome.as_str(),
            error: ending.error.as_ref(),
        })
        .collect();
    close_attempts(tx, now, &closed).await?;
    let paid = endings.iter().filter(|ending| ending.receipt_id.is_some());
    let paid = paid.map(|ending| (ending.row.job_id, ending.row.fence, ending.row.event_seq));
    // Before the last event, so that whoever follows has all of the log when it comes.
    let last = events::store::hand_out_logs(tx, now, paid).await?;
    let events: Vec<Event> = endings
        .iter()
        .map(|ending| {
            let row = &ending.row;
            let error = ending.error.as_ref().map(failure);
            let more = json!({
                "attempt": row.attempt, "error": error, "receipt_id": ending.receipt_id,
            });
            let last = last.get(&row.job_id).copied().unwrap_or(row.event_seq);
            Event::state(row.job_id, last + 1, now, ending.outcome, more)
        })
        .collect();
    events::store::append(tx, &events).await?;
    let unpaid = endings.iter().filter(|ending| ending.outcome != JobState::Completed);
    release(tx, now, unpaid.map(|ending| ending.row.job_id)).await
}

/// A failure, as an event tells it.
pub(super) fn failure((code, message): &(String, String)) -> Value {
    json!({ "code": code, "message": message })
}

async fn write_outcomes(tx: &mut Tx, now: Timestamp, endings: &[Ending]) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for ending in endings {
        let holder = ending.row.holder.as_ref();
        let (code, message) = ending.error.clone().unzip();
        rows.row()
            .set("job_id", ending.row.job_id)
            .set("outcome", ending.outcome.as_str())
            .set("attempt", i32::try_from(ending.row.attempt).unwrap_or(i32::MAX))
            .set("miner_id", holder.map(|holder| holder.miner_id.to_string()))
            .set("started_at", holder.map(|holder| holder.leased_at))
            .set("error_code", code)
            .set("error_message", message)
            .set("logs_tail", ending.remains.logs_tail.clone())
            .set("error_metrics", ending.remains.metrics.clone())
            .set("receipt_id", ending.receipt_id.as_ref().map(Name::to_string))
            .done();
    }
    // Not `outcome is null`: there is an index of those, in which PostgreSQL would look through all
    // live jobs where it last counted few.
    let sql = tx.either(
        "update jobs j set outcome = r.outcome, finished_at = $1, attempt = r.attempt,
             miner_id = r.miner_id, started_at = r.started_at, error_code = r.error_code,
             error_message = r.error_message, logs_tail = r.logs_tail,
             error_metrics = r.error_metrics, receipt_id = r.receipt_id
         from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             as r(job_id, outcome, attempt, miner_id, started_at, error_code, error_message,
                  logs_tail, error_metrics, receipt_id)
         where j.job_id = any(array[r.job_id]) and coalesce(j.outcome, '') = ''
         returning j.issue_most",
        "update jobs set outcome = r.value ->> 'outcome', finished_at = $1,
             attempt = r.value ->> 'attempt', miner_id = r.value ->> 'miner_id',
             started_at = r.value ->> 'started_at', error_code = r.value ->> 'error_code',
             error_message = r.value ->> 'error_message', logs_tail = r.value ->> 'logs_tail',
             error_metrics = nullif(r.value -> 'error_metrics', 'null'),
             receipt_id = r.value ->> 'receipt_id'
         from json_each($2) r where job_id = r.value ->> 'job_id' and outcome is null
         returning issue_most",
    );
    let ended = tx.rows(sql, Args::new().with(now).with_columns(rows)).await?;
    DbError::expect("end jobs", endings.len() as u64, ended.len() as u64)?;
    let mut kept = Vec::with_capacity(ended.len());
    for row in &ended {
        kept.extend(row.get::<Amount>("issue_most")?.checked_neg());
    }
    intake::promise(tx, kept.into_iter()).await
}

/// An attempt that is over.
pub(super) struct Closed<'a> {
    pub row: &'a LeaseRow,
    pub outcome: &'static str,
    pub error: Option<&'a (String, String)>,
}

pub(super) async fn close_attempts(
    tx: &mut Tx,
    now: Timestamp,
    closed: &[Closed<'_>],
) -> Result<(), DbError> {
    if closed.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for Closed { row, outcome, error } in closed {
        let (code, message) = error.cloned().unzip();
        rows.row()
            .set("job_id", row.job_id)
            .set("fence", row.fence)
            .set("outcome", *outcome)
            .set("error_code", code)
            .set("error_message", message)
            .done();
    }
    let sql = tx.either(
        "update attempts a set ended_at = $1, outcome = r.outcome, error_code = r.error_code,
             error_message = r.error_message
         from unnest($2, $3, $4, $5, $6) as r(job_id, fence, outcome, error_code, error_message)
         where a.job_id = any(array[r.job_id]) and a.fence = r.fence",
        "update attempts set ended_at = $1, outcome = r.value ->> 'outcome',
             error_code = r.value ->> 'error_code', error_message = r.value ->> 'error_message'
         from json_each($2) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'",
    );
    let updated = tx.execute(sql, Args::new().with(now).with_columns(rows)).await?;
    DbError::expect("close attempts", closed.len() as u64, updated)
}

/// Gives back what was set aside for jobs that earned nothing.
async fn release(
    tx: &mut Tx,
    now: Timestamp,
    jobs: impl Iterator<Item = JobId>,
) -> Result<(), DbError> {
    let held: Vec<(JobId, Name, Amount)> =
        holds(tx, jobs).await?.into_iter().map(|(id, (client, hold))| (id, client, hold)).collect();
    let accounts: BTreeSet<Account> = held
        .iter()
        .flat_map(|(_, client, _)| [Account::Hold(client.clone()), Account::Client(client.clone())])
        .collect();
    let mut book = Book::open(tx, now, accounts).await?;
    for (job_id, client, hold) in held {
        let id = app::new_transfer_id(now);
        let (from, to) = (Account::Hold(client.clone()), Account::Client(client));
        let transfer = Transfer::between(id, TransferKind::Release, from, to, hold);
        let booked = transfer.is_some_and(|t| book.book(t.for_job(job_id)).is_ok());
        DbError::expect("release a hold", 1, u64::from(booked))?;
    }
    book.write(tx, now).await
}

/// What is set aside for jobs, of those for which something is: client and amount.
///
/// # Errors
/// Where the database does.
pub async fn holds(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, (Name, Amount)>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, client_id, hold from jobs where hold > 0
         and job_id = any($1)",
        "select job_id, client_id, hold from jobs where hold > 0
         and job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter()
        .map(|row| Ok((row.get("job_id")?, (row.parse("client_id")?, row.get("hold")?))))
        .collect()
}
