//! The SQL of miners' days, as endings change them.

use protocol::Timestamp;

use super::by_miner;
use crate::db::{Args, DbError, Engine, Rows, Tx};
use crate::settlement::store::{Ending, Requeue};

/// Keeps what endings add to the days of their miners, until it is [`fold`]ed into these.
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
        "insert into miner_work (day, miner_no, completed, failed, busy_us)
         values ($1, $2, $3, $4, $5)",
        "insert into miner_work (day, work) values ($1, $2)",
    );
    tx.execute(sql, Args::new().with(now.day()).with_columns(rows)).await?;
    Ok(())
}

/// Adds what was kept to the days of the miners.
///
/// # Errors
/// Where the database does.
pub async fn fold(tx: &mut Tx) -> Result<(), DbError> {
    // On PostgreSQL one statement: what others keep meanwhile is neither seen nor deleted.
    let sql = tx.either(
        "with gone as (delete from miner_work returning *)
         insert into miner_days (miner_no, day, completed, failed, busy_us)
         select n, day, sum(c), sum(f), sum(b) from gone
         cross join lateral unnest(gone.miner_no, gone.completed, gone.failed, gone.busy_us)
             as r(n, c, f, b)
         group by n, day order by n, day
         on conflict (miner_no, day) do update set
             completed = miner_days.completed + excluded.completed,
             failed = miner_days.failed + excluded.failed,
             busy_us = miner_days.busy_us + excluded.busy_us",
        "insert into miner_days (miner_no, day, completed, failed, busy_us)
         select value ->> 'n', day, sum(value ->> 'c'), sum(value ->> 'f'), sum(value ->> 'b')
         from miner_work, json_each(work) where true group by 1, 2
         on conflict (miner_no, day) do update set
             completed = miner_days.completed + excluded.completed,
             failed = miner_days.failed + excluded.failed,
             busy_us = miner_days.busy_us + excluded.busy_us",
    );
    tx.execute(sql, Args::new()).await?;
    if tx.engine() == Engine::Sqlite {
        tx.execute("delete from miner_work", Args::new()).await?;
    }
    Ok(())
}
