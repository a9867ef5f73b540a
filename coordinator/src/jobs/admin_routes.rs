//! The jobs of all clients, as an operator sees them.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::admin::AdminJob;
use protocol::wallet::Page;

use super::listing::AllJobs;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{Params, Reply};

/// `GET /v1/admin/jobs`: newest first.
///
/// # Errors
/// 400, 403.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<AllJobs>,
) -> Result<Reply<Page<AdminJob>>, ApiError> {
    caller.admin()?;
    let Page { items, next } = query.page(&app).await?;
    let items =
        items.into_iter().map(|job| AdminJob { client: job.client, job: job.view }).collect();
    Ok(Reply(StatusCode::OK, Page { items, next }))
}
