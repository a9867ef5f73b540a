//! The HTTP of controls.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::control::Controls;

use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{Body, Reply};

/// `GET /v1/admin/controls`.
///
/// # Errors
/// 403.
pub async fn get(
    State(app): State<SharedApp>,
    caller: Caller,
) -> Result<Reply<Controls>, ApiError> {
    caller.admin()?;
    // Another replica may have changed them just now.
    app.controls.refresh(&app.db).await?;
    Ok(Reply(StatusCode::OK, app.controls.in_force().to_wire()))
}

/// `PUT /v1/admin/controls`: in force here when this returns, on other replicas within a second.
///
/// # Errors
/// 403, 409, 422.
pub async fn put(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<Controls>,
) -> Result<Reply<Controls>, ApiError> {
    caller.admin()?;
    let in_force = super::put(&app.db, app.now(), &caller.key_id, body.value).await?;
    let reply = in_force.to_wire();
    app.controls.take_over(in_force);
    Ok(Reply(StatusCode::OK, reply))
}
