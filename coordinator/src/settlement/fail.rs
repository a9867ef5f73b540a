//! The endings without a result: reported failures, cancellations, and what the sweeper finds.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use axum::http::StatusCode;
use protocol::client::Canceled;
use protocol::job::SlotKind;
use protocol::miner::{Fail, Failed};
use protocol::{ErrorCode, FailureCode, JobId, JobState, Name, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::ending::{Next, Tries, after_failure};
use super::store::{self, Ending, Remains, Requeue};
use super::work;
use crate::accounts::{Answer, Caller, IdempotencyKey, once as guard};
use crate::app::{self, App};
use crate::db::{self, DbError, Tx};
use crate::dispatch::matching::{self, Needs};
use crate::dispatch::store::{self as queue, LeaseRow};
use crate::dispatch::{leases, why};
use crate::error::ApiError;
use crate::intake;

/// How much of a failed attempt's log is kept, in bytes: nobody gets results for nothing.
const LOGS_TAIL_BYTES: usize = 4096;

/// Of how many classes at most it is worked out, in one sweep, why nobody took their jobs.
const MAX_REASONS: usize = 16;

/// The longest name and the longest text of a measurement that are kept, in bytes.
const METRIC_BYTES: usize = 256;

/// The longest message that is kept, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// What an operation inside a transaction says: an answer for the caller, which an idempotency key
/// remembers, or a fault of the database.
type Said<T> = Result<Result<T, ApiError>, DbError>;

/// The class and rank of a job that is queued again.
type Woken = Option<(i32, i64)>;

/// What became of a failed attempt, and the job that is queued by it.
type Applied = (Failed, Woken);

/// A miner could not finish a job: it goes back to the queue, or ends.
///
/// # Errors
/// Why the caller does not hold the job.
pub async fn fail(
    app: &App,
    caller: &Caller,
    job_id: JobId,
    mut report: Fail,
    idempotency: Option<IdempotencyKey>,
) -> Result<Answer<Failed>, ApiError> {
    clean(&mut report);
    once(app, idempotency, &FailJob { caller, job_id, report }).await
}

/// A client calls a job off. Whoever works on it learns so with its next heartbeat.
///
/// # Errors
/// `JOB_NOT_FOUND`, also for other clients' jobs; `CONFLICT_STATE` when it has ended.
pub async fn cancel(
    app: &App,
    client: &Name,
    job_id: JobId,
    idempotency: Option<IdempotencyKey>,
) -> Result<Answer<Canceled>, ApiError> {
    once(app, idempotency, &CancelJob { client, job_id }).await
}

/// What is done in a transaction of its own.
trait Operation: Sync {
    /// What it answers.
    type Answer: Serialize;

    /// Returns the answer, and the class that has a queued job by it.
    fn run(
        &self,
        app: &App,
        tx: &mut Tx,
    ) -> impl Future<Output = Said<(Self::Answer, Woken)>> + Send;
}

struct FailJob<'a> {
    caller: &'a Caller,
    job_id: JobId,
    report: Fail,
}

impl Operation for FailJob<'_> {
    type Answer = Failed;

    async fn run(&self, app: &App, tx: &mut Tx) -> Said<Applied> {
        failed(app, tx, self.caller, self.job_id, &self.report).await
    }
}

struct CancelJob<'a> {
    client: &'a Name,
    job_id: JobId,
}

impl Operation for CancelJob<'_> {
    type Answer = Canceled;

    async fn run(&self, app: &App, tx: &mut Tx) -> Said<(Canceled, Woken)> {
        let canceled = canceled(app, tx, self.client, self.job_id).await?;
        Ok(canceled.map(|canceled| (canceled, None)))
    }
}

/// Runs an operation under an idempotency key, if there is one, and again when it loses a conflict.
async fn once<O: Operation>(
    app: &App,
    key: Option<IdempotencyKey>,
    operation: &O,
) -> Result<Answer<O::Answer>, ApiError> {
    db::again(|| attempt(app, key.as_ref(), operation)).await?
}

async fn attempt<O: Operation>(
    app: &App,
    key: Option<&IdempotencyKey>,
    operation: &O,
) -> Said<Answer<O::Answer>> {
    let mut tx = app.db.write().await?;
    match guard::claim(&mut tx, key).await? {
        Ok(Some(reply)) => return Ok(Ok(Answer::Replayed(reply))),
        Err(error) => return Ok(Err(error)),
        Ok(None) => {}
    }
    let (said, woken) = operation
        .run(app, &mut tx)
        .await?
        .map_or_else(|error| (Err(error), None), |(answer, woken)| (Ok(answer), woken));
    guard::keep(&mut tx, app.now(), key, StatusCode::OK, &said).await?;
    tx.commit().await?;
    app.dispatch.wake(woken);
    Ok(said.map(Answer::Fresh))
}

/// Cuts what is too long, and takes out what no database can hold. Measurements that are too many or
/// too large are left out: that an attempt failed is known without them.
fn clean(report: &mut Fail) {
    if let Some(message) = &mut report.error_message {
        *message = message.replace('\0', "\u{fffd}");
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
    }
    if let Some(tail) = &mut report.logs_tail {
        *tail = tail.replace('\0', "\u{fffd}");
        let from = tail.ceil_char_boundary(tail.len().saturating_sub(LOGS_TAIL_BYTES));
        tail.drain(..from);
    }
    let is_short = |text: &str| text.len() <= METRIC_BYTES && !text.contains('\0');
    report.metrics.retain(|name, value| {
        let is_plain = match value {
            Value::Number(_) | Value::Bool(_) => true,
            Value::String(text) => is_short(text),
            _ => false,
        };
        is_plain && is_short(name)
    });
    if report.metrics.len() > super::MAX_METRICS {
        report.metrics.clear();
    }
}

async fn failed(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    job_id: JobId,
    report: &Fail,
) -> Said<Applied> {
    let now = app.now();
    let Some(row) = queue::lock(tx, [job_id]).await?.remove(&job_id) else {
        let outcome = queue::outcomes(tx, [job_id]).await?.remove(&job_id);
        let canceled = report.error_code == FailureCode::Canceled;
        return Ok(match outcome {
            // It stopped because it was told to.
            Some(state @ JobState::Canceled) if canceled => {
                Ok((Failed { state, attempt: 1 }, None))
            }
            outcome => Err(leases::gone(outcome.as_ref())),
        });
    };
    let miner_no = match leases::check(&row, caller, report.lease_token, None) {
        Ok(holder) => holder.miner_no,
        Err(error) => return Ok(Err(error)),
    };
    if !row.state.is_leased() {
        // The lease has lapsed and the attempt is already counted.
        return Ok(Ok((Failed { state: row.state, attempt: row.attempt }, None)));
    }
    if report.error_code == FailureCode::NoGpu {
        store::lose_gpu(tx, now, miner_no).await?;
        app.presence.forget(miner_no);
    }
    let (slot, others) = another_can(app, tx, &row, miner_no).await?;
    let message = report.error_message.clone().unwrap_or_default();
    let error = (report.error_code.to_string(), message);
    let metrics = (!report.metrics.is_empty()).then(|| Value::Object(report.metrics.clone()));
    let remains = Remains { logs_tail: report.logs_tail.clone(), metrics };
    let failure = Failure { code: report.error_code, error, remains, slot, others };
    let mut sheet = Sheet::default();
    let failed = sheet.add(app, now, row, failure);
    sheet.write(tx, now).await?;
    Ok(Ok((failed, sheet.woken.pop())))
}

/// A failed attempt.
struct Failure {
    code: FailureCode,
    error: (String, String),
    remains: Remains,
    slot: SlotKind,
    others: bool,
}

/// What is to be written about failed attempts.
#[derive(Default)]
struct Sheet {
    endings: Vec<Ending>,
    requeues: Vec<Requeue>,
    /// The classes and ranks of jobs that are queued by it.
    woken: Vec<(i32, i64)>,
}

impl Sheet {
    /// Decides what becomes of a job.
    fn add(&mut self, app: &App, now: Timestamp, row: LeaseRow, failure: Failure) -> Failed {
        let retry = Duration::from_secs(u64::from(app.config.jobs.retry_secs));
        let Failure { code, error, remains, slot, others } = failure;
        let tries =
            Tries { attempt: row.attempt, max_attempts: row.max_attempts, leases: row.fence };
        match after_failure(code, tries, slot, others, retry) {
            Next::End(outcome) => {
                let failed = Failed { state: outcome, attempt: row.attempt };
                let error = Some(error);
                self.endings.push(Ending { row, outcome, error, remains, receipt_id: None });
                failed
            }
            Next::Requeue { counted, delay, exclude } => {
                let attempt = row.attempt + u32::from(counted);
                let mut excluded = row.excluded.clone();
                if let Some(holder) = row.holder.as_ref().filter(|_| exclude) {
                    excluded.push(holder.miner_no);
                }
                let due_at = (!delay.is_zero()).then(|| now.plus(app::jittered(delay)));
                self.woken.extend(due_at.is_none().then_some((row.class_id, row.rank)));
                // Somebody took it in time; its next wait is as long as a new job's may be.
                let wait = i64::from(app.config.jobs.ttl_secs);
                let expires_at = row.expires_at.max(due_at.unwrap_or(now).plus_secs(wait));
                let requeue =
                    Requeue { row, due_at, expires_at, attempt, excluded, error, remains };
                self.requeues.push(requeue);
                Failed { state: JobState::Queued, attempt }
            }
        }
    }

    async fn write(&self, tx: &mut Tx, now: Timestamp) -> Result<(), DbError> {
        store::end(tx, now, &self.endings).await?;
        store::requeue(tx, now, &self.requeues).await?;
        work::store::count(tx, now, &self.endings, &self.requeues).await
    }
}

/// The slot of a job, and whether a miner other than this one, that is there and not excluded,
/// could run it.
async fn another_can(
    app: &App,
    tx: &mut Tx,
    row: &LeaseRow,
    miner_no: i64,
) -> Result<(SlotKind, bool), DbError> {
    let Some(spec) = queue::specs(tx, [row.job_id]).await?.remove(&row.job_id) else {
        return Ok((SlotKind::Cpu, false));
    };
    let needs = Needs::of(&spec);
    let (online, in_force) = (app.presence.online(app.now()), app.controls.in_force());
    let others = online.iter().any(|miner| {
        miner.no != miner_no
            && !row.excluded.contains(&miner.no)
            && matching::can_take(&needs, miner, &in_force)
    });
    Ok((spec.slot, others))
}

async fn canceled(app: &App, tx: &mut Tx, client: &Name, job_id: JobId) -> Said<Canceled> {
    if store::client_of(tx, job_id).await?.as_ref() != Some(client) {
        return Ok(Err(ApiError::job_not_found()));
    }
    let Some(row) = queue::lock(tx, [job_id]).await?.remove(&job_id) else {
        let outcome = queue::outcomes(tx, [job_id]).await?.remove(&job_id);
        return Ok(Err(leases::gone(outcome.as_ref())));
    };
    let outcome = JobState::Canceled;
    let error = Some((FailureCode::Canceled.to_string(), "canceled by its client".to_owned()));
    if row.fence == 0 {
        // First: intake locks the client before its accounts, too.
        intake::give_back(tx, job_id).await?;
    }
    let ending = Ending { row, outcome, error, remains: Remains::default(), receipt_id: None };
    store::end(tx, app.now(), &[ending]).await?;
    Ok(Ok(Canceled { job_id, state: outcome }))
}

/// Takes jobs away whose lease has lapsed; returns how many.
///
/// # Errors
/// Where the database does.
pub async fn lapse(app: &App, limit: i64) -> Result<usize, DbError> {
    let now = app.now();
    let mut tx = app.db.write().await?;
    let jobs = store::lapsed(&mut tx, now, limit).await?;
    let rows = queue::lock(&mut tx, jobs).await?;
    // Between the look and the lock a heartbeat may have renewed it.
    let lapsed = rows
        .into_values()
        .filter(|row| row.state.is_leased())
        .filter(|row| row.holder.as_ref().is_some_and(|holder| holder.expires_at < now));
    let mut sheet = Sheet::default();
    for row in lapsed {
        let message = match row.state {
            JobState::Assigned => "the miner did not acknowledge the job in time",
            _ => "the miner's lease expired",
        };
        let code = FailureCode::Crash;
        let error = (code.to_string(), message.to_owned());
        let (slot, others) = (SlotKind::Cpu, true);
        let remains = Remains::default();
        sheet.add(app, now, row, Failure { code, error, remains, slot, others });
    }
    sheet.write(&mut tx, now).await?;
    tx.commit().await?;
    let count = sheet.endings.len() + sheet.requeues.len();
    app.dispatch.wake(sheet.woken);
    Ok(count)
}

/// Ends jobs that nobody took in time; returns how many.
///
/// # Errors
/// Where the database does.
pub async fn expire(app: &App, limit: i64) -> Result<usize, DbError> {
    let now = app.now();
    let mut tx = app.db.write().await?;
    let jobs = store::overdue(&mut tx, now, limit).await?;
    let rows = queue::lock(&mut tx, jobs).await?;
    let overdue: Vec<LeaseRow> = rows.into_values().filter(|row| !row.state.is_leased()).collect();
    let reasons = untaken(app, &mut tx, &overdue).await?;
    let endings: Vec<Ending> = overdue
        .into_iter()
        .map(|row| {
            let mut message = "nobody took the job before it lapsed".to_owned();
            if let Some(reason) = reasons.get(&row.class_id) {
                message = format!("{message}: {reason}");
            }
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
            let error = Some((ErrorCode::NoEligibleMiner.to_string(), message));
            let outcome = JobState::Expired;
            Ending { row, outcome, error, remains: Remains::default(), receipt_id: None }
        })
        .collect();
    store::end(&mut tx, now, &endings).await?;
    tx.commit().await?;
    Ok(endings.len())
}

/// Why nobody took jobs of these classes, for the first few classes: each is asked of all miners.
async fn untaken(
    app: &App,
    tx: &mut Tx,
    overdue: &[LeaseRow],
) -> Result<HashMap<i32, String>, DbError> {
    let classes: BTreeSet<i32> = overdue.iter().map(|row| row.class_id).collect();
    let classes = queue::classes(tx, classes.into_iter().take(MAX_REASONS)).await?;
    let reason = |(class, needs): (i32, Needs)| (class, why::untaken(app, &needs));
    Ok(classes.into_iter().map(reason).collect())
}
