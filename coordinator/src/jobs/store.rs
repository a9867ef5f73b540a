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
    /// In one of these states only; none: in any.
    pub states: Vec<JobState>,
    /// Of this workload only.
    pub workload: Option<Name>,
    /// Leased to this miner at some time only.
    pub miner: Option<Name>,
    /// Submitted then or later only.
    pub since: Option<Timestamp>,
    /// Submitted before then only.
    pub until: Option<Timestamp>,
    /// Submitted before this one only.
    pub before: Option<JobId>,
}

/// Jobs that one index leads to.
#[derive(Debug, Clone, PartialEq)]
enum Among {
    /// All.
    All,
    /// Those in the queue, in these of its states.
    Live(Vec<&'static str>),
    /// Those that ended so.
    Ended(JobState),
}

impl Filter {
    fn among(&self) -> Vec<Among> {
        if self.states.is_empty() {
            return vec![Among::All];
        }
        let mut live = Vec::new();
        let mut among = Vec::new();
        for state in &self.states {
            match state {
                state if state.is_terminal() => among.push(Among::Ended(*state)),
                // Back in the queue and waiting for its time is queued, too.
                JobState::Queued => live.extend(["QUEUED", "DELAYED"]),
                state => live.push(state.as_str()),
            }
        }
        if !live.is_empty() {
            among.push(Among::Live(live));
        }
        among
    }
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
    let mut rows = Vec::new();
    for among in filter.among() {
        rows.extend(tx.select(&select(filter, &among, limit)).await?);
    }
    let mut listed = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    listed.sort_by_key(|job| std::cmp::Reverse(job.view.job_id));
    listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let done = listed.iter().filter(|job| job.view.state == JobState::Completed);
    let mut files = delivered(tx, done.map(|job| job.view.job_id)).await?;
    for job in &mut listed {
        job.view.artifacts = files.remove(&job.view.job_id).unwrap_or_default();
    }
    Ok(listed)
}

fn select(filter: &Filter, among: &Among, limit: u64) -> SelectStatement {
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
        .limit(limit);
    // By whose key it is walked: the small table's, unless an index has this client's live jobs.
    let key = match among {
        Among::Live(_) if filter.client.is_none() => ("queue", "job_id"),
        _ => ("jobs", "job_id"),
    };
    select.order_by(key, Order::Desc);
    match among {
        Among::All => {}
        Among::Live(states) => {
            select.and_where(Expr::col(("jobs", "outcome")).is_null());
            select.and_where(Expr::col(("queue", "state")).is_in(states.iter().copied()));
        }
        Among::Ended(state) => {
            select.and_where(Expr::col(("jobs", "outcome")).eq(state.as_str()));
        }
    }
    narrow(&mut select, filter, key);
    select
}

fn narrow(select: &mut SelectStatement, filter: &Filter, key: (&'static str, &'static str)) {
    let text = |column: &'static str, name: &Name| Expr::col(("jobs", column)).eq(name.as_str());
    if let Some(client) = &filter.client {
        select.and_where(text("client_id", client));
    }
    if let Some(workload) = &filter.workload {
        select.and_where(text("workload", workload));
    }
    if let Some(miner) = &filter.miner {
        let mut held = Query::select();
        held.column(("attempts", "job_id"))
            .from("attempts")
            .inner_join(
                "miners",
                Expr::col(("miners", "miner_no")).equals(("attempts", "miner_no")),
            )
            .and_where(Expr::col(("miners", "miner_id")).eq(miner.as_str()));
        select.and_where(Expr::col(key).in_subquery(held));
    }
    if let Some(job) = filter.job {
        select.and_where(Expr::col(key).eq(bound(job)));
    }
    if let Some(before) = filter.before {
        select.and_where(Expr::col(key).lt(bound(before)));
    }
    // An id begins with the time of its job.
    if let Some(since) = filter.since {
        select.and_where(Expr::col(key).gte(bound(first_id(since))));
    }
    if let Some(until) = filter.until {
        select.and_where(Expr::col(key).lt(bound(first_id(until))));
    }
}

/// The least id of a job that was submitted then.
fn first_id(at: Timestamp) -> JobId {
    JobId::from_parts(at.max(Timestamp::from_micros(0)), 0)
}

fn bound(job: JobId) -> Bound {
    Bound::Uuid(Some(Uuid::from_u128(job.as_u128())))
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
        metrics: match row.get::<Option<Value>>("error_metrics")? {
            Some(Value::Object(metrics)) => metrics,
            _ => Map::new(),
        },
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
         from unnest($1) as v(v)
         join receipts r on r.job_id = any(array[v.v])
         join artifacts a on a.job_id = any(array[r.job_id]) and a.fence = r.fence
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

/// At most so many jobs that ended before `before` and left something that is still there.
///
/// # Errors
/// Where the database fails.
pub async fn with_old_output(
    tx: &mut Tx,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<JobId>, DbError> {
    // Ids sort by time: what is old is in front, and what was cleared is gone.
    let sql = "select job_id from (
                   select o.job_id from job_results o join jobs j on j.job_id = o.job_id
                   where o.job_id < $1 and j.finished_at < $2 order by o.job_id limit $3) as results
               union select job_id from (
                   select distinct o.job_id from job_logs o join jobs j on j.job_id = o.job_id
                   where o.job_id < $1 and j.finished_at < $2 order by o.job_id limit $3) as logs
               union select job_id from (
                   select distinct o.job_id from artifacts o join jobs j on j.job_id = o.job_id
                   where o.job_id < $1 and j.finished_at < $2 order by o.job_id limit $3) as files
               union select job_id from (
                   select j.job_id from jobs j where j.logs_tail is not null
                   and j.job_id < $1 and j.finished_at < $2 order by j.job_id limit $3) as tails
               limit $3";
    let rows = tx.rows(sql, Args::new().with(first_id(before)).with(before).with(limit)).await?;
    rows.iter().map(|row| row.get("job_id")).collect()
}

/// Removes result, log and files of jobs that have ended; returns where the files are.
///
/// # Errors
/// Where the database fails.
pub async fn remove_output(tx: &mut Tx, jobs: &[JobId]) -> Result<Vec<String>, DbError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let list = |tx: &Tx| Args::new().with_rows(Rows::list(tx.engine(), jobs.iter().copied()));
    let results = tx.either(
        "delete from job_results where job_id = any($1)",
        "delete from job_results where job_id in (select value ->> 'v' from json_each($1))",
    );
    tx.execute(results, list(tx)).await?;
    let logs = tx.either(
        "delete from job_logs where job_id = any($1)",
        "delete from job_logs where job_id in (select value ->> 'v' from json_each($1))",
    );
    tx.execute(logs, list(tx)).await?;
    let tails = tx.either(
        "update jobs set logs_tail = null where logs_tail is not null and job_id = any($1)",
        "update jobs set logs_tail = null where logs_tail is not null
         and job_id in (select value ->> 'v' from json_each($1))",
    );
    tx.execute(tails, list(tx)).await?;
    let files = tx.either(
        "delete from artifacts where job_id = any($1) returning location",
        "delete from artifacts
         where job_id in (select value ->> 'v' from json_each($1)) returning location",
    );
    let rows = tx.rows(files, list(tx)).await?;
    rows.iter().map(|row| row.get("location")).collect()
}
