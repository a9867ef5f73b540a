//! The HTTP of a held job, as its miner uses it: ack, progress, log, failure, proof.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::Proof;
use protocol::miner::{Ack, Acked, Fail, Failed, LogChunk, LogReply, Progress, ProgressReply};
use protocol::proof::Credited;

use crate::accounts::{Answer, Caller};
use crate::app::SharedApp;
use crate::dispatch::{leases, log};
use crate::error::ApiError;
use crate::settlement;
use crate::wire::{Body, JobPath, Recorded, Reply, answered};

/// `POST /v1/miner/jobs/{id}/ack`.
///
/// # Errors
/// 403, 404, 409.
pub async fn ack(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Body<Ack>,
) -> Result<Answer<Reply<Acked>>, ApiError> {
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
    let reply = log::append(&app, &caller, job, body.value).await?;
    Ok(Reply(StatusCode::OK, reply))
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
) -> Result<Answer<Reply<Failed>>, ApiError> {
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
) -> Result<Answer<Recorded<Credited>>, ApiError> {
    caller.wallet()?;
    let answer = app.settlement.prove(caller, body.value, body.idempotency).await?;
    Ok(answered(
        answer,
        |(credited, first)| {
            if first { Recorded::First(credited) } else { Recorded::Again(credited) }
        },
    ))
}
