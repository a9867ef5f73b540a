//! One request of its own transaction, guarded by its idempotency key if it has one: claimed, done,
//! kept, committed.
//!
//! The corridors, which put many requests in one transaction, call [`super::store`] themselves.

use axum::http::StatusCode;
use protocol::Timestamp;
use serde::Serialize;

use super::{IdempotencyKey, StoredReply, store};
use crate::db::{DbError, Tx};
use crate::error::ApiError;

/// Claims the key for this transaction. `Some`: the request took effect before, and this is what
/// it was answered. The inner error is `IDEMPOTENCY_IN_FLIGHT` or `IDEMPOTENCY_KEY_REUSED`.
///
/// # Errors
/// Where the database fails.
pub async fn claim(
    tx: &mut Tx,
    key: Option<&IdempotencyKey>,
) -> Result<Result<Option<StoredReply>, ApiError>, DbError> {
    let Some(key) = key else { return Ok(Ok(None)) };
    Ok(store::begin(tx, &[key]).await?.pop().unwrap_or(Ok(None)))
}

/// Keeps what the request is answered: `status` and the value, or the error's own.
///
/// # Errors
/// Where the database fails.
pub async fn keep<T: Serialize>(
    tx: &mut Tx,
    now: Timestamp,
    key: Option<&IdempotencyKey>,
    status: StatusCode,
    outcome: &Result<T, ApiError>,
) -> Result<(), DbError> {
    let Some(key) = key else { return Ok(()) };
    store::finish(tx, now, &[(key, StoredReply::of(status.as_u16(), outcome))]).await
}

/// [`claim`], for those who tell the caller either error.
///
/// # Errors
/// `IDEMPOTENCY_IN_FLIGHT`, `IDEMPOTENCY_KEY_REUSED`, or where the database fails.
pub async fn begin(
    tx: &mut Tx,
    key: Option<&IdempotencyKey>,
) -> Result<Option<StoredReply>, ApiError> {
    claim(tx, key).await?
}

/// Keeps the reply, commits, and hands the reply back.
///
/// # Errors
/// Where the database fails: then nothing took effect.
pub async fn commit<T: Serialize>(
    mut tx: Tx,
    now: Timestamp,
    key: Option<&IdempotencyKey>,
    status: StatusCode,
    reply: T,
) -> Result<T, ApiError> {
    let outcome = Ok(reply);
    keep(&mut tx, now, key, status, &outcome).await?;
    tx.commit().await?;
    outcome
}
