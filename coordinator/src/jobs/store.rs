//! The SQL of jobs as their clients and operators see them. What changes a job is in the corridors;
//! here only what a finished job left is removed.

use std::collections::HashMap;

use protocol::client::{JobError, JobView, ProgressView};
use protocol::job::{Price, UnitType};
use protocol::miner::StoredArtifact;
use protocol::{Amount, JobId, JobState, Name, Sha256Hex, Timestamp};
use sea_query::{Asterisk, Expr, ExprTrait as _, Order, Query, SelectStatement, Value as Bound};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::db::{Args, DbError, Row, Rows, Tx};

/// A row of [`views`].
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Whose job it is.
    pub client: Name,
    /// The job.
    pub view: JobView,
}

/// Which jobs to show, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this client only.
    pub client: Option<Name>,
    /// This one only.
    pub job: Option<JobId>,
    /// In this state only.
    pub state: Option<JobState>,
    /// Submitted before this one only.
    pub before: Option<JobId>,
}

/// What a job left behind, beside its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// SHA-256 of the output.
    pub output_sha: Sha256Hex,
    /// Exit code of the program.
    pub exit_code: Option<i32>,
    /// Measurements.
    pub metrics: Map<String, Value>,
    /// The output, where it came inline.
    pub result: Option<Value>,
}

/// Jobs with all that their clients may know.
///
/// # Errors
/// Where the database fails.
pub async fn views(tx: &mut Tx, filter: &Filter, limit: u64) -> Result<Vec<Listed>, DbError> {
    let rows = tx.select(&select(filter, limit)).await?;
    let mut listed = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    let done = listed.iter().filter(|job| job.view.state == JobState::Completed);
    let mut files = delivered(tx, done.map(|job| job.view.job_id)).await?;
    for job in &mut listed {
        job.view.artifacts = files.remove(&job.view.job_id).unwrap_or_default();
    }
    Ok(listed)
}

fn select(filter: &Filter, limit: u64) -> SelectStatement {
    let mut select = Query::select();
    select
        .column(("jobs", Asterisk))
        .expr_as(Expr::col(("queue", "state")), "live_state")
        .expr_as(Expr::col(("queue", "attempt")), "live_attempt")
        .expr_as(Expr::col(("queue", "pct")), "pct")
        .expr_as(Expr::col(("queue", "note")), "note")
        .expr_as(Expr::col(("attempts", "miner_id")), "live_miner_id")
        .expr_as(Expr::col(("attempts", "leased_at")), "live_leased_at")
        .expr_as(Expr::col(("attempts", "started_at")), "live_started_at")
        .expr_as(Expr::col(("job_results", "job_id")), "result_of")
        .from("jobs")
        .left_join("queue", Expr::col(("queue", "job_id")).equals(("jobs", "job_id")))
        .left_join(
            "attempts",
            Expr::col(("attempts", "job_id"))
                .equals(("queue", "job_id"))
                .and(Expr::col(("attempts", "fence")).equals(("queue", "fence"))),
        )
        .left_join("job_results", Expr::col(("job_results", "job_id")).equals(("jobs", "job_id")))
        .order_by(("jobs", "job_id"), Order::Desc)
        .limit(limit);
    if let Some(client) = &filter.client {
        select.and_where(Expr::col(("jobs", "client_id")).eq(client.as_str()));
    }
    if let Some(job) = filter.job {
        select.and_where(Expr::col(("jobs", "job_id")).eq(bound(job)));
    }
    if let Some(before) = filter.before {
        select.and_where(Expr::col(("jobs", "job_id")).lt(bound(before)));
    }
    if let Some(state) = filter.state {
        select.and_where(in_state(state));
    }
    select
}

fn bound(job: JobId) -> Bound {
    Bound::Uuid(Some(Uuid::from_u128(job.as_u128())))
}

/// Live jobs have their state in the queue, the others their outcome.
fn in_state(state: JobState) -> Expr {
    match state {
        // Back in the queue and waiting for its time is queued, too.
        JobState::Queued => Expr::col(("queue", "state")).is_in(["QUEUED", "DELAYED"]),
        state if state.is_terminal() => Expr::col(("jobs", "outcome")).eq(state.as_str()),
        state => Expr::col(("queue", "state")).eq(state.as_str()),
    }
}

fn listed(row: &Row) -> Result<Listed, DbError> {
    let outcome: Option<JobState> = row.parse_opt("outcome")?;
    let live_state: Option<String> = row.get("live_state")?;
    let state = outcome.unwrap_or(match live_state.as_deref() {
        Some("ASSIGNED") => JobState::Assigned,
        Some("RUNNING") => JobState::Running,
        _ => JobState::Queued,
    });
    let live_attempt: Option<i16> = row.get("live_attempt")?;
    let attempt = live_attempt.map_or_else(|| row.get::<i16>("attempt"), Ok)?;
    let has_result = row.get::<Option<JobId>>("result_of")?.is_some();
    let live_started = row.get::<Option<Timestamp>>("live_started_at")?;
    let view = JobView {
        job_id: row.get("job_id")?,
        workload: row.parse("workload")?,
        state,
        attempt: u32::try_from(attempt).unwrap_or(0),
        progress: progress(row, state)?,
        priority: u8::try_from(row.get::<i16>("priority")?).unwrap_or(0),
        price: Price {
            unit_type: row.word::<UnitType>("unit_type")?,
            unit_price: row.get("unit_price")?,
            max_price: row.get::<Option<Amount>>("max_price")?,
        },
        created_at: row.get("created_at")?,
        started_at: row
            .get::<Option<Timestamp>>("started_at")?
            .or(live_started)
            .or(row.get("live_leased_at")?),
        finished_at: row.get("finished_at")?,
        expires_at: row.get("expires_at")?,
        miner_id: match row.parse_opt("live_miner_id")? {
            Some(miner) => Some(miner),
            None => row.parse_opt("miner_id")?,
        },
        error: error(row, state)?,
        result_available: state.is_terminal() && (state != JobState::Completed || has_result),
        artifacts: Vec::new(),
        receipt_id: row.parse_opt("receipt_id")?,
    };
    Ok(Listed { client: row.parse("client_id")?, view })
}

fn progress(row: &Row, state: JobState) -> Result<Option<ProgressView>, DbError> {
    let pct: Option<i16> = row.get("pct")?;
    let note: Option<String> = row.get("note")?;
    if !state.is_leased() || (pct.is_none() && note.is_none()) {
        return Ok(None);
    }
    Ok(Some(ProgressView { pct: pct.and_then(|pct| u8::try_from(pct).ok()), note }))
}

fn error(row: &Row, state: JobState) -> Result<Option<JobError>, DbError> {
    let code: Option<String> = row.get("error_code")?;
    // What went wrong before it worked is history.
    let Some(code) = code.filter(|_| state != JobState::Completed) else { return Ok(None) };
    Ok(Some(JobError {
        code,
        message: row.get::<Option<String>>("error_message")?.unwrap_or_default(),
        logs_tail: row.get("logs_tail")?,
    }))
}

/// The files of credited leases: what failed attempts uploaded nobody gets.
async fn delivered(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Vec<StoredArtifact>>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select a.job_id, a.artifact_no, a.path, a.sha256, a.size_bytes
         from jsonb_to_recordset($1) as v(v uuid)
         join receipts r on r.job_id = v.v
         join artifacts a on a.job_id = r.job_id and a.fence = r.fence
         order by a.job_id, a.artifact_no",
        "select a.job_id, a.artifact_no, a.path, a.sha256, a.size_bytes
         from json_each($1) v
         join receipts r on r.job_id = v.value ->> 'v'
         join artifacts a on a.job_id = r.job_id and a.fence = r.fence
         order by a.job_id, a.artifact_no",
    );
    let mut files: HashMap<JobId, Vec<StoredArtifact>> = HashMap::new();
    for row in tx.rows(sql, Args::new().with_rows(jobs)).await? {
        let file = StoredArtifact {
            artifact_id: row.get("artifact_no")?,
            path: row.parse("path")?,
            sha256: row.get("sha256")?,
            bytes: u64::try_from(row.get::<i64>("size_bytes")?).unwrap_or(0),
        };
        files.entry(row.get("job_id")?).or_default().push(file);
    }
    Ok(files)
}

/// What a job left behind; `None` where it left nothing, or that was removed.
///
/// # Errors
/// Where the database fails.
pub async fn output(tx: &mut Tx, job: JobId) -> Result<Option<Output>, DbError> {
    let sql = "select output_sha, exit_code, metrics, result from job_results where job_id = $1";
    let row = tx.row(sql, Args::new().with(job)).await?;
    row.map(|row| {
        Ok(Output {
            output_sha: row.get("output_sha")?,
            exit_code: row.get("exit_code")?,
            metrics: row.json("metrics")?,
            // Text, as it was hashed: `jsonb` would write its numbers in its own way.
            result: row.parse_opt("result")?,
        })
    })
    .transpose()
}

/// Removes result, log and files of a job that has ended; returns where the files are.
///
/// # Errors
/// Where the database fails.
pub async fn remove_output(tx: &mut Tx, job: JobId) -> Result<Vec<String>, DbError> {
    let job_id = || Args::new().with(job);
    tx.execute("delete from job_results where job_id = $1", job_id()).await?;
    tx.execute("delete from job_logs where job_id = $1", job_id()).await?;
    tx.execute("update jobs set logs_tail = null where job_id = $1", job_id()).await?;
    let sql = "delete from artifacts where job_id = $1 returning location";
    let rows = tx.rows(sql, job_id()).await?;
    rows.iter().map(|row| row.get("location")).collect()
}
