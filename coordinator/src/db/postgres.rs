//! How PostgreSQL is spoken to over a network that may swallow everything without a word: no wait
//! for it is without an end, here or there.

use std::io;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Error, Executor as _, PgConnection, Postgres, Transaction};
use tokio::time::timeout;

use super::{ACQUIRE_TIMEOUT, UrlError};

/// How long an answer may take. The server itself gives up a statement after 15 s and says so:
/// whoever says nothing for longer is not there.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the shortest question and its answer may take. Less than a request waits for a
/// connection, so that a dead one can be replaced while it does.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// What writes, and what it reads for that, is a handful of rows by their keys. A planner that chooses
/// by what it last counted scans whole tables for them while these grow: on a young database, and
/// after a rush. Where it counted one row, reading an index from end to end looks as cheap as looking
/// up a key in it, too, and it does so wherever the order of an index, or the index's own condition,
/// is of use to a statement. Statements that write leave it no such use:
///
/// - rows that were brought along find theirs by `t.id = any(array[r.id])`, which can be looked up
///   but not merged;
/// - whether there is one row of a kind is `(select 1 ... limit 1) is not null`, since an `exists`
///   becomes a join;
/// - what is looked up by an index with a condition of its own is a subquery with an `offset 0`, which
///   becomes no join;
/// - what has to come in order is not ordered by the column of an index;
/// - a condition that is also the condition of an index of another column is spelled differently.
const BY_INDEX: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// The opposite: what PostgreSQL does of itself.
const BY_COUNT: [(&str, &str); 5] = [
    ("enable_seqscan", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_hashjoin", "on"),
    ("enable_mergejoin", "on"),
    ("plan_cache_mode", "auto"),
];

/// After so many transactions a connection plans its statements anew. A plan is made for a table of the
/// size that it has then, and kept until PostgreSQL counts it, which may be a minute later: by then
/// the queue may be a thousand times as long. A prime, so that all connections have their turn.
const PLANS_LAST: usize = 101;

/// Begins a transaction that writes.
pub(super) const BEGIN_WRITING: &str = "begin";

/// Begins a transaction of lists and sums, which are planned by what was counted: [`BY_COUNT`].
pub(super) const BEGIN_READING: &str = "begin; set local enable_seqscan = on; \
    set local enable_bitmapscan = on; set local enable_hashjoin = on; \
    set local enable_mergejoin = on; set local plan_cache_mode = auto";

/// A pool for statements. One of `max_connections` is left to [`listening`].
pub(super) fn pool(url: &str, max_connections: u32) -> Result<PgPool, UrlError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(UrlError::Driver)?
        .application_name("aitbc-coordinator")
        // Short: a batch that waits for a lock holds up all that is queued behind it.
        .options([
            ("lock_timeout", "2s"),
            ("statement_timeout", "15s"),
            ("idle_in_transaction_session_timeout", "15s"),
        ])
        .options(BY_INDEX);
    let released = AtomicUsize::new(1);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections.saturating_sub(1).max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // The pool's own tests wait for ever, and the place of the connection is lost meanwhile.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(answers(connection)))
        .after_release(move |connection, _| {
            let released = released.fetch_add(1, Ordering::Relaxed);
            if released.is_multiple_of(PLANS_LAST) {
                return Box::pin(plans_anew(connection));
            }
            Box::pin(answers(connection))
        })
        .connect_lazy_with(options))
}

/// A pool for one connection that listens: one that died in silence is left behind with its pool.
pub(super) fn listening(statements: &PgPool) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with((*statements.connect_options()).clone())
}

/// A pool for one connection that changes the schema, which takes as long as it takes on a large
/// database, and waits for what others have begun.
pub(super) fn migrating(statements: &PgPool) -> PgPool {
    let patient = [
        ("lock_timeout", "0"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
    ];
    let options = (*statements.connect_options()).clone().options(patient).options(BY_COUNT);
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options)
}

/// The statements stay prepared.
async fn plans_anew(connection: &mut PgConnection) -> Result<bool, Error> {
    bounded(PING_TIMEOUT, connection.execute("discard plans")).await?;
    Ok(true)
}

/// Begins a transaction by `statement`. Of a connection that is idle nothing is asked before: that it
/// begins is answer enough, and where it does not, another one is looked for.
pub(super) async fn begin(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, Error> {
    match timeout(PING_TIMEOUT, pool.try_begin_with(statement)).await {
        Ok(Ok(Some(begun))) => Ok(begun),
        _ => bounded(ANSWER_TIMEOUT, pool.begin_with(statement)).await,
    }
}

async fn answers(connection: &mut PgConnection) -> Result<bool, Error> {
    bounded(PING_TIMEOUT, connection.ping()).await?;
    Ok(true)
}

/// What `asked` comes to within `time`. Given up, its connection is of no use any more.
pub(super) async fn bounded<T>(
    time: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(time, asked).await.unwrap_or_else(|_| {
        let message = format!("PostgreSQL said nothing for {} s", time.as_secs());
        Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
    })
}
