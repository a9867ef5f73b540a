//! How SQLite is opened: one connection that writes, others that read.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection as _, Error};

use super::{ACQUIRE_TIMEOUT, Pools, UrlError};

pub(super) fn pools(url: &str, max_connections: u32) -> Result<Pools, UrlError> {
    let in_memory = url.contains(":memory:");
    let options = SqliteConnectOptions::from_str(url)
        .map_err(UrlError::Driver)?
        .busy_timeout(Duration::from_secs(5));
    // Only forbidden to write, not opened read-only: a reader may have to recover the WAL.
    let reading = options.clone().pragma("query_only", "on");
    let writing = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // The ledger is in this file: a commit that was answered must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .auto_vacuum(SqliteAutoVacuum::Incremental);
    let pool = || {
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        if in_memory { pool } else { pool.after_release(|one, _| Box::pin(is_free(one))) }
    };
    // A memory database lives in its connection: readers share it, and it is never let go.
    let writer = pool()
        .max_connections(1)
        .min_connections(u32::from(in_memory))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(writing);
    let readers = if in_memory {
        writer.clone()
    } else {
        pool().max_connections(max_connections).connect_lazy_with(reading)
    };
    Ok(Pools::Sqlite { writer, readers })
}

/// Whether a connection can begin another transaction. Where SQLite itself has rolled one back, which
/// it does when the disk is full, the driver still believes that it is in it, for ever.
async fn is_free(connection: &mut SqliteConnection) -> Result<bool, Error> {
    // A rollback that was begun is over when the ping is answered.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
mod tests {
    use crate::db::{Args, Db};

    #[tokio::test]
    async fn a_transaction_that_sqlite_itself_ended_does_not_stop_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite:{}", dir.path().join("db").display()), 2).unwrap();
        for _ in 0..3 {
            let mut ended = db.write().await.unwrap();
            ended.execute("rollback", Args::new()).await.unwrap();
            drop(ended);
            let mut next = db.write().await.unwrap();
            next.execute("create table if not exists t (a integer)", Args::new()).await.unwrap();
            next.commit().await.unwrap();
        }
    }
}
