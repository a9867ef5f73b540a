//! SQL of the history.

use super::Event;
use crate::db::{Args, DbError, Rows, Tx};

/// Appends events.
///
/// # Errors
/// Where the database refuses them; a number that is taken is a fault of ours.
pub async fn append(tx: &mut Tx, events: &[Event]) -> Result<(), DbError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for event in events {
        rows.row()
            .set("job_id", event.job_id)
            .set("seq", event.seq)
            .set("at", event.at)
            .set("kind", event.kind)
            .set("data", event.data.clone())
            .done();
    }
    let sql = tx.either(
        "insert into job_events (job_id, seq, at, kind, data)
         select job_id, seq, at, kind, data from jsonb_to_recordset($1)
             as r(job_id uuid, seq int, at timestamptz, kind text, data jsonb)",
        "insert into job_events (job_id, seq, at, kind, data)
         select value ->> 'job_id', value ->> 'seq', value ->> 'at', value ->> 'kind', value -> 'data'
         from json_each($1)",
    );
    let appended = tx.execute(sql, Args::new().with_rows(rows)).await?;
    DbError::expect("append events", events.len() as u64, appended)
}
