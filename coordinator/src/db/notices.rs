//! Notices between replicas: PostgreSQL's LISTEN and NOTIFY. A hint, never a transport: a notice
//! may be lost, and whoever waits for one looks for itself now and then.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgListener, PgPool};
use tokio::time::timeout;

use super::postgres::{ANSWER_TIMEOUT, bounded, listening};
use super::{Db, DbError, Pools};

/// Where replicas hear of each other.
const CHANNEL: &str = "aitbc_work";

/// After how long a silence it is asked whether anybody is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// Hears what other replicas say. Reconnects by itself; what was said meanwhile is lost.
#[derive(Debug)]
pub struct Notices {
    listener: PgListener,
    /// With whose end this ends, too.
    statements: PgPool,
}

impl Db {
    /// Listens; `None` on SQLite, which has no second replica.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Notices>, DbError> {
        let Pools::Postgres(statements) = &self.pools else { return Ok(None) };
        if statements.is_closed() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        let pool = listening(statements);
        let mut listener = PgListener::connect_with(&pool).await?;
        bounded(ANSWER_TIMEOUT, listener.listen(CHANNEL)).await?;
        Ok(Some(Notices { listener, statements: statements.clone() }))
    }

    /// Tells other replicas something of at most 7,999 bytes; on SQLite there are none.
    ///
    /// # Errors
    /// Where the database cannot be reached.
    pub async fn notify(&self, text: &str) -> Result<(), DbError> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(()) };
        let notify = sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(text);
        bounded(ANSWER_TIMEOUT, notify.execute(pool)).await?;
        Ok(())
    }
}

impl Notices {
    /// The next notice; `None` after a reconnection, when some may have been missed.
    ///
    /// # Errors
    /// Where the database cannot be reached, or says nothing any more: listen anew.
    pub async fn next(&mut self) -> Result<Option<String>, DbError> {
        let mut closed = self.statements.close_event();
        loop {
            let notice = closed.do_until(timeout(SILENCE, self.listener.try_recv())).await?;
            let Ok(notice) = notice else {
                bounded(ANSWER_TIMEOUT, self.still_there()).await?;
                continue;
            };
            return Ok(notice?.map(|notice| notice.payload().to_owned()));
        }
    }

    /// A connection that nothing is sent over never learns that its other end is gone.
    async fn still_there(&mut self) -> Result<(), sqlx::Error> {
        use sqlx::Acquire as _;
        (&mut self.listener).acquire().await?.ping().await
    }
}
