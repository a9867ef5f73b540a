//! One request of its own transaction, guarded by its idempotency key if it has one.
//!
//! The corridors, which put many requests in one transaction, call [`super::store`] themselves.

use axum::http::StatusCode;
use protocol::Timestamp;
use serde::Serialize;

use super::{IdempotencyKey, StoredReply, store};
use crate::db::{DbError, Tx};
use crate::error::ApiError;

/// Claims the key for this transaction. `Some`: the request took effect before, and this is what
/// it was answered.
///
/// # Errors
/// `IDEMPOTENCY_IN_FLIGHT`, `IDEMPOTENCY_KEY_REUSED`, or where the database fails.
pub async fn begin(
    tx: &mut Tx,
    key: Option<&IdempotencyKey>,
) -> Result<Option<StoredReply>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    store::begin(tx, &[key]).await?.pop().unwrap_or(Ok(None))
}

/// Stores the reply, commits, and hands the reply back.
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
    if let Some(key) = key {
        let body = serde_json::to_value(&reply).map_err(|error| {
            tracing::error!(%error, "a reply could not be stored as JSON");
            ApiError::internal()
        })?;
        let stored = StoredReply { status: status.as_u16(), body };
        store::finish(&mut tx, now, &[(key, stored)]).await?;
    }
    tx.commit().await.map_err(|error: DbError| error.into()).map(|()| reply)
}
