//! The multipart upload of a job's files: one part `metadata`, then parts `artifact`.
//!
//! Everything is kept or nothing. Memory is bounded whatever the sender does: the parser gets no
//! more bytes than it has given back, but for a fixed allowance.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use futures_util::Stream;
use protocol::id::RelativePath;
use protocol::miner::{StoredArtifact, UploadMetadata};
use protocol::{ErrorCode, JobId, Sha256Hex};

use super::store::{self, NewArtifact, Recorded};
use super::{Kind, MIB, Unclaimed, commit, outliving};
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::dispatch::leases::{self, Held};
use crate::error::ApiError;
use crate::wire;

/// The largest part `metadata`, in bytes.
const MAX_METADATA: usize = 256 * 1024;

/// What the parser may hold back, in bytes: all part headers, the metadata, a few pieces.
const ALLOWANCE: i64 = 1024 * 1024;

/// What the parser gets at once, in bytes.
const PIECE: usize = 64 * 1024;

/// An upload as it arrives.
#[derive(Debug)]
pub struct Upload {
    parts: Multipart,
    allowance: Arc<AtomicI64>,
}

/// One file of an upload as it arrives.
#[derive(Debug)]
struct Part<'a> {
    field: Field<'a>,
    allowance: Arc<AtomicI64>,
}

/// A file that arrived, with its place.
#[derive(Debug)]
struct Arrived {
    path: RelativePath,
    media_type: Option<String>,
    file: Unclaimed,
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let allowance = Arc::new(AtomicI64::new(ALLOWANCE));
        let meter = Arc::clone(&allowance);
        let metered = request.map(|body| {
            let body = body.into_data_stream();
            Body::from_stream(Metered { body, rest: Bytes::new(), meter, pause: false })
        });
        let parts = Multipart::from_request(metered, state).await.map_err(|_| {
            let message = "the body must be multipart/form-data with a boundary";
            ApiError::new(ErrorCode::UnsupportedMediaType, message)
        })?;
        Ok(Self { parts, allowance })
    }
}

impl Upload {
    async fn next(&mut self) -> Result<Option<Part<'_>>, ApiError> {
        let allowance = Arc::clone(&self.allowance);
        let field = self.parts.next_field().await.map_err(malformed)?;
        Ok(field.map(|field| Part { field, allowance }))
    }
}

impl Part<'_> {
    fn is(&self, name: &str) -> bool {
        self.field.name() == Some(name)
    }

    async fn metadata(mut self) -> Result<UploadMetadata, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.field.chunk().await.map_err(malformed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_METADATA {
                return Err(super::too_large(MAX_METADATA as u64));
            }
        }
        wire::parse(&bytes)
    }

    fn path(&self) -> Result<RelativePath, ApiError> {
        let name = self.field.file_name().unwrap_or_default();
        name.parse().map_err(|error| ApiError::field("artifact", format!("file name: {error}")))
    }
}

impl Stream for Part<'_> {
    type Item = Result<Bytes, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.field).poll_next(cx).map(|chunk| {
            chunk.map(|chunk| {
                let chunk = chunk.map_err(malformed)?;
                let size = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
                self.allowance.fetch_add(size, Ordering::Relaxed);
                Ok(chunk)
            })
        })
    }
}

/// The body on its way into the parser.
///
/// The parser takes whatever is ready before it looks at it, so one piece at a time is ready; and
/// it keeps a header that does not end, so what it may hold back is counted.
#[derive(Debug)]
struct Metered {
    body: BodyDataStream,
    /// What is left of the last chunk.
    rest: Bytes,
    meter: Arc<AtomicI64>,
    pause: bool,
}

impl Stream for Metered {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.rest = chunk,
                other => return other,
            }
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if self.meter.fetch_sub(size, Ordering::Relaxed) < size {
            let error = std::io::Error::other("headers of parts are too large");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        self.pause = true;
        Poll::Ready(Some(Ok(piece)))
    }
}

fn malformed(error: MultipartError) -> ApiError {
    ApiError::field("body", format!("malformed or broken off: {}", error.body_text()))
}

/// Takes in the files of an upload.
///
/// # Errors
/// 403, 404 or 409 where the caller does not hold the job, 409 where a path has other bytes
/// already, 413, 422.
pub async fn receive(
    app: &SharedApp,
    caller: &Caller,
    job: JobId,
    mut upload: Upload,
) -> Result<Vec<StoredArtifact>, ApiError> {
    let mut session: Option<Session<'_>> = None;
    while let Some(part) = upload.next().await? {
        match &mut session {
            Some(session) => session.take(part).await?,
            None if part.is("metadata") => {
                let metadata = part.metadata().await?;
                session = Some(Session::open(app, caller, job, metadata).await?);
            }
            // A node that never registered has no token to state.
            None => {
                let metadata = UploadMetadata::default();
                let mut opened = Session::open(app, caller, job, metadata).await?;
                opened.take(part).await?;
                session = Some(opened);
            }
        }
    }
    match session {
        Some(session) => session.finish().await,
        None => Err(ApiError::field("artifact", "is missing")),
    }
}

/// An upload whose lease was found good.
#[derive(Debug)]
struct Session<'a> {
    app: &'a SharedApp,
    held: Held,
    expected: HashMap<RelativePath, Sha256Hex>,
    arrived: Vec<Arrived>,
}

impl<'a> Session<'a> {
    async fn open(
        app: &'a SharedApp,
        caller: &Caller,
        job: JobId,
        metadata: UploadMetadata,
    ) -> Result<Self, ApiError> {
        let held = leases::held(app, caller, job, metadata.lease_token).await?;
        let expected = metadata.artifacts.into_iter().map(|e| (e.path, e.sha256)).collect();
        Ok(Self { app, held, expected, arrived: Vec::new() })
    }

    async fn take(&mut self, part: Part<'_>) -> Result<(), ApiError> {
        if !part.is("artifact") {
            return Err(ApiError::field("artifact", "only parts of this name may follow"));
        }
        let path = part.path()?;
        if self.arrived.iter().any(|arrived| arrived.path == path) {
            return Err(ApiError::field("artifact", format!("{path} comes twice")));
        }
        let rule = self.held.spec.artifacts.iter().find(|rule| rule.path == path);
        let rule =
            rule.ok_or_else(|| ApiError::field("artifact", format!("the job declares no {path}")))?;
        let ours = self.app.config.limits.artifact_mb;
        let of_file = u64::from(rule.max_mb.unwrap_or(ours).min(ours)) * MIB;
        let max_bytes = of_file.min(self.room());
        let file = self.app.artifacts.put(Kind::Artifact, max_bytes, part).await?;
        file.expect(self.expected.get(&path).copied())?;
        let media_type = rule.media_type.clone();
        self.arrived.push(Arrived { path, media_type, file });
        Ok(())
    }

    /// What the job's own limit leaves for the files that are still to come.
    fn room(&self) -> u64 {
        let Some(max_mb) = self.held.spec.limits.max_output_mb else { return u64::MAX };
        let used: i64 = self.arrived.iter().map(|arrived| arrived.file.size_bytes).sum();
        (u64::from(max_mb) * MIB).saturating_sub(u64::try_from(used).unwrap_or(0))
    }

    /// Records everything that arrived, or, dropping it, nothing.
    async fn finish(self) -> Result<Vec<StoredArtifact>, ApiError> {
        if self.arrived.is_empty() {
            return Err(ApiError::field("artifact", "is missing"));
        }
        outliving(record(Arc::clone(self.app), self.held, self.arrived)).await
    }
}

async fn record(
    app: SharedApp,
    held: Held,
    mut arrived: Vec<Arrived>,
) -> Result<Vec<StoredArtifact>, ApiError> {
    for Arrived { file, .. } in &mut arrived {
        file.place().await?;
    }
    let mut items = Vec::with_capacity(arrived.len());
    let mut new = Vec::new();
    let mut tx = app.db.write().await?;
    for Arrived { path, media_type, file } in arrived {
        let artifact = NewArtifact {
            job: held.job_id,
            fence: held.fence,
            path: &path,
            media_type: media_type.as_deref(),
            file: &file,
        };
        match store::add(&mut tx, app.now(), &artifact).await? {
            Recorded::Added(item) => {
                items.push(item);
                new.push(file);
            }
            Recorded::Known(item) => items.push(item),
            Recorded::Differs => return Err(differs(&path)),
            Recorded::Lost => return Err(leases::lease_lost("the job is no longer held")),
        }
    }
    commit(tx, &app.artifacts, new).await?;
    Ok(items)
}

fn differs(path: &RelativePath) -> ApiError {
    let message = format!("{path} was uploaded before with other bytes");
    ApiError::new(ErrorCode::ConflictState, message).with("path", path.as_str())
}
