//! Notices between replicas: PostgreSQL's LISTEN and NOTIFY. A hint, never a transport: a notice
//! may be lost, and whoever waits for one looks for itself now and then.

use sqlx::postgres::PgListener;

use super::{Db, DbError, Pools};

/// Where replicas hear of each other.
const CHANNEL: &str = "aitbc_work";

/// Hears what other replicas say. Reconnects by itself; what was said meanwhile is lost.
#[derive(Debug)]
pub struct Notices(PgListener);

impl Db {
    /// Listens; `None` on SQLite, which has no second replica.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Notices>, DbError> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Notices(listener)))
    }

    /// Tells other replicas something of at most 7,999 bytes; on SQLite there are none.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub async fn notify(&self, text: &str) -> Result<(), DbError> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(()) };
        sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(text).execute(pool).await?;
        Ok(())
    }
}

impl Notices {
    /// The next notice; `None` after a reconnection, when some may have been missed.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub async fn next(&mut self) -> Result<Option<String>, DbError> {
        Ok(self.0.try_recv().await?.map(|notice| notice.payload().to_owned()))
    }
}
