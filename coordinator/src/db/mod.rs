//! The database: two pools behind one enum, transactions, and one way to run a statement on either.
//!
//! Statements are text with `$n`, which both engines accept. What differs is how a moment and a
//! uuid are stored (PostgreSQL has types for them, SQLite gets integers and text); [`Args`] and
//! [`Row`] hide that. Set-based statements take their rows as one JSON argument, or
//! column by column where that is a hot path.

mod args;
mod columns;
mod commits;
mod error;
mod notices;
mod postgres;
mod rows;
mod sqlite;
mod storable;

use std::sync::Arc;
use std::time::Duration;

pub use args::{Args, RowBuilder, Rows};
pub use commits::{Changes, Commits};
pub use error::DbError;
pub use notices::Notices;
pub use postgres::ANSWER_TIMEOUT;
use postgres::bounded;
use protocol::JobId;
pub use rows::{Column, Row};
use sea_query::Values;
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Sqlite, SqlitePool, Transaction};
pub use storable::storable;

static POSTGRES_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/postgres");
static SQLITE_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite");

/// Which database engine is behind a [`Db`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A connected database.
#[derive(Debug, Clone)]
pub struct Db {
    pools: Pools,
    commits: Arc<Commits>,
}

#[derive(Debug, Clone)]
enum Pools {
    Postgres(PgPool),
    /// One writer, so that writes queue here and not in SQLite's busy handler.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
}

/// Why a database URL was refused.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// The scheme names no engine that we have.
    #[error("database URL must begin with postgres://, postgresql:// or sqlite:")]
    Scheme,
    /// The driver did not understand the rest.
    #[error("database URL: {0}")]
    Driver(#[source] sqlx::Error),
}

/// How long a request waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a lost conflict is tried again before the caller is told.
const CONFLICTS: usize = 5;

/// The engine that a URL names, without connecting.
///
/// # Errors
/// [`UrlError::Scheme`] where it names none.
pub fn engine_of(url: &str) -> Result<Engine, UrlError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Engine::Postgres)
    } else if url.starts_with("sqlite:") {
        Ok(Engine::Sqlite)
    } else {
        Err(UrlError::Scheme)
    }
}

impl Db {
    /// Prepares pools for `url`; connections are made when they are needed, so that a coordinator
    /// can start before its database.
    ///
    /// # Errors
    /// Where the URL is malformed.
    pub fn open(url: &str, max_connections: u32) -> Result<Self, UrlError> {
        let pools = match engine_of(url)? {
            Engine::Postgres => Pools::Postgres(postgres::pool(url, max_connections)?),
            Engine::Sqlite => sqlite::pools(url, max_connections)?,
        };
        Ok(Self { pools, commits: Arc::new(Commits::new()) })
    }

    /// Which engine this is.
    pub const fn engine(&self) -> Engine {
        match self.pools {
            Pools::Postgres(_) => Engine::Postgres,
            Pools::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// Brings the schema up to date; safe to call from several processes at once.
    ///
    /// # Errors
    /// Where the database is away, or holds a schema that is newer than this build.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        match &self.pools {
            Pools::Postgres(pool) => {
                let patient = postgres::migrating(pool);
                let migrated = POSTGRES_MIGRATIONS.run(&patient).await;
                patient.close().await;
                migrated
            }
            Pools::Sqlite { writer, .. } => SQLITE_MIGRATIONS.run(writer).await,
        }
    }

    /// Begins a transaction that writes. On SQLite it holds the only writer until it ends.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] where no connection is to be had.
    pub async fn write(&self) -> Result<Tx, DbError> {
        let inner = match &self.pools {
            Pools::Postgres(pool) => {
                Inner::Postgres(postgres::begin(pool, postgres::BEGIN_WRITING).await?)
            }
            // A deferred transaction that reads first fails at its first write as soon as anybody
            // else wrote in between, and no busy timeout helps.
            Pools::Sqlite { writer, .. } => {
                Inner::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
        };
        Ok(self.tx(inner))
    }

    /// Begins a transaction that only reads.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] where no connection is to be had.
    pub async fn read(&self) -> Result<Tx, DbError> {
        let inner = match &self.pools {
            Pools::Postgres(pool) => {
                Inner::Postgres(postgres::begin(pool, postgres::BEGIN_READING).await?)
            }
            Pools::Sqlite { readers, .. } => Inner::Sqlite(readers.begin().await?),
        };
        Ok(self.tx(inner))
    }

    fn tx(&self, inner: Inner) -> Tx {
        Tx { inner, changed: Vec::new(), commits: Arc::clone(&self.commits) }
    }

    /// What transactions of this process change, as they commit.
    pub fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.read().await?.rows("select 1 as one", Args::new()).await?;
        Ok(())
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

/// Does a transaction again when it lost a conflict, a few times.
///
/// # Errors
/// As the last try.
pub async fn again<T, Try: Future<Output = Result<T, DbError>>>(
    attempt: impl Fn() -> Try,
) -> Result<T, DbError> {
    for _ in 0..CONFLICTS {
        match attempt().await {
            Err(DbError::Conflict(_)) => {}
            other => return other,
        }
    }
    attempt().await
}

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    changed: Vec<(JobId, bool)>,
    commits: Arc<Commits>,
}

#[derive(Debug)]
enum Inner {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Tx {
    /// Which engine this is, for the few statements that differ.
    pub const fn engine(&self) -> Engine {
        match self.inner {
            Inner::Postgres(_) => Engine::Postgres,
            Inner::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Of two spellings of a statement, the one for this engine.
    pub const fn either(&self, postgres: &'static str, sqlite: &'static str) -> &'static str {
        match self.inner {
            Inner::Postgres(_) => postgres,
            Inner::Sqlite(_) => sqlite,
        }
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// As classified by [`DbError`].
    pub async fn execute(&mut self, sql: &'static str, args: Args) -> Result<u64, DbError> {
        Ok(match &mut self.inner {
            Inner::Postgres(tx) => {
                let query = sqlx::query_with(sql, args.for_postgres()?);
                bounded(ANSWER_TIMEOUT, query.execute(&mut **tx)).await?.rows_affected()
            }
            Inner::Sqlite(tx) => {
                let query = sqlx::query_with(sql, SqlxValues(args.for_sqlite()));
                query.execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// As classified by [`DbError`].
    pub async fn rows(&mut self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        Ok(match &mut self.inner {
            Inner::Postgres(tx) => {
                let query = sqlx::query_with(sql, args.for_postgres()?);
                let rows = bounded(ANSWER_TIMEOUT, query.fetch_all(&mut **tx)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Inner::Sqlite(tx) => sqlx::query_with(sql, SqlxValues(args.for_sqlite()))
                .fetch_all(&mut **tx)
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
        })
    }

    /// Runs a statement of which at most one row is wanted.
    ///
    /// # Errors
    /// As classified by [`DbError`].
    pub async fn row(&mut self, sql: &'static str, args: Args) -> Result<Option<Row>, DbError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs a statement that sea-query assembled at run time.
    ///
    /// # Errors
    /// As classified by [`DbError`].
    pub async fn select(
        &mut self,
        statement: &sea_query::SelectStatement,
    ) -> Result<Vec<Row>, DbError> {
        Ok(match &mut self.inner {
            Inner::Postgres(tx) => {
                let (sql, values) = statement.build(sea_query::PostgresQueryBuilder);
                let query = sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values));
                let rows = bounded(ANSWER_TIMEOUT, query.fetch_all(&mut **tx)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Inner::Sqlite(tx) => {
                let (sql, values) = statement.build(sea_query::SqliteQueryBuilder);
                let values = Values(values.0.into_iter().map(args::for_sqlite).collect());
                sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values))
                    .fetch_all(&mut **tx)
                    .await?
                    .into_iter()
                    .map(Row::Sqlite)
                    .collect()
            }
        })
    }

    /// Notes that a job has new events; `elsewhere`: somebody follows it at another replica. Told
    /// to [`Commits`] if the transaction commits.
    pub fn changed(&mut self, job: JobId, elsewhere: bool) {
        self.changed.push((job, elsewhere));
    }

    /// Who this process is among those that share the database.
    pub fn replica(&self) -> uuid::Uuid {
        self.commits.replica()
    }

    /// Commits.
    ///
    /// # Errors
    /// Where the commit did not go through.
    pub async fn commit(self) -> Result<(), DbError> {
        match self.inner {
            Inner::Postgres(tx) => bounded(ANSWER_TIMEOUT, tx.commit()).await?,
            Inner::Sqlite(tx) => tx.commit().await?,
        }
        self.commits.add(self.changed);
        Ok(())
    }
}
