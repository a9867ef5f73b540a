//! The SQL of controls: one row per version.

use protocol::Timestamp;
use serde_json::json;

use super::InForce;
use crate::db::{Args, DbError, Engine, Row, Tx};

/// The two numbers of the advisory lock on the newest version; wallets have the first number 1.
const LOCK: (i32, i32) = (2, 0);

fn in_force(row: &Row) -> Result<InForce, DbError> {
    Ok(InForce::new(row.get("version")?, row.json("body")?))
}

/// The decisions in force, if they are newer than `version`.
///
/// # Errors
/// Where the database fails.
pub async fn newer(tx: &mut Tx, version: i64) -> Result<Option<InForce>, DbError> {
    let sql = "select version, body from controls where version > $1
               order by version desc limit 1";
    tx.row(sql, Args::new().with(version)).await?.as_ref().map(in_force).transpose()
}

/// The decisions in force. Nobody else changes them until the transaction ends.
///
/// # Errors
/// Where the database fails.
pub async fn lock(tx: &mut Tx) -> Result<InForce, DbError> {
    if tx.engine() == Engine::Postgres {
        // In a statement of its own: the look's snapshot must be younger than the lock.
        let sql = "select pg_advisory_xact_lock($1, $2)";
        tx.rows(sql, Args::new().with(LOCK.0).with(LOCK.1)).await?;
    }
    Ok(newer(tx, 0).await?.unwrap_or_default())
}

/// Adds a version.
///
/// # Errors
/// Where the database fails.
pub async fn add(
    tx: &mut Tx,
    now: Timestamp,
    actor: &str,
    controls: &InForce,
) -> Result<(), DbError> {
    let sql = "insert into controls (version, body, actor, created_at) values ($1, $2, $3, $4)";
    let args =
        Args::new().with(controls.version).with(json!(controls.controls)).with(actor).with(now);
    DbError::expect("put controls", 1, tx.execute(sql, args).await?)
}
