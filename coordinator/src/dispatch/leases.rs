//! Leases that are held: acknowledged, renewed by heartbeats, reported on. In batches, and
//! committed before anybody is answered.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::job::Lease;
use protocol::miner::{Acked, ActiveJob, Progress, ProgressReply};
use protocol::{ErrorCode, JobId, JobState, LeaseToken, Name, Timestamp};
use serde_json::json;

use super::store::{self, Change, Holder, LeaseRow};
use crate::accounts::Caller;
use crate::accounts::idempotency::{Answer, IdempotencyKey, StoredReply};
use crate::app::{App, Clock};
use crate::batch::{Batcher, Corridor, Done};
use crate::config::Config;
use crate::db::Db;
use crate::error::ApiError;
use crate::events::{self, Event};
use crate::jobs::Spec;
use crate::miners::Miner;

/// The longest note that is kept, in bytes.
const NOTE_BYTES: usize = 512;

/// A call about a held job.
#[derive(Debug, Clone)]
struct Touch {
    caller: Caller,
    job_id: JobId,
    token: Option<LeaseToken>,
    what: What,
    idempotency: Option<IdempotencyKey>,
}

/// What the call says.
#[derive(Debug, Clone)]
enum What {
    Ack,
    /// By a heartbeat of this miner, which may leave the token out.
    Renew(i64),
    Progress {
        pct: Option<i16>,
        note: Option<String>,
    },
}

/// What became of the call.
#[derive(Debug, Clone)]
enum Touched {
    Held(Acked),
    /// The lease lapsed, but nobody else has the job yet: a result would still count.
    Lapsed,
    Replayed(StoredReply),
}

/// Which of its jobs a miner still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Renewed.
    pub renewed: Vec<JobId>,
    /// To be stopped at once.
    pub cancel: Vec<JobId>,
}

/// A lease that a caller proved to hold.
#[derive(Debug, Clone)]
pub struct Held {
    /// The job.
    pub job_id: JobId,
    /// Which lease of it.
    pub fence: i64,
    /// Who holds it.
    pub miner_no: i64,
    /// Who submitted the job.
    pub client: Name,
    /// The job.
    pub spec: Spec,
}

/// The queue of such calls.
#[derive(Debug, Clone)]
pub struct Leases {
    queue: Arc<Batcher<Touch, Touched>>,
}

impl Leases {
    pub(super) fn start(db: Db, clock: Clock, config: &Arc<Config>) -> Self {
        let lease_secs = i64::from(config.leases.lease_secs);
        let desk = Desk { db, clock, lease_secs };
        let queue = Batcher::spawn(config.limits.queue_rows, desk);
        Self { queue: Arc::new(queue) }
    }
}

/// A miner accepts the job: it runs, and its lease is renewed.
///
/// # Errors
/// Why the caller does not hold the job.
pub async fn ack(
    app: &App,
    caller: &Caller,
    job_id: JobId,
    token: Option<LeaseToken>,
    idempotency: Option<IdempotencyKey>,
) -> Result<Answer<Acked>, ApiError> {
    let touch = Touch { caller: caller.clone(), job_id, token, what: What::Ack, idempotency };
    match app.dispatch.leases.queue.submit(touch).await? {
        Touched::Held(acked) => Ok(Answer::Fresh(acked)),
        Touched::Replayed(reply) => Ok(Answer::Replayed(reply)),
        Touched::Lapsed => Err(lease_lost("the lease has lapsed")),
    }
}

/// A miner says how far it is; its lease is renewed.
///
/// # Errors
/// Why the caller does not hold the job; that the job has ended is no error but `continue: false`.
pub async fn progress(
    app: &App,
    caller: &Caller,
    job_id: JobId,
    progress: Progress,
) -> Result<ProgressReply, ApiError> {
    let pct = progress.pct.map(i16::from);
    if pct.is_some_and(|pct| pct > 100) {
        return Err(ApiError::field("pct", "must be 0 to 100"));
    }
    let note = progress.note.map(|note| cut(note.replace('\0', "\u{fffd}"), NOTE_BYTES));
    let touch = Touch {
        caller: caller.clone(),
        job_id,
        token: progress.lease_token,
        what: What::Progress { pct, note },
        idempotency: None,
    };
    let stop = ProgressReply { go_on: false, lease: None };
    match app.dispatch.leases.queue.submit(touch).await {
        Ok(Touched::Held(acked)) => Ok(ProgressReply { go_on: true, lease: Some(acked.lease) }),
        Ok(Touched::Lapsed | Touched::Replayed(_)) => {
            Ok(ProgressReply { go_on: true, lease: None })
        }
        Err(error) if error.code == ErrorCode::ConflictState => Ok(stop),
        Err(error) => Err(error),
    }
}

/// A heartbeat renews what its miner holds.
///
/// # Errors
/// Where the database is away; a lease that is gone is no error.
pub async fn renew(
    app: &App,
    caller: &Caller,
    miner: &Miner,
    active: Vec<ActiveJob>,
) -> Result<Renewal, ApiError> {
    let touch = |job: &ActiveJob| Touch {
        caller: caller.clone(),
        job_id: job.id(),
        token: job.token(),
        what: What::Renew(miner.no),
        idempotency: None,
    };
    let queue = &app.dispatch.leases.queue;
    let outcomes =
        futures_util::future::join_all(active.iter().map(|job| queue.submit(touch(job)))).await;
    let mut renewal = Renewal::default();
    for (job, outcome) in active.iter().zip(outcomes) {
        match outcome {
            Ok(Touched::Held(_)) => renewal.renewed.push(job.id()),
            Ok(Touched::Lapsed | Touched::Replayed(_)) => {}
            Err(error) if error.status().is_client_error() => renewal.cancel.push(job.id()),
            Err(error) => return Err(error),
        }
    }
    Ok(renewal)
}

/// Who presents this token holds the job: for uploads, logs and inputs.
///
/// # Errors
/// Why the caller does not hold it.
pub async fn held(
    app: &App,
    caller: &Caller,
    job_id: JobId,
    token: Option<LeaseToken>,
) -> Result<Held, ApiError> {
    let mut tx = app.db.read().await?;
    let row = store::find(&mut tx, job_id).await?;
    let Some(row) = row else {
        return Err(gone(store::outcomes(&mut tx, [job_id]).await?.get(&job_id)));
    };
    let holder = check(&row, caller, token, None)?;
    let (fence, miner_no) = (row.fence, holder.miner_no);
    let spec = store::specs(&mut tx, [job_id]).await?.remove(&job_id);
    let spec = spec.ok_or_else(ApiError::job_not_found)?;
    Ok(Held { job_id, fence, miner_no, client: spec.client.clone(), spec })
}

/// Checks that a caller's lease is the one that the row carries: held, or lapsed with nobody after
/// it.
///
/// `renewing` is the miner of a heartbeat, which may name its jobs without their tokens.
///
/// # Errors
/// `MINER_MISMATCH`, `LEASE_LOST`, or `CONFLICT_STATE` for a job that was never leased.
pub fn check<'a>(
    row: &'a LeaseRow,
    caller: &Caller,
    token: Option<LeaseToken>,
    renewing: Option<i64>,
) -> Result<&'a Holder, ApiError> {
    let Some(holder) = &row.holder else {
        let message = "the job was not handed to anybody yet";
        return Err(
            ApiError::new(ErrorCode::ConflictState, message).with("state", row.state.as_str())
        );
    };
    check_caller(caller, (&holder.miner_id, &holder.wallet), token, row.fence > 1)?;
    match token {
        Some(token) if same(token, holder.token) => Ok(holder),
        Some(_) => Err(lease_lost("the job is leased to somebody else by now")),
        None if holder.tokenless || renewing == Some(holder.miner_no) => Ok(holder),
        None => Err(lease_lost("lease_token is missing")),
    }
}

/// Checks that a caller acts for the miner that holds a job, or did it.
///
/// # Errors
/// `MINER_MISMATCH`; `LEASE_LOST` for whoever comes with a token of a job that was leased more than
/// once, and so may have held it.
pub fn check_caller(
    caller: &Caller,
    (miner_id, wallet): (&Name, &Name),
    token: Option<LeaseToken>,
    leased_again: bool,
) -> Result<(), ApiError> {
    caller.may_act_for(miner_id, wallet).map_err(|refusal| {
        let former = token.is_some() && leased_again && refusal.code == ErrorCode::MinerMismatch;
        if former { lease_lost("the job was leased to somebody else") } else { refusal }
    })
}

/// Compares in constant time.
fn same(a: LeaseToken, b: LeaseToken) -> bool {
    use subtle::ConstantTimeEq as _;
    a.as_u128().to_be_bytes().ct_eq(&b.as_u128().to_be_bytes()).into()
}

/// `LEASE_LOST`.
pub fn lease_lost(message: &str) -> ApiError {
    ApiError::new(ErrorCode::LeaseLost, message)
}

/// What to say of a job that is not in the queue: it has ended, or never was.
pub fn gone(outcome: Option<&JobState>) -> ApiError {
    match outcome {
        None => ApiError::job_not_found(),
        Some(state) => {
            let message = format!("the job has ended: {state}");
            ApiError::new(ErrorCode::ConflictState, message).with("state", state.as_str())
        }
    }
}

/// What the calls work with.
struct Desk {
    db: Db,
    clock: Clock,
    lease_secs: i64,
}

impl Corridor for Desk {
    type Row = Touch;
    type Out = Touched;
    const NAME: &'static str = "leases";

    async fn transaction(&self, touches: &[Touch]) -> Done<Touched> {
        let now = self.clock.now();
        let mut tx = self.db.write().await?;
        let keys: Vec<_> = touches.iter().filter_map(|touch| touch.idempotency.as_ref()).collect();
        let mut begun = crate::accounts::store::begin(&mut tx, &keys).await?.into_iter();
        let mut rows = store::lock(&mut tx, touches.iter().map(|touch| touch.job_id)).await?;
        let missing = touches.iter().map(|t| t.job_id).filter(|id| !rows.contains_key(id));
        let ended = store::outcomes(&mut tx, missing).await?;

        let mut sheet = Sheet { now, lease_secs: self.lease_secs, ..Sheet::default() };
        let mut outcomes = Vec::with_capacity(touches.len());
        let mut replies = Vec::new();
        for touch in touches {
            let stored = match &touch.idempotency {
                None => Ok(None),
                Some(_) => begun.next().unwrap_or_else(|| Err(ApiError::internal())),
            };
            let outcome = match stored {
                Err(error) => Err(error),
                Ok(Some(reply)) => Ok(Touched::Replayed(reply)),
                Ok(None) => {
                    let outcome = match rows.get_mut(&touch.job_id) {
                        None => Err(gone(ended.get(&touch.job_id))),
                        Some(row) => sheet.touch(row, touch),
                    };
                    if let Some(key) = &touch.idempotency {
                        let reply = outcome.clone().and_then(|touched| match touched {
                            Touched::Held(acked) => Ok(acked),
                            _ => Err(lease_lost("the lease has lapsed")),
                        });
                        replies.push((key, StoredReply::of(200, &reply)));
                    }
                    outcome
                }
            };
            outcomes.push(outcome);
        }
        store::change(&mut tx, &sheet.changes.into_values().collect::<Vec<_>>()).await?;
        store::start_attempts(&mut tx, now, &sheet.started).await?;
        events::store::append(&mut tx, &sheet.events).await?;
        crate::accounts::store::finish(&mut tx, now, &replies).await?;
        tx.commit().await?;
        Ok(outcomes)
    }
}

/// What a batch of calls changes: one change per job, however many calls.
#[derive(Debug)]
struct Sheet {
    now: Timestamp,
    lease_secs: i64,
    changes: HashMap<JobId, Change>,
    started: Vec<(JobId, i64)>,
    events: Vec<Event>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            now: Timestamp::from_micros(0),
            lease_secs: 0,
            changes: HashMap::new(),
            started: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Sheet {
    fn touch(&mut self, row: &mut LeaseRow, touch: &Touch) -> Result<Touched, ApiError> {
        let renewing = match touch.what {
            What::Renew(miner_no) => Some(miner_no),
            What::Ack | What::Progress { .. } => None,
        };
        let holder = check(row, &touch.caller, touch.token, renewing)?.clone();
        if !row.state.is_leased() {
            return Ok(Touched::Lapsed);
        }
        // What the holder was told stands: neither a clock that went back nor that of another
        // replica takes from a lease. One of somebody who never registered lasts as long as the
        // job may already.
        let renewed = self.now.plus_secs(self.lease_secs).min(holder.deadline);
        let expires_at =
            if holder.tokenless { holder.expires_at } else { holder.expires_at.max(renewed) };
        // A heartbeat that names a job before its ack renews it, but only the ack starts it.
        let starts = row.state == JobState::Assigned && !matches!(touch.what, What::Renew(_));
        if starts {
            row.state = JobState::Running;
            row.event_seq += 1;
            self.started.push((row.job_id, row.fence));
            let more = json!({ "fence": row.fence, "miner_id": holder.miner_id });
            self.events.push(Event::state(row.job_id, row.event_seq, self.now, row.state, more));
        }
        let change = self.changes.entry(row.job_id).or_insert(Change {
            job_id: row.job_id,
            state: row.state,
            expires_at,
            pct: None,
            note: None,
            event_seq: row.event_seq,
            progress_at: row.progress_at,
        });
        change.state = row.state;
        if let What::Progress { pct, note } = &touch.what {
            change.pct = pct.or(change.pct);
            change.note = note.clone().or_else(|| change.note.take());
            if is_worth_an_event(row, self.now) && (pct.is_some() || note.is_some()) {
                row.event_seq += 1;
                row.progress_at = Some(self.now);
                let said = (*pct, note.as_deref());
                self.events.push(Event::progress(row.job_id, row.event_seq, self.now, said));
            }
        }
        change.event_seq = row.event_seq;
        change.progress_at = row.progress_at;
        let lease =
            Lease { token: holder.token, fence: row.fence, expires_at, deadline: holder.deadline };
        Ok(Touched::Held(Acked { state: row.state, lease }))
    }
}

/// A miner may say how far it is as often as it likes; history has it once a second.
fn is_worth_an_event(row: &LeaseRow, now: Timestamp) -> bool {
    // A clock that went back silences nobody.
    row.progress_at.is_none_or(|last| now < last || now >= last.plus_secs(1))
}

/// The first `bytes` bytes of a text, at a border of characters.
fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}
