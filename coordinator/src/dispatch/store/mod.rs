//! SQL of dispatch: what is ready, what can be claimed, who holds what.

mod claim;
mod classes;
mod leases;

use std::collections::HashMap;

pub use claim::{Grant, HeldJob, Wanted, candidates, held_by, lease, lock_miners, take_back};
pub use classes::{classes, held_ranks, ready_among, ready_classes};
pub use leases::{Change, Holder, LeaseRow, change, find, lock, outcomes, start_attempts};
use protocol::JobId;

use crate::db::{Args, DbError, Row, Rows, Tx};
use crate::jobs::Spec;

fn small(row: &Row, column: &'static str) -> Result<u32, DbError> {
    let value: i16 = row.get(column)?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// What is stored of jobs.
///
/// # Errors
/// Where the database does.
pub async fn specs(
    tx: &mut Tx,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashMap<JobId, Spec>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, spec from job_specs
         where job_id = any($1)",
        "select job_id, spec from job_specs
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, row.json("spec")?))).collect()
}
