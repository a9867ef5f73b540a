//! The HTTP of files: miners upload artifacts and fetch inputs, clients the other way round.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use protocol::client::{ArtifactList, StoredInput, download_name};
use protocol::miner::Uploaded;
use protocol::{ErrorCode, JobId, LeaseToken, Name, Sha256Hex};
use serde::Deserialize;

use super::store::{self, Sendable};
use super::upload::{self, Upload};
use super::{Kind, MIB, Unclaimed, commit, outliving};
use crate::accounts::{Binding, Caller};
use crate::app::{App, SharedApp};
use crate::dispatch::leases;
use crate::error::ApiError;
use crate::wire::{JobPath, Params, Reply, Segments};

/// The header in which the sender of a file states its hash, and the one in which it is sent.
const SHA256_HEADER: &str = "x-content-sha256";

/// `POST /v1/miner/jobs/{id}/artifacts`.
///
/// # Errors
/// 403, 404, 409, 413, 415, 422.
pub async fn upload(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    upload: Upload,
) -> Result<Reply<Uploaded>, ApiError> {
    caller.wallet()?;
    let items = upload::receive(&app, &caller, job, upload).await?;
    Ok(Reply(StatusCode::CREATED, Uploaded { items }))
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

/// `GET /v1/jobs/{id}/artifacts/{n}`.
///
/// # Errors
/// 403, 404.
pub async fn download(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments((job, no)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let job: JobId = job.parse().map_err(|_| ApiError::job_not_found())?;
    let no = no.parse().map_err(|_| artifact_not_found())?;
    let client = caller.client()?;
    let mut tx = app.db.read().await?;
    let known = store::delivered(&mut tx, client, job).await?.is_some();
    let file = store::artifact(&mut tx, client, job, no).await?;
    tx.commit().await?;
    match file {
        Some(file) => send(&app, file).await,
        None if known => Err(artifact_not_found()),
        None => Err(ApiError::job_not_found()),
    }
}

fn artifact_not_found() -> ApiError {
    ApiError::new(ErrorCode::ArtifactNotFound, "the job has no such artifact")
}

/// `POST /v1/inputs`.
///
/// # Errors
/// 400, 403, 413, 422.
pub async fn put_input(
    State(app): State<SharedApp>,
    caller: Caller,
    request: Request,
) -> Result<Reply<StoredInput>, ApiError> {
    let client = caller.client()?.clone();
    let announced = announced(request.headers())?;
    let max_bytes = u64::from(app.config.limits.input_mb) * MIB;
    let body = request.into_body().into_data_stream();
    let chunks = body.map(|chunk| chunk.map_err(|_| ApiError::field("body", "broken off")));
    let file = app.artifacts.put(Kind::Input, max_bytes, chunks).await?;
    file.expect(announced)?;
    let stored =
        StoredInput { sha256: file.sha256, bytes: u64::try_from(file.size_bytes).unwrap_or(0) };
    outliving(record_input(app, client, file)).await?;
    Ok(Reply(StatusCode::CREATED, stored))
}

async fn record_input(app: SharedApp, client: Name, mut file: Unclaimed) -> Result<(), ApiError> {
    let mut tx = app.db.write().await?;
    let mut files = Vec::new();
    if store::add_input(&mut tx, app.now(), &client, &file).await? {
        file.place().await?;
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
#[derive(Debug, Deserialize)]
pub struct ForJob {
    job: Option<JobId>,
    lease_token: Option<LeaseToken>,
}

/// `GET /v1/inputs/{sha256}`: for a miner that holds a job which names it.
///
/// # Errors
/// 400, 403, 404, 409.
pub async fn get_input(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(sha256): Segments<String>,
    Params(query): Params<ForJob>,
) -> Result<Response, ApiError> {
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
    send(&app, file.ok_or_else(input_not_found)?).await
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

async fn send(app: &App, file: Sendable) -> Result<Response, ApiError> {
    let body = Body::from_stream(app.artifacts.open(&file.location).await?);
    let name = file.path.as_ref().map_or("input", download_name);
    let media_type = file.media_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.size_bytes));
    headers.insert(header::CONTENT_DISPOSITION, disposition(name));
    // A job chose both content and media type: no browser shall run it as a page of ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    if let Ok(hash) = HeaderValue::from_str(&file.sha256.to_string()) {
        headers.insert(SHA256_HEADER, hash);
    }
    Ok(response)
}

/// An attachment under its own name, for any client (RFC 6266): plain ASCII, and UTF-8 escaped.
fn disposition(name: &str) -> HeaderValue {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"");
    if ascii != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => {
                    value.push(char::from(byte));
                }
                other => value.push_str(&format!("%{other:02X}")),
            }
        }
    }
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_break_no_header() {
        assert_eq!(disposition("out.txt"), "attachment; filename=\"out.txt\"");
        assert_eq!(
            disposition("a\"; x=é"),
            "attachment; filename=\"a___x__\"; filename*=UTF-8''a%22%3B%20x%3D%C3%A9"
        );
    }
}
