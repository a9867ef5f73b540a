//! The coordinator as the node sees it: one method per endpoint, typed errors, limits on every
//! reply. When to call, and what to do about an error, is decided in `loops/` and `outbox`.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use protocol::job::Lease;
use protocol::miner::{
    Ack, Acked, Expected, Failed, Heartbeat, HeartbeatReply, LogChunk, LogReply, Progress,
    ProgressReply, Registered, UploadMetadata, Uploaded,
};
use protocol::proof::{ArtifactProof, Credited};
use protocol::{Job, JobId, LeaseToken, MinerCapabilities, Name, Proof};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::io::ReaderStream;

mod backoff;
pub mod connection;
mod error;

pub use backoff::{Backoff, jittered};
pub use connection::ClientError;
pub use error::{CallError, Remedy};

use crate::capacity::Footprint;
use crate::config::{self, BaseUrl, Secret};

/// The largest reply that is read, in bytes.
const LARGEST_REPLY: usize = 4 << 20;

/// How long a transfer of files may take at most; a stalled one ends earlier.
const LONGEST_TRANSFER: Duration = Duration::from_secs(6 * 3600);

/// How long a transfer may stand still.
const LONGEST_STALL: Duration = Duration::from_secs(30);

/// How long the coordinator may take over an upload that it has in full.
const LONGEST_DIGESTION: Duration = Duration::from_secs(120);

/// Header under which a repeated call is recognised.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a node has free when it asks for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Slots.
    pub slots: u32,
    /// What is left of the machine beside the jobs that it has.
    pub room: Footprint,
}

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Coordinator {
    base: BaseUrl,
    token: Option<Secret>,
    client: Client,
    /// For what is downloaded: calls that wait for an answer may be silent for longer.
    downloads: Client,
    /// For what others keep: it shows them nothing of this node.
    foreign: Client,
    timeout: Duration,
}

impl Coordinator {
    /// A client as configured. The process must have a rustls provider installed.
    ///
    /// # Errors
    /// Where a file of certificates is bad or TLS cannot be set up.
    pub fn new(config: &config::Coordinator) -> Result<Self, ClientError> {
        let builder = || connection::builder(config);
        Ok(Self {
            base: config.base_url.clone(),
            token: config.auth_token.clone(),
            client: builder()?.build()?,
            downloads: builder()?.read_timeout(LONGEST_STALL).build()?,
            foreign: connection::foreign(config).read_timeout(LONGEST_STALL).build()?,
            timeout: Duration::from_secs(config.timeout_s.into()),
        })
    }

    /// Announces the node and what it can do.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn register(
        &self,
        capabilities: &MinerCapabilities,
    ) -> Result<Registered, CallError> {
        self.post("/v1/miner/register", capabilities, None).await
    }

    /// Gives a sign of life and renews leases.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReply, CallError> {
        self.post("/v1/miner/heartbeat", heartbeat, None).await
    }

    /// Asks for a job that fits into what is `free`; the coordinator may hold the question for
    /// `wait`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn next(
        &self,
        miner: &Name,
        free: Free,
        wait: Duration,
    ) -> Result<Option<Job>, CallError> {
        let mut url = self.base.endpoint("/v1/miner/next");
        url.query_pairs_mut()
            .append_pair("miner", miner.as_str())
            .append_pair("slots", &free.slots.to_string())
            .append_pair("ram_mb", &amount(free.room.ram_mb))
            .append_pair("cpu_threads", &amount(free.room.threads))
            .append_pair("disk_mb", &amount(free.room.disk_mb));
        if !wait.is_zero() {
            url.query_pairs_mut().append_pair("wait", &wait.as_secs().to_string());
        }
        let response = self.send(self.client.get(url).timeout(self.timeout + wait)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read_json(response).await.map(Some)
    }

    /// Accepts a job.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ack(&self, job: JobId, token: LeaseToken) -> Result<Lease, CallError> {
        let body = Ack { lease_token: Some(token) };
        let acked: Acked = self.post(&about(job, "ack"), &body, None).await?;
        Ok(acked.lease)
    }

    /// Says how far a job is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn progress(&self, job: JobId, body: &Progress) -> Result<ProgressReply, CallError> {
        self.post(&about(job, "progress"), body, None).await
    }

    /// Sends a piece of a job's log.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn logs(&self, job: JobId, chunk: &LogChunk) -> Result<LogReply, CallError> {
        self.post(&about(job, "logs"), chunk, None).await
    }

    /// Reports a job as failed. `key` is the same for every repetition.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn fail(
        &self,
        job: JobId,
        body: &protocol::miner::Fail,
        key: &str,
    ) -> Result<Failed, CallError> {
        self.post(&about(job, "fail"), body, Some(key)).await
    }

    /// Proves a job. `key` is the same for every repetition.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn proof(&self, proof: &Proof, key: &str) -> Result<Credited, CallError> {
        self.post("/v1/miner/proof", proof, Some(key)).await
    }

    /// Uploads the files `artifacts` out of `directory`, as a stream.
    ///
    /// # Errors
    /// See [`CallError`]; a file that cannot be read is [`CallError::Local`].
    pub async fn upload(
        &self,
        job: JobId,
        token: LeaseToken,
        directory: &Path,
        artifacts: &[ArtifactProof],
    ) -> Result<Uploaded, CallError> {
        let metadata = UploadMetadata {
            lease_token: Some(token),
            artifacts: artifacts
                .iter()
                .map(|one| Expected { path: one.path.clone(), sha256: one.sha256 })
                .collect(),
        };
        let metadata = serde_json::to_string(&metadata).map_err(CallError::local)?;
        let metadata =
            Part::text(metadata).mime_str("application/json").map_err(CallError::local)?;
        let mut form = Form::new().part("metadata", metadata);
        let (moved, movement) = watch::channel(());
        for artifact in artifacts {
            let path = directory.join(artifact.path.as_str());
            let file = tokio::fs::File::open(path).await.map_err(CallError::local)?;
            let moved = moved.clone();
            let pieces = ReaderStream::new(file).inspect(move |_| moved.send_replace(()));
            let body = reqwest::Body::wrap_stream(pieces);
            let part = Part::stream_with_length(body, artifact.bytes)
                .file_name(artifact.path.as_str().to_owned());
            form = form.part("artifact", part);
        }
        let url = self.base.endpoint(&about(job, "artifacts"));
        let request = self.client.post(url).timeout(LONGEST_TRANSFER).multipart(form);
        drop(moved);
        tokio::select! {
            response = self.send(request) => read_json(response?).await,
            () = stall(movement) => Err(CallError::Unreachable("the upload stands still".to_owned())),
        }
    }

    /// Starts fetching an input that the coordinator keeps.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn input(
        &self,
        sha256: protocol::Sha256Hex,
        job: JobId,
        token: LeaseToken,
    ) -> Result<Response, CallError> {
        let mut url = self.base.endpoint(&format!("/v1/inputs/{sha256}"));
        url.query_pairs_mut()
            .append_pair("job", &job.to_string())
            .append_pair("lease_token", &token.to_string());
        self.send(self.downloads.get(url).timeout(LONGEST_TRANSFER)).await
    }

    /// Starts fetching an input from elsewhere, without the key and the node's certificate.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn foreign_input(&self, url: Url) -> Result<Response, CallError> {
        checked(self.foreign.get(url).timeout(LONGEST_TRANSFER).send().await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<T, CallError> {
        let mut request =
            self.client.post(self.base.endpoint(path)).timeout(self.timeout).json(body);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        read_json(self.send(request).await?).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        checked(request.send().await?).await
    }
}

/// Ends when an upload whose pieces raise `movement` stands still, or, once it is all sent, is not
/// answered. The client's own read time-out would run from the first byte of the upload.
async fn stall(mut movement: watch::Receiver<()>) {
    loop {
        match timeout(LONGEST_STALL, movement.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return sleep(LONGEST_DIGESTION).await,
            Err(_) => return,
        }
    }
}

/// As the wire has it: coordinators count in 32 bits.
fn amount(of: u64) -> String {
    u32::try_from(of).unwrap_or(u32::MAX).to_string()
}

fn about(job: JobId, what: &str) -> String {
    format!("/v1/miner/jobs/{job}/{what}")
}

async fn checked(response: Response) -> Result<Response, CallError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let retry_after = error::retry_after(response.headers());
    let body = read(response).await.unwrap_or_default();
    Err(CallError::refused(status, retry_after, &body))
}

async fn read_json<T: DeserializeOwned>(response: Response) -> Result<T, CallError> {
    let body = read(response).await?;
    serde_json::from_slice(&body).map_err(|error| CallError::Nonsense(error.to_string()))
}

async fn read(response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        body.extend_from_slice(&piece?);
        if body.len() > LARGEST_REPLY {
            return Err(CallError::Nonsense("reply is too large".to_owned()));
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_may_take_long_but_not_stand_still() {
        let (moved, movement) = watch::channel(());
        let started = Instant::now();
        let sending = async {
            for _ in 0..100 {
                sleep(Duration::from_secs(20)).await;
                moved.send_replace(());
            }
        };
        let ((), ()) = tokio::join!(stall(movement), sending);
        assert_eq!(started.elapsed(), Duration::from_secs(2000) + LONGEST_STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_in_full_has_to_be_answered() {
        let (moved, movement) = watch::channel(());
        drop(moved);
        let started = Instant::now();
        stall(movement).await;
        assert_eq!(started.elapsed(), LONGEST_DIGESTION);
    }
}
