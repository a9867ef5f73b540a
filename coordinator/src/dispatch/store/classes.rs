//! Classes of requirements, and which of them have work.

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

/// Classes that have a queued job, besides some.
///
/// # Errors
/// Where the database does.
pub async fn ready_classes(tx: &mut Tx, besides: &[i32]) -> Result<Vec<i32>, DbError> {
    let besides = Rows::list(tx.engine(), besides.iter().copied());
    // One probe of the partial index per class, whatever the length of the queue.
    let sql = tx.either(
        "select c.class_id from classes c where c.class_id <> all($1) and (select 1 from queue q
             where q.class_id = c.class_id and q.state = 'QUEUED' limit 1) is not null",
        "select c.class_id from classes c
         where c.class_id not in (select value ->> 'v' from json_each($1))
           and (select 1 from queue q
             where q.class_id = c.class_id and q.state = 'QUEUED' limit 1) is not null",
    );
    let rows = tx.rows(sql, Args::new().with_rows(besides)).await?;
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

/// Those of some classes that have a queued job: each with the rank below which none waits.
///
/// # Errors
/// Where the database does.
pub async fn ready_among(
    tx: &mut Tx,
    classes: impl Iterator<Item = (i32, i64)>,
) -> Result<Vec<i32>, DbError> {
    let mut rows = Rows::new(tx.engine());
    for (class, from) in classes {
        rows.row().set("class_id", class).set("from_rank", from).done();
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select r.class_id from unnest($1, $2) as r(class_id, from_rank)
         where (select 1 from queue q where q.class_id = r.class_id and q.state = 'QUEUED'
                and q.rank >= r.from_rank limit 1) is not null",
        "select r.value ->> 'class_id' as class_id from json_each($1) r
         where (select 1 from queue q where q.class_id = r.value ->> 'class_id'
                and q.state = 'QUEUED' limit 1) is not null",
    );
    let rows = tx.rows(sql, Args::new().with_columns(rows)).await?;
    rows.iter().map(|row| row.get("class_id")).collect()
}
