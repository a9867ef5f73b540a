//! SQL of settlement: jobs end, go back, are paid.

mod credits;
mod due;
mod endings;
mod refusals;
mod requeues;

pub use credits::{Accepted, Settled, Terms, accept, settled, terms, uploads};
pub use due::{first_lapse, forget_classes, lapsed, overdue, queue_due};
pub use endings::{Ending, Remains, end, holds};
use protocol::{JobId, Name, Timestamp};
pub use refusals::{Refusal, refuse};
pub use requeues::{Requeue, requeue};

use crate::db::{Args, DbError, Tx};

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
