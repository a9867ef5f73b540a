//! SQL of settlement: jobs end, go back, are paid.

use std::collections::{BTreeSet, HashMap};

use protocol::control::Bonus;
use protocol::id::RelativePath;
use protocol::{Amount, JobId, JobState, Name, Proof, Receipt, Sha256Hex, Timestamp, Units};
use serde_json::{Value, json};
use uuid::Uuid;

use super::verdict::Upload;
use crate::app;
use crate::db::{Args, DbError, Row, Rows, Tx};
use crate::dispatch::store::LeaseRow;
use crate::error::ApiError;
use crate::events::{self, Event};
use crate::ledger::store::Book;
use crate::ledger::{Account, Pay, Transfer, TransferKind};

/// The longest reason of a refusal that is kept, in bytes.
const MESSAGE_BYTES: usize = 512;

/// A job that ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Its row in the queue.
    pub row: LeaseRow,
    /// How.
    pub outcome: JobState,
    /// Why, where it did not complete: a failure code and a sentence.
    pub error: Option<(String, String)>,
    /// The end of the log of the attempt that failed.
    pub logs_tail: Option<String>,
    /// Its receipt, where it completed.
    pub receipt_id: Option<Name>,
}

/// A job that goes back to the queue.
#[derive(Debug, Clone)]
pub struct Requeue {
    /// Its row in the queue, as it was.
    pub row: LeaseRow,
    /// When somebody may get it; `None`: at once.
    pub due_at: Option<Timestamp>,
    /// When it lapses unless somebody takes it.
    pub expires_at: Timestamp,
    /// Its chargeable try from now on.
    pub attempt: u32,
    /// Miners that must not get it.
    pub excluded: Vec<i64>,
    /// Why: a failure code and a sentence.
    pub error: (String, String),
    /// The end of the log of the attempt that failed.
    pub logs_tail: Option<String>,
}

/// A result that was accepted before.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The hash of its output.
    pub output_sha: Sha256Hex,
    /// Who did it.
    pub miner_id: Name,
    /// Whom it was credited to.
    pub wallet: Name,
    /// What the receipt states, and what the operator kept of it and added to it.
    pub pay: Pay,
    /// The metric that the bonus is for.
    pub measured: Option<Units>,
    /// The receipt.
    pub receipt: Receipt,
    /// The transfer.
    pub transfer_id: Uuid,
}

/// A result that is accepted now.
#[derive(Debug, Clone)]
pub struct Accepted<'a> {
    /// What the miner said.
    pub proof: &'a Proof,
    /// The job.
    pub job_id: JobId,
    /// Which lease of it.
    pub fence: i64,
    /// Who did it.
    pub miner_no: i64,
    /// What is stored and answered.
    pub settled: Settled,
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
        "delete from queue where job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
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
fn failure((code, message): &(String, String)) -> Value {
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
            .set("logs_tail", ending.logs_tail.clone())
            .set("receipt_id", ending.receipt_id.as_ref().map(Name::to_string))
            .done();
    }
    let sql = tx.either(
        "update jobs j set outcome = r.outcome, finished_at = $2, attempt = r.attempt,
             miner_id = r.miner_id, started_at = r.started_at, error_code = r.error_code,
             error_message = r.error_message, logs_tail = r.logs_tail, receipt_id = r.receipt_id
         from jsonb_to_recordset($1) as r(job_id uuid, outcome text, attempt smallint,
             miner_id text, started_at timestamptz, error_code text, error_message text,
             logs_tail text, receipt_id text)
         where j.job_id = r.job_id and j.outcome is null",
        "update jobs set outcome = r.value ->> 'outcome', finished_at = $2,
             attempt = r.value ->> 'attempt', miner_id = r.value ->> 'miner_id',
             started_at = r.value ->> 'started_at', error_code = r.value ->> 'error_code',
             error_message = r.value ->> 'error_message', logs_tail = r.value ->> 'logs_tail',
             receipt_id = r.value ->> 'receipt_id'
         from json_each($1) r where job_id = r.value ->> 'job_id' and outcome is null",
    );
    let ended = tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    DbError::expect("end jobs", endings.len() as u64, ended)
}

/// An attempt that is over.
struct Closed<'a> {
    row: &'a LeaseRow,
    outcome: &'static str,
    error: Option<&'a (String, String)>,
}

async fn close_attempts(tx: &mut Tx, now: Timestamp, closed: &[Closed<'_>]) -> Result<(), DbError> {
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
        "update attempts a set ended_at = $2, outcome = r.outcome, error_code = r.error_code,
             error_message = r.error_message
         from jsonb_to_recordset($1) as r(job_id uuid, fence bigint, outcome text, error_code text,
             error_message text)
         where a.job_id = r.job_id and a.fence = r.fence",
        "update attempts set ended_at = $2, outcome = r.value ->> 'outcome',
             error_code = r.value ->> 'error_code', error_message = r.value ->> 'error_message'
         from json_each($1) r
         where job_id = r.value ->> 'job_id' and fence = r.value ->> 'fence'",
    );
    let updated = tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
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
         and job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select job_id, client_id, hold from jobs where hold > 0
         and job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter()
        .map(|row| Ok((row.get("job_id")?, (row.parse("client_id")?, row.get("hold")?))))
        .collect()
}

/// How a job is paid: fixed when it was submitted.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who pays.
    pub client: Name,
    /// What is set aside of its funds, if it is prepaid.
    pub hold: Option<Amount>,
    /// What the operator keeps, in hundredths of a per cent.
    pub fee_bp: u16,
    /// What the operator adds for efficient work.
    pub bonus: Option<Bonus>,
}

/// How jobs are paid.
///
/// # Errors
/// Where the database does.
pub async fn terms(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Terms>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, client_id, hold, fee_bp, bonus from jobs
         where job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select job_id, client_id, hold, fee_bp, bonus from jobs
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, terms_row(row)?))).collect()
}

fn terms_row(row: &Row) -> Result<Terms, DbError> {
    let hold: Amount = row.get("hold")?;
    Ok(Terms {
        client: row.parse("client_id")?,
        hold: hold.non_zero(),
        fee_bp: u16::try_from(row.get::<i16>("fee_bp")?).unwrap_or(0),
        bonus: row.json_opt("bonus")?,
    })
}

/// Puts jobs back into the queue. The row keeps its fence and token: until somebody else gets the
/// job, a late result of the last holder still counts.
///
/// # Errors
/// Where the database does.
pub async fn requeue(tx: &mut Tx, now: Timestamp, requeues: &[Requeue]) -> Result<(), DbError> {
    if requeues.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    let mut said = Rows::new(tx.engine());
    for requeue in requeues {
        let state = if requeue.due_at.is_some() { "DELAYED" } else { "QUEUED" };
        rows.row()
            .set("job_id", requeue.row.job_id)
            .set("state", state)
            .set("due_at", requeue.due_at)
            .set("expires_at", requeue.expires_at)
            .set("attempt", i32::try_from(requeue.attempt).unwrap_or(i32::MAX))
            .set("excluded", json!(requeue.excluded))
            .done();
        said.row()
            .set("job_id", requeue.row.job_id)
            .set("error_code", requeue.error.0.as_str())
            .set("error_message", requeue.error.1.as_str())
            .set("logs_tail", requeue.logs_tail.clone())
            .done();
    }
    let sql = tx.either(
        "update queue q set state = r.state, due_at = r.due_at, expires_at = r.expires_at,
             attempt = r.attempt, excluded = r.excluded, event_seq = q.event_seq + 1,
             pct = null, note = null
         from jsonb_to_recordset($1) as r(job_id uuid, state text, due_at timestamptz,
             expires_at timestamptz, attempt smallint, excluded jsonb)
         where q.job_id = r.job_id",
        "update queue set state = r.value ->> 'state', due_at = r.value ->> 'due_at',
             expires_at = r.value ->> 'expires_at', attempt = r.value ->> 'attempt',
             excluded = r.value -> 'excluded', event_seq = event_seq + 1,
             pct = null, note = null
         from json_each($1) r where job_id = r.value ->> 'job_id'",
    );
    let back = tx.execute(sql, Args::new().with_rows(rows)).await?;
    DbError::expect("requeue", requeues.len() as u64, back)?;
    let sql = tx.either(
        "update jobs j set error_code = r.error_code, error_message = r.error_message,
             logs_tail = r.logs_tail
         from jsonb_to_recordset($1) as r(job_id uuid, error_code text, error_message text,
             logs_tail text)
         where j.job_id = r.job_id",
        "update jobs set error_code = r.value ->> 'error_code',
             error_message = r.value ->> 'error_message', logs_tail = r.value ->> 'logs_tail'
         from json_each($1) r where job_id = r.value ->> 'job_id'",
    );
    let said = tx.execute(sql, Args::new().with_rows(said)).await?;
    DbError::expect("say why", requeues.len() as u64, said)?;
    let closed: Vec<_> = requeues
        .iter()
        .map(|requeue| Closed {
            row: &requeue.row,
            outcome: JobState::Failed.as_str(),
            error: Some(&requeue.error),
        })
        .collect();
    close_attempts(tx, now, &closed).await?;
    let events: Vec<Event> = requeues
        .iter()
        .map(|requeue| {
            let row = &requeue.row;
            let more = json!({
                "attempt": requeue.attempt, "error": failure(&requeue.error),
                "due_at": requeue.due_at,
            });
            Event::state(row.job_id, row.event_seq + 1, now, JobState::Queued, more)
        })
        .collect();
    events::store::append(tx, &events).await
}

/// What was uploaded for jobs, by job and lease.
///
/// # Errors
/// Where the database does.
pub async fn uploads(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<(JobId, i64), HashMap<RelativePath, Upload>>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    let sql = tx.either(
        "select job_id, fence, path, sha256, size_bytes from artifacts
         where job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select job_id, fence, path, sha256, size_bytes from artifacts
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let mut uploads: HashMap<(JobId, i64), HashMap<RelativePath, Upload>> = HashMap::new();
    for row in tx.rows(sql, Args::new().with_rows(jobs)).await? {
        let size: i64 = row.get("size_bytes")?;
        let upload = Upload { sha256: row.get("sha256")?, bytes: u64::try_from(size).unwrap_or(0) };
        let lease = (row.get("job_id")?, row.get("fence")?);
        uploads.entry(lease).or_default().insert(row.parse("path")?, upload);
    }
    Ok(uploads)
}

/// Results that were accepted before.
///
/// # Errors
/// Where the database does.
pub async fn settled(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Settled>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select r.job_id, r.output_sha, r.wallet, r.price, r.fee, r.bonus, r.measured, r.body,
             r.transfer_id, m.miner_id
         from receipts r join miners m on m.miner_no = r.miner_no
         where r.job_id in (select v from jsonb_to_recordset($1) as r(v uuid))",
        "select r.job_id, r.output_sha, r.wallet, r.price, r.fee, r.bonus, r.measured, r.body,
             r.transfer_id, m.miner_id
         from receipts r join miners m on m.miner_no = r.miner_no
         where r.job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, settled_row(row)?))).collect()
}

fn settled_row(row: &Row) -> Result<Settled, DbError> {
    let body: String = row.get("body")?;
    let receipt = serde_json::from_str(&body)
        .map_err(|error| DbError::Decode { column: "body", message: error.to_string() })?;
    Ok(Settled {
        output_sha: row.get("output_sha")?,
        miner_id: row.parse("miner_id")?,
        wallet: row.parse("wallet")?,
        pay: Pay { price: row.get("price")?, fee: row.get("fee")?, bonus: row.get("bonus")? },
        measured: row.get::<Option<i64>>("measured")?.map(Units::from_nanos),
        receipt,
        transfer_id: row.get("transfer_id")?,
    })
}

/// Stores results and receipts of jobs that complete; the transfers must be written before.
///
/// # Errors
/// Where the database does, for example because a receipt's id is taken.
pub async fn accept(tx: &mut Tx, now: Timestamp, accepted: &[Accepted<'_>]) -> Result<(), DbError> {
    if accepted.is_empty() {
        return Ok(());
    }
    insert_results(tx, accepted).await?;
    insert_receipts(tx, now, accepted).await
}

async fn insert_results(tx: &mut Tx, accepted: &[Accepted<'_>]) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for done in accepted {
        let metrics = Value::Object(done.proof.metrics.clone());
        rows.row()
            .set("job_id", done.job_id)
            .set("output_sha", done.settled.output_sha)
            .set("exit_code", done.proof.exit_code)
            .set("metrics", metrics)
            .set("result", done.proof.result.as_ref().map(Value::to_string))
            .done();
    }
    let sql = tx.either(
        "insert into job_results (job_id, output_sha, exit_code, metrics, result)
         select job_id, decode(output_sha, 'hex'), exit_code, metrics, result
         from jsonb_to_recordset($1) as r(job_id uuid, output_sha text, exit_code int,
             metrics jsonb, result text)",
        "insert into job_results (job_id, output_sha, exit_code, metrics, result)
         select value ->> 'job_id', unhex(value ->> 'output_sha'), value ->> 'exit_code',
                value -> 'metrics', value ->> 'result'
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_rows(rows)).await?;
    DbError::expect("insert results", accepted.len() as u64, inserted)
}

async fn insert_receipts(
    tx: &mut Tx,
    now: Timestamp,
    accepted: &[Accepted<'_>],
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for done in accepted {
        let receipt = &done.settled.receipt;
        let body = serde_json::to_string(receipt).unwrap_or_default();
        rows.row()
            .set("receipt_id", receipt.receipt_id.as_str())
            .set("job_id", done.job_id)
            .set("fence", done.fence)
            .set("miner_no", done.miner_no)
            .set("wallet", done.settled.wallet.as_str())
            .set("client_id", receipt.client.as_str())
            .set("receipt_sha256", receipt.hash())
            .set("output_sha", done.settled.output_sha)
            .set("price", done.settled.pay.price)
            .set("fee", done.settled.pay.fee)
            .set("bonus", done.settled.pay.bonus)
            .set("measured", done.settled.measured.map(Units::nanos))
            .set("transfer_id", done.settled.transfer_id)
            .set("body", body)
            .done();
    }
    let sql = tx.either(
        "insert into receipts (receipt_id, job_id, fence, miner_no, wallet, client_id,
             receipt_sha256, output_sha, price, fee, bonus, measured, transfer_id, body, created_at)
         select receipt_id, job_id, fence, miner_no, wallet, client_id,
             decode(receipt_sha256, 'hex'), decode(output_sha, 'hex'), price, fee, bonus, measured,
             transfer_id, body, $2
         from jsonb_to_recordset($1) as r(receipt_id text, job_id uuid, fence bigint,
             miner_no bigint, wallet text, client_id text, receipt_sha256 text, output_sha text,
             price bigint, fee bigint, bonus bigint, measured bigint, transfer_id uuid, body text)",
        "insert into receipts (receipt_id, job_id, fence, miner_no, wallet, client_id,
             receipt_sha256, output_sha, price, fee, bonus, measured, transfer_id, body, created_at)
         select value ->> 'receipt_id', value ->> 'job_id', value ->> 'fence',
             value ->> 'miner_no', value ->> 'wallet', value ->> 'client_id',
             unhex(value ->> 'receipt_sha256'), unhex(value ->> 'output_sha'),
             value ->> 'price', value ->> 'fee', value ->> 'bonus', value ->> 'measured',
             value ->> 'transfer_id', value ->> 'body', $2
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    DbError::expect("insert receipts", accepted.len() as u64, inserted)
}

/// A proof that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Of which job.
    pub job_id: JobId,
    /// Whose key it came with; `None`: anybody's.
    pub wallet: Option<Name>,
    /// The only miner that this key may act for, if there is one.
    pub miner_id: Option<Name>,
    /// Why.
    pub error: ApiError,
}

/// Notes why proofs were refused, with the last attempt that their callers had of the job; a caller
/// that never had it leaves no trace.
///
/// # Errors
/// Where the database does.
pub async fn refuse(tx: &mut Tx, now: Timestamp, refusals: &[Refusal]) -> Result<(), DbError> {
    if refusals.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for Refusal { job_id, wallet, miner_id, error } in refusals {
        let message = &error.message[..error.message.floor_char_boundary(MESSAGE_BYTES)];
        rows.row()
            .set("job_id", *job_id)
            .set("wallet", wallet.as_ref().map(Name::to_string))
            .set("miner_id", miner_id.as_ref().map(Name::to_string))
            .set("code", error.code.as_str())
            .set("message", message.replace('\0', "\u{fffd}"))
            .done();
    }
    let sql = tx.either(
        "update attempts a set refusal_code = r.code, refusal_message = r.message, refused_at = $2
         from jsonb_to_recordset($1) as r(job_id uuid, wallet text, miner_id text, code text,
             message text)
         where a.job_id = r.job_id and a.fence = (
             select max(b.fence) from attempts b join miners m on m.miner_no = b.miner_no
             where b.job_id = r.job_id and (r.wallet is null or m.wallet = r.wallet)
               and (r.miner_id is null or b.miner_id = r.miner_id))",
        "update attempts set refusal_code = r.value ->> 'code',
             refusal_message = r.value ->> 'message', refused_at = $2
         from json_each($1) r
         where attempts.job_id = r.value ->> 'job_id' and attempts.fence = (
             select max(b.fence) from attempts b join miners m on m.miner_no = b.miner_no
             where b.job_id = r.value ->> 'job_id'
               and (r.value ->> 'wallet' is null or m.wallet = r.value ->> 'wallet')
               and (r.value ->> 'miner_id' is null or b.miner_id = r.value ->> 'miner_id'))",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    Ok(())
}

/// The client of a job, ended or not.
///
/// # Errors
/// Where the database does.
pub async fn client_of(tx: &mut Tx, job_id: JobId) -> Result<Option<Name>, DbError> {
    let sql = "select client_id from jobs where job_id = $1";
    let row = tx.row(sql, Args::new().with(job_id)).await?;
    row.map(|row| row.parse("client_id")).transpose()
}

/// Notes that a miner lost its GPU.
///
/// # Errors
/// Where the database does.
pub async fn lose_gpu(tx: &mut Tx, now: Timestamp, miner_no: i64) -> Result<(), DbError> {
    let sql = "update miners set gpu_lost = true, updated_at = $2 where miner_no = $1";
    tx.execute(sql, Args::new().with(miner_no).with(now)).await?;
    Ok(())
}

/// Jobs whose lease has lapsed, at most `limit`, not locked yet.
///
/// # Errors
/// Where the database does.
pub async fn lapsed(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<JobId>, DbError> {
    let sql = "select job_id from queue where state in ('ASSIGNED', 'RUNNING')
               and lease_expires_at < $1 limit $2";
    job_ids(tx, sql, now, limit).await
}

/// Jobs that waited longer than they may, at most `limit`, not locked yet.
///
/// # Errors
/// Where the database does.
pub async fn overdue(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<JobId>, DbError> {
    let sql = "select job_id from queue where state in ('QUEUED', 'DELAYED')
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

/// Queues the delayed jobs that are due; returns their classes.
///
/// # Errors
/// Where the database does.
pub async fn queue_due(tx: &mut Tx, now: Timestamp) -> Result<Vec<i32>, DbError> {
    let sql = "update queue set state = 'QUEUED', due_at = null
               where state = 'DELAYED' and due_at <= $1 returning class_id";
    let rows = tx.rows(sql, Args::new().with(now)).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
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
    let sql = "delete from classes where created_at < $1
               and not exists (select 1 from queue q where q.class_id = classes.class_id)";
    tx.execute(sql, Args::new().with(before)).await
}
