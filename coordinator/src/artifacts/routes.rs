//! The HTTP of files: miners upload artifacts and fetch inputs, clients the other way round.

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use protocol::client::{ArtifactList, StoredInput};
use protocol::miner::Uploaded;
use protocol::{ErrorCode, JobId, LeaseToken, Name, Sha256Hex};
use schemars::JsonSchema;
use serde::Deserialize;

use super::sending::{self, Asked, Download, SHA256_HEADER};
use super::store;
use super::upload::{self, Upload};
use super::{Kind, MIB, Unclaimed, commit, outliving};
use crate::accounts::{Binding, Caller};
use crate::app::{App, SharedApp};
use crate::dispatch::leases;
use crate::error::ApiError;
use crate::wire::{Created, JobPath, Params, Reply, Segments};

/// `POST /v1/miner/jobs/{id}/artifacts`.
///
/// # Errors
/// 403, 404, 409, 413, 415, 422.
pub async fn upload(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    upload: Upload,
) -> Result<Created<Uploaded>, ApiError> {
    caller.wallet()?;
    let items = upload::receive(&app, &caller, job, upload).await?;
    Ok(Created(Uploaded { items }))
}

/// `GET /v1/jobs/{id}/artifacts`.
///
/// # Errors
/// 403, 404.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<ArtifactList>, ApiError> {
    let mut tx = app.db.read().await?;
    let items = store::delivered(&mut tx, caller.client()?, job).await?;
    tx.commit().await?;
    let items = items.ok_or_else(ApiError::job_not_found)?;
    Ok(Reply(StatusCode::OK, ArtifactList { items }))
}

/// `GET /v1/jobs/{id}/artifacts/{n}`, and `HEAD`: the file, or a range of it.
///
/// # Errors
/// 403, 404 (also where it was deleted), 416.
pub async fn download(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments((job, no)): Segments<(String, String)>,
    asked: Asked,
) -> Result<Download, ApiError> {
    let client = caller.client()?;
    let job: JobId = job.parse().map_err(|_| ApiError::job_not_found())?;
    let no = no.parse().map_err(|_| artifact_not_found())?;
    let mut tx = app.db.read().await?;
    let file = store::artifact(&mut tx, client, job, no).await?;
    let gone = match file {
        Some(_) => None,
        None => store::output_was_deleted(&mut tx, client, job).await?,
    };
    tx.commit().await?;
    match (file, gone) {
        (Some(file), _) => sending::send(&app.artifacts, file, &asked).await,
        (None, Some(true)) => {
            let message = "the files of the job were deleted";
            Err(ApiError::new(ErrorCode::ArtifactNotFound, message))
        }
        (None, Some(false)) => Err(artifact_not_found()),
        (None, None) => Err(ApiError::job_not_found()),
    }
}

fn artifact_not_found() -> ApiError {
    ApiError::new(ErrorCode::ArtifactNotFound, "the job has no such artifact")
}

/// A file as the body of a request.
#[derive(Debug)]
pub struct RawFile {
    /// The hash that it must have, where the sender stated one.
    sha256: Option<Sha256Hex>,
    body: Body,
}

impl<S: Send + Sync> FromRequest<S> for RawFile {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        Ok(Self { sha256: announced(request.headers())?, body: request.into_body() })
    }
}

/// `POST /v1/inputs`.
///
/// # Errors
/// 400, 403, 413, 422.
pub async fn put_input(
    State(app): State<SharedApp>,
    caller: Caller,
    raw: RawFile,
) -> Result<Created<StoredInput>, ApiError> {
    let client = caller.client()?.clone();
    let max_bytes = u64::from(app.config.limits.input_mb) * MIB;
    let body = raw.body.into_data_stream();
    let chunks = body.map(|chunk| chunk.map_err(|_| ApiError::field("body", "broken off")));
    let file = app.artifacts.put(Kind::Input, max_bytes, chunks).await?;
    file.expect(raw.sha256)?;
    let stored =
        StoredInput { sha256: file.sha256, bytes: u64::try_from(file.size_bytes).unwrap_or(0) };
    outliving(record_input(app, client, file)).await?;
    Ok(Created(stored))
}

async fn record_input(app: SharedApp, client: Name, mut file: Unclaimed) -> Result<(), ApiError> {
    file.place().await?;
    let mut tx = app.db.write().await?;
    let mut files = Vec::new();
    if store::add_input(&mut tx, app.now(), &client, &file).await? {
        files.push(file);
    }
    Ok(commit(tx, &app.artifacts, files).await?)
}

fn announced(headers: &HeaderMap) -> Result<Option<Sha256Hex>, ApiError> {
    let Some(value) = headers.get(SHA256_HEADER) else { return Ok(None) };
    let hash = value.to_str().ok().and_then(|text| text.parse().ok());
    let bad = || ApiError::param(SHA256_HEADER, "must be 64 lower-case hex digits");
    hash.map(Some).ok_or_else(bad)
}

/// The query of `GET /v1/inputs/{sha256}`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ForJob {
    /// The job that names the input; absent: any that the miner holds.
    job: Option<JobId>,
    /// The lease of that job.
    lease_token: Option<LeaseToken>,
}

/// `GET /v1/inputs/{sha256}`: for a miner that holds a job which names it.
///
/// # Errors
/// 400, 403, 404, 409, 416.
pub async fn get_input(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(sha256): Segments<String>,
    Params(query): Params<ForJob>,
    asked: Asked,
) -> Result<Download, ApiError> {
    let wallet = caller.wallet()?;
    let sha256: Sha256Hex = sha256.parse().map_err(|_| input_not_found())?;
    let owner = match query.job {
        Some(job) => owner_by_lease(&app, &caller, job, query.lease_token, sha256).await?,
        None => {
            let (wallet, miner) = match &caller.binding {
                Binding::Open { .. } => (None, None),
                Binding::Miner { miner_id, .. } => (Some(wallet), miner_id.as_ref()),
                Binding::Client { .. } | Binding::Admin => (Some(wallet), None),
            };
            let mut tx = app.db.read().await?;
            let owner = store::client_of_named(&mut tx, wallet, miner, sha256).await?;
            tx.commit().await?;
            owner.ok_or_else(input_not_found)?
        }
    };
    let mut tx = app.db.read().await?;
    let file = store::input(&mut tx, &owner, sha256).await?;
    tx.commit().await?;
    sending::send(&app.artifacts, file.ok_or_else(input_not_found)?, &asked).await
}

async fn owner_by_lease(
    app: &App,
    caller: &Caller,
    job: JobId,
    token: Option<LeaseToken>,
    sha256: Sha256Hex,
) -> Result<Name, ApiError> {
    let held = leases::held(app, caller, job, token).await?;
    let names = held.spec.input.files.iter().any(|file| file.sha256 == sha256);
    if names { Ok(held.client) } else { Err(input_not_found()) }
}

fn input_not_found() -> ApiError {
    let message = "none of your jobs names an input of this hash";
    ApiError::new(ErrorCode::InputNotFound, message)
}
