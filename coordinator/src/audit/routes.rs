//! The HTTP of the audit log.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::control::AuditLine;
use protocol::wallet::Page;
use schemars::JsonSchema;
use serde::Deserialize;

use super::store;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{Params, Reply, page, page_limit};

/// The query of `GET /v1/admin/audit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<i64>,
    /// Only acts of this kind, as the lines name them.
    action: Option<String>,
}

/// `GET /v1/admin/audit`: newest first.
///
/// # Errors
/// 400, 403.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<List>,
) -> Result<Reply<Page<AuditLine>>, ApiError> {
    caller.admin()?;
    let limit = page_limit(query.limit)?;
    let action = query.action.as_deref();
    if action.is_some_and(|action| action.contains('\0')) {
        return Err(ApiError::param("action", "must not contain U+0000"));
    }
    let mut tx = app.db.read().await?;
    let lines = store::list(&mut tx, action, i64::from(limit) + 1, query.cursor).await?;
    tx.commit().await?;
    Ok(Reply(StatusCode::OK, page(lines, limit, |line| line.id.to_string())))
}
