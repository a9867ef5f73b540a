//! Jobs that go in: their rows in the history and in the queue.

use protocol::{Amount, JobId};
use serde_json::json;

use crate::db::{Args, DbError, Engine, RowBuilder, Rows, Tx};
use crate::intake::Draft;
use crate::intake::rank::Place;

/// A job that goes in.
pub(super) struct Row<'a> {
    pub id: JobId,
    pub class_id: i32,
    pub place: Place,
    pub hold: Amount,
    /// The most that paying it can issue.
    pub issue_most: Amount,
    pub draft: &'a Draft,
}

/// Puts jobs into the history and the queue.
pub(super) async fn insert(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    match tx.engine() {
        Engine::Postgres => insert_at_once(tx, jobs).await,
        Engine::Sqlite => insert_in_steps(tx, jobs).await,
    }
}

/// In one statement: a job that somebody waits for is there the sooner.
async fn insert_at_once(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for job in jobs {
        queued(specified(recorded(rows.row(), job), job), job).done();
    }
    let sql = "with r as materialized (
             select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                 $16, $17, $18, $19, $20, $21)
             as r(job_id, client_id, workload, class_id, unit_type, unit_price, max_price, hold,
                 fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank, priority, created_at,
                 expires_at, spec, rank, max_attempts, max_runtime_s)),
         recorded as (
             insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price,
                 max_price, hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                 priority, created_at, expires_at)
             select job_id, client_id, workload, class_id, unit_type, unit_price, max_price, hold,
                 fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank, priority, created_at,
                 expires_at from r),
         specified as (insert into job_specs (job_id, spec) select job_id, spec from r)
         insert into queue (job_id, class_id, rank, state, expires_at, max_attempts, max_runtime_s,
             event_seq)
         select job_id, class_id, rank, 'QUEUED', expires_at, max_attempts, max_runtime_s, 1 from r";
    let inserted = tx.execute(sql, Args::new().with_columns(rows)).await?;
    DbError::expect("insert jobs", jobs.len() as u64, inserted)
}

async fn insert_in_steps(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    let recorded_sql = "insert into jobs (job_id, client_id, workload, class_id, unit_type,
             unit_price, max_price, hold, fee_bp, bonus, issue_most, slot, rank_cost,
             reserved_rank, priority, created_at, expires_at)
         select value ->> 'job_id', value ->> 'client_id', value ->> 'workload',
             value ->> 'class_id', value ->> 'unit_type', value ->> 'unit_price',
             value ->> 'max_price', value ->> 'hold', value ->> 'fee_bp', value ->> 'bonus',
             value ->> 'issue_most', value ->> 'slot', value ->> 'rank_cost',
             value ->> 'reserved_rank', value ->> 'priority', value ->> 'created_at',
             value ->> 'expires_at'
         from json_each($1)";
    let specified_sql = "insert into job_specs (job_id, spec)
         select value ->> 'job_id', value -> 'spec' from json_each($1)";
    let queued_sql = "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts,
             max_runtime_s, event_seq)
         select value ->> 'job_id', value ->> 'class_id', value ->> 'rank', 'QUEUED',
             value ->> 'expires_at', value ->> 'max_attempts', value ->> 'max_runtime_s', 1
         from json_each($1)";
    let mut step = [Rows::new(tx.engine()), Rows::new(tx.engine()), Rows::new(tx.engine())];
    for job in jobs {
        let [history, specs, queue] = &mut step;
        recorded(history.row(), job).done();
        specified(specs.row().set("job_id", job.id), job).done();
        let key = queue.row().set("job_id", job.id).set("class_id", job.class_id);
        queued(key.set("expires_at", job.draft.spec.expires_at), job).done();
    }
    for (sql, rows) in [recorded_sql, specified_sql, queued_sql].into_iter().zip(step) {
        let inserted = tx.execute(sql, Args::new().with_rows(rows)).await?;
        DbError::expect("insert jobs", jobs.len() as u64, inserted)?;
    }
    Ok(())
}

fn recorded<'r>(row: RowBuilder<'r>, job: &Row<'_>) -> RowBuilder<'r> {
    let spec = &job.draft.spec;
    row.set("job_id", job.id)
        .set("client_id", spec.client.as_str())
        .set("workload", spec.workload.as_str())
        .set("class_id", job.class_id)
        .set("unit_type", spec.price.unit_type.as_str())
        .set("unit_price", spec.price.unit_price)
        .set("max_price", spec.price.max_price)
        .set("hold", job.hold)
        .set("fee_bp", i32::from(job.draft.fee_bp))
        .set("bonus", job.draft.bonus.map(|bonus| json!(bonus)))
        .set("issue_most", job.issue_most)
        .set("slot", job.draft.needs.slot.as_str())
        .set("rank_cost", job.place.cost)
        .set("reserved_rank", job.place.reserved)
        .set("priority", i32::from(job.draft.priority))
        .set("created_at", spec.created_at)
        .set("expires_at", spec.expires_at)
}

fn specified<'r>(row: RowBuilder<'r>, job: &Row<'_>) -> RowBuilder<'r> {
    row.set("spec", serde_json::to_value(&job.draft.spec).unwrap_or_default())
}

fn queued<'r>(row: RowBuilder<'r>, job: &Row<'_>) -> RowBuilder<'r> {
    row.set("rank", job.place.rank)
        .set("max_attempts", i32::try_from(job.draft.max_attempts).unwrap_or(1))
        .set("max_runtime_s", i32::try_from(job.draft.max_runtime_s).unwrap_or(i32::MAX))
}
