//! The HTTP of the operator's numbers.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::admin::{MinerCounts, Stats};

use super::store;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::Reply;

/// A day, in seconds.
const DAY_SECS: i64 = 24 * 3600;

/// `GET /v1/admin/stats`.
///
/// # Errors
/// 403.
pub async fn stats(State(app): State<SharedApp>, caller: Caller) -> Result<Reply<Stats>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.read().await?;
    let live_jobs = store::live_counts(&mut tx).await?;
    let last_day = store::counts_since(&mut tx, now.plus_secs(-DAY_SECS)).await?;
    let (known, draining) = store::miners(&mut tx).await?;
    let issued = store::issued(&mut tx).await?;
    tx.commit().await?;
    let online = app.presence.online(now).len() as u64;
    let miners = MinerCounts { known, online, draining };
    Ok(Reply(StatusCode::OK, Stats { server_time: now, live_jobs, last_day, miners, issued }))
}
