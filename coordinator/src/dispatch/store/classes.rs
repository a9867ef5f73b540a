//! Classes of requirements, and which of them have work.

use std::collections::BTreeSet;

use protocol::job::SlotKind;

use crate::db::{Args, DbError, Rows, Tx};
use crate::dispatch::matching::Needs;

/// What jobs of some classes need.
///
/// # Errors
/// Where the database does.
pub async fn classes(
    tx: &mut Tx,
    classes: impl IntoIterator<Item = i32>,
) -> Result<Vec<(i32, Needs)>, DbError> {
    let classes = Rows::list(tx.engine(), classes);
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select class_id, needs from classes
         where class_id = any($1)",
        "select class_id, needs from classes
         where class_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.json("needs")?))).collect()
}

/// Classes that have a queued job.
///
/// # Errors
/// Where the database does.
pub async fn ready_classes(tx: &mut Tx) -> Result<Vec<i32>, DbError> {
    // One probe of the partial index per class, whatever the length of the queue.
    let sql = "select c.class_id from classes c where (select 1 from queue q
                   where q.class_id = c.class_id and q.state = 'QUEUED' limit 1) is not null";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
}

/// The highest rank that is at work, for each class: what other replicas handed out.
///
/// # Errors
/// Where the database does.
pub async fn held_ranks(tx: &mut Tx) -> Result<Vec<(i32, SlotKind, i64)>, DbError> {
    let sql = "select c.class_id, c.needs ->> 'slot' as slot, max(q.rank) as rank
               from queue q join classes c on c.class_id = q.class_id
               where q.state in ('ASSIGNED', 'RUNNING') group by 1, 2";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.word("slot")?, row.get("rank")?))).collect()
}

/// Those of some classes that have a queued job.
///
/// # Errors
/// Where the database does.
pub async fn ready_among(tx: &mut Tx, classes: &BTreeSet<i32>) -> Result<Vec<i32>, DbError> {
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let classes = Rows::list(tx.engine(), classes.iter().copied());
    let sql = tx.either(
        "select r.v as class_id from unnest($1) as r(v) where (select 1 from queue q
             where q.class_id = r.v and q.state = 'QUEUED' limit 1) is not null",
        "select r.value ->> 'v' as class_id from json_each($1) r where (select 1 from queue q
             where q.class_id = r.value ->> 'v' and q.state = 'QUEUED' limit 1) is not null",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
}
