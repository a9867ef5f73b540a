//! Jobs that go in: their rows in the history and in the queue.

use protocol::{Amount, JobId};
use serde_json::json;

use crate::db::{Args, DbError, Rows, Tx};
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

pub(super) async fn insert_jobs(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    let mut specs = Rows::new(tx.engine());
    for job in jobs {
        let spec = &job.draft.spec;
        rows.row()
            .set("job_id", job.id)
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
            .done();
        let document = serde_json::to_value(spec).unwrap_or_default();
        specs.row().set("job_id", job.id).set("spec", document).done();
    }
    let sql = tx.either(
        "insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price, max_price,
                           hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                           priority, created_at, expires_at)
         select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
             $17)",
        "insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price, max_price,
                           hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                           priority, created_at, expires_at)
         select value ->> 'job_id', value ->> 'client_id', value ->> 'workload',
                value ->> 'class_id', value ->> 'unit_type', value ->> 'unit_price',
                value ->> 'max_price', value ->> 'hold', value ->> 'fee_bp', value ->> 'bonus',
                value ->> 'issue_most', value ->> 'slot', value ->> 'rank_cost',
                value ->> 'reserved_rank', value ->> 'priority',
                value ->> 'created_at', value ->> 'expires_at'
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_columns(rows)).await?;
    DbError::expect("insert jobs", jobs.len() as u64, inserted)?;
    let sql = tx.either(
        "insert into job_specs (job_id, spec)
         select * from unnest($1, $2)",
        "insert into job_specs (job_id, spec)
         select value ->> 'job_id', value -> 'spec' from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_columns(specs)).await?;
    DbError::expect("insert job specs", jobs.len() as u64, inserted)
}

pub(super) async fn insert_queue(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for job in jobs {
        rows.row()
            .set("job_id", job.id)
            .set("class_id", job.class_id)
            .set("rank", job.place.rank)
            .set("expires_at", job.draft.spec.expires_at)
            .set("max_attempts", i32::try_from(job.draft.max_attempts).unwrap_or(1))
            .set("max_runtime_s", i32::try_from(job.draft.max_runtime_s).unwrap_or(i32::MAX))
            .done();
    }
    let sql = tx.either(
        "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts, max_runtime_s,
                            event_seq)
         select job_id, class_id, rank, 'QUEUED', expires_at, max_attempts, max_runtime_s, 1
         from unnest($1, $2, $3, $4, $5, $6)
             as r(job_id, class_id, rank, expires_at, max_attempts, max_runtime_s)",
        "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts, max_runtime_s,
                            event_seq)
         select value ->> 'job_id', value ->> 'class_id', value ->> 'rank', 'QUEUED',
                value ->> 'expires_at', value ->> 'max_attempts', value ->> 'max_runtime_s', 1
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_columns(rows)).await?;
    DbError::expect("insert into queue", jobs.len() as u64, inserted)
}
