//! The HTTP of receipts.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::wallet::Page;
use protocol::{ErrorCode, Receipt};
use schemars::JsonSchema;
use serde::Deserialize;

use super::store;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{JobPath, Params, Reply, cursor, page, page_limit};

/// `GET /v1/jobs/{id}/receipt`.
///
/// # Errors
/// 403, 404.
pub async fn of_job(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<Receipt>, ApiError> {
    let mut tx = app.db.read().await?;
    let found = store::of_job(&mut tx, caller.client()?, job).await?;
    tx.commit().await?;
    let receipt = found
        .ok_or_else(ApiError::job_not_found)?
        .ok_or_else(|| ApiError::new(ErrorCode::ReceiptNotFound, "the job has no receipt (yet)"))?;
    Ok(Reply(StatusCode::OK, receipt))
}

/// `GET /v1/jobs/{id}/receipts`: the one that there is, or none.
///
/// # Errors
/// 403, 404.
pub async fn all_of_job(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<Page<Receipt>>, ApiError> {
    let mut tx = app.db.read().await?;
    let found = store::of_job(&mut tx, caller.client()?, job).await?;
    tx.commit().await?;
    let items = found.ok_or_else(ApiError::job_not_found)?.into_iter().collect();
    Ok(Reply(StatusCode::OK, Page { items, next: None }))
}

/// The query of `GET /v1/miner/receipts`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct List {
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// `GET /v1/miner/receipts`: of the key's wallet, newest first.
///
/// # Errors
/// 400, 403.
pub async fn of_miner(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<List>,
) -> Result<Reply<Page<Receipt>>, ApiError> {
    let wallet = caller.wallet()?;
    let limit = page_limit(query.limit)?;
    let cursor = cursor(query.cursor.as_deref())?;
    let mut tx = app.db.read().await?;
    let receipts = store::of_wallet(&mut tx, wallet, i64::from(limit) + 1, cursor).await?;
    tx.commit().await?;
    let Page { items, next } = page(receipts, limit, |placed| placed.transfer_id.to_string());
    let items = items.into_iter().map(|placed| placed.receipt).collect();
    Ok(Reply(StatusCode::OK, Page { items, next }))
}
