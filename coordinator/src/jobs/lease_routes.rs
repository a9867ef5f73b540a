//! The HTTP of a held job, as its miner uses it: ack, progress, log, failure, proof.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use protocol::Proof;
use protocol::miner::{Ack, Fail, LogChunk, LogReply, Progress, ProgressReply};

use super::store;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::dispatch::leases;
use crate::error::ApiError;
use crate::settlement;
use crate::wire::{Body, JobPath, Reply, answered};

/// The largest chunk of a log, in bytes.
const MAX_CHUNK: usize = 64 * 1024;

/// `POST /v1/miner/jobs/{id}/ack`.
///
/// # Errors
/// 403, 404, 409.
pub async fn ack(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Body<Ack>,
) -> Result<Response, ApiError> {
    caller.wallet()?;
    let answer = leases::ack(&app, &caller, job, body.value.lease_token, body.idempotency).await?;
    Ok(answered(answer, |acked| Reply(StatusCode::OK, acked)))
}

/// `POST /v1/miner/jobs/{id}/progress`.
///
/// # Errors
/// 403, 404, 409, 422.
pub async fn progress(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Body<Progress>,
) -> Result<Reply<ProgressReply>, ApiError> {
    caller.wallet()?;
    let reply = leases::progress(&app, &caller, job, body.value).await?;
    Ok(Reply(StatusCode::OK, reply))
}

/// `POST /v1/miner/jobs/{id}/logs`.
///
/// # Errors
/// 403, 404, 409, 422.
pub async fn logs(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Body<LogChunk>,
) -> Result<Reply<LogReply>, ApiError> {
    caller.wallet()?;
    let mut chunk = body.value;
    if chunk.text.len() > MAX_CHUNK {
        return Err(ApiError::field("text", format!("must be at most {MAX_CHUNK} bytes")));
    }
    if chunk.seq < 0 {
        return Err(ApiError::field("seq", "must not be negative"));
    }
    // Programs print what they like; PostgreSQL's text has no U+0000.
    chunk.text = chunk.text.replace('\0', "\u{fffd}");
    let held = leases::held(&app, &caller, job, chunk.lease_token).await?;
    let mut tx = app.db.write().await?;
    let cap = app.config.limits.log_bytes;
    let accepted = store::append_log(&mut tx, app.now(), (job, held.fence), &chunk, cap).await?;
    tx.commit().await?;
    Ok(Reply(StatusCode::OK, LogReply { accepted }))
}

/// `POST /v1/miner/jobs/{id}/fail`.
///
/// # Errors
/// 403, 404, 409, 422.
pub async fn fail(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Body<Fail>,
) -> Result<Response, ApiError> {
    caller.wallet()?;
    let answer = settlement::fail(&app, &caller, job, body.value, body.idempotency).await?;
    Ok(answered(answer, |failed| Reply(StatusCode::OK, failed)))
}

/// `POST /v1/miner/proof`.
///
/// # Errors
/// 403, 404, 409, 422.
pub async fn proof(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<Proof>,
) -> Result<Response, ApiError> {
    caller.wallet()?;
    let answer = app.settlement.prove(caller, body.value, body.idempotency).await?;
    Ok(answered(answer, |(credited, first)| {
        Reply(if first { StatusCode::CREATED } else { StatusCode::OK }, credited)
    }))
}
