//! The SQL of miners' days, as endings change them.

use protocol::Timestamp;

use super::by_miner;
use crate::db::{Args, DbError, Rows, Tx};
use crate::settlement::store::{Ending, Requeue};

/// Adds endings to the days of their miners: once in a transaction, and as its last step, so that
/// two of them never wait for each other.
///
/// # Errors
/// Where the database does.
pub async fn count(
    tx: &mut Tx,
    now: Timestamp,
    endings: &[Ending],
    requeues: &[Requeue],
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for (miner_no, work) in by_miner(now, endings, requeues) {
        rows.row()
            .set("n", miner_no)
            .set("c", work.completed)
            .set("f", work.failed)
            .set("b", work.busy_us)
            .done();
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "insert into miner_days (miner_no, day, completed, failed, busy_us)
         select n, $1, c, f, b from unnest($2, $3, $4, $5) as r(n, c, f, b)
         order by n
         on conflict (miner_no, day) do update set
             completed = miner_days.completed + excluded.completed,
             failed = miner_days.failed + excluded.failed,
             busy_us = miner_days.busy_us + excluded.busy_us",
        "insert into miner_days (miner_no, day, completed, failed, busy_us)
         select value ->> 'n', $1, value ->> 'c', value ->> 'f', value ->> 'b'
         from json_each($2) where true
         on conflict (miner_no, day) do update set
             completed = miner_days.completed + excluded.completed,
             failed = miner_days.failed + excluded.failed,
             busy_us = miner_days.busy_us + excluded.busy_us",
    );
    tx.execute(sql, Args::new().with(now.day()).with_columns(rows)).await?;
    Ok(())
}
