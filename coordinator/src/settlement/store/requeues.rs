//! Jobs that go back to the queue.

use protocol::{JobState, Timestamp};
use serde_json::json;

use super::endings::{Closed, Remains, close_attempts, failure};
use crate::db::{Args, DbError, Rows, Tx};
use crate::dispatch::store::LeaseRow;
use crate::events::{self, Event};

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
    /// What the attempt that failed left.
    pub remains: Remains,
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
            .set("logs_tail", requeue.remains.logs_tail.clone())
            .set("error_metrics", requeue.remains.metrics.clone())
            .done();
    }
    let sql = tx.either(
        "update queue q set state = r.state, due_at = r.due_at, expires_at = r.expires_at,
             attempt = r.attempt, excluded = r.excluded, event_seq = q.event_seq + 1,
             pct = null, note = null
         from jsonb_to_recordset($1) as r(job_id uuid, state text, due_at timestamptz,
             expires_at timestamptz, attempt smallint, excluded jsonb)
         where q.job_id = any(array[r.job_id])",
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
             logs_tail = r.logs_tail, error_metrics = r.error_metrics
         from jsonb_to_recordset($1) as r(job_id uuid, error_code text, error_message text,
             logs_tail text, error_metrics jsonb)
         where j.job_id = any(array[r.job_id])",
        "update jobs set error_code = r.value ->> 'error_code',
             error_message = r.value ->> 'error_message', logs_tail = r.value ->> 'logs_tail',
             error_metrics = nullif(r.value -> 'error_metrics', 'null')
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
