//! Files on their way: inputs up, artifacts down. Bytes are hashed on both ends, and what broke
//! off is resumed.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use protocol::client::StoredInput;
use protocol::miner::StoredArtifact;
use protocol::{JobId, Sha256Hex};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE, RANGE};
use reqwest::{Body, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{CallError, Coordinator, Repeat, Reply, calls, checked, read};
use crate::ending::Failure;
use crate::output::Progress;

/// How long an upload may take in all; one that stands still ends earlier.
const LONGEST_UPLOAD: Duration = Duration::from_secs(6 * 3600);

/// The hash and the size of a file.
///
/// # Errors
/// Where it cannot be read.
pub async fn digest(path: &Path) -> std::io::Result<StoredInput> {
    let mut file = File::open(path).await?;
    let (sha256, bytes) = continue_digest(&mut file, Sha256::new()).await?;
    Ok(StoredInput { sha256: finish(sha256), bytes })
}

async fn continue_digest(file: &mut File, mut hasher: Sha256) -> std::io::Result<(Sha256, u64)> {
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok((hasher, bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn finish(hasher: Sha256) -> Sha256Hex {
    Sha256Hex::from_bytes(hasher.finalize().into())
}

impl Coordinator {
    /// Uploads an input that was looked at before. The coordinator keeps it by its hash, so a
    /// repetition has no further effect.
    ///
    /// # Errors
    /// Where the file cannot be read or the coordinator does not take it.
    pub async fn upload(
        &self,
        path: &Path,
        known: &StoredInput,
        progress: &Progress,
    ) -> Result<StoredInput, CallError> {
        let call = calls::put_input();
        let (announced, sha256) = calls::announced(known.sha256);
        let send = async || {
            progress.restart();
            let file = File::open(path).await.map_err(|error| local(path, &error))?;
            let counter = progress.clone();
            let pieces = ReaderStream::with_capacity(file, 1 << 16)
                .inspect_ok(move |piece| counter.add(piece.len() as u64));
            let request = self
                .request(&self.client, &call)
                .header(announced, &sha256)
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, known.bytes)
                .timeout(LONGEST_UPLOAD)
                .body(Body::wrap_stream(pieces));
            Reply(read(checked(request).await?).await?).read()
        };
        self.patience.keep_trying(Repeat::Safe, send).await
    }

    /// Downloads an artifact into `partial`, going on where an earlier download broke off. At the
    /// end the file has the size and the hash that the coordinator stated, or it is gone.
    ///
    /// # Errors
    /// Where the coordinator refuses, the file cannot be written, or its content is another one.
    pub async fn download(
        &self,
        job: JobId,
        artifact: &StoredArtifact,
        partial: &Path,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let get = async || {
            let mut part = Part::open(partial, artifact).await?;
            progress.restart();
            progress.add(part.bytes);
            if part.bytes < artifact.bytes {
                let response = self.range(job, artifact, part.bytes).await?;
                part.append(response, progress).await?;
            }
            part.end().await
        };
        let stated = artifact.sha256;
        let found = self.patience.keep_trying(Repeat::Safe, get).await?;
        if found == stated {
            return Ok(());
        }
        tokio::fs::remove_file(partial).await.map_err(Failure::write(partial))?;
        Err(Failure::NotGood(format!(
            "{}: what arrived has the SHA-256 {found}, not {stated}; it was not kept",
            artifact.path
        )))
    }

    async fn range(
        &self,
        job: JobId,
        artifact: &StoredArtifact,
        from: u64,
    ) -> Result<Response, CallError> {
        let call = calls::artifact(job, artifact.artifact_id);
        let mut request = self.request(&self.streams, &call);
        if from > 0 {
            let tag = format!("\"{}\"", artifact.sha256);
            request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, tag);
        }
        checked(request).await
    }
}

/// The part of a file that is there.
struct Part<'a> {
    path: &'a Path,
    file: File,
    hasher: Sha256,
    bytes: u64,
    wanted: u64,
}

impl<'a> Part<'a> {
    async fn open(path: &'a Path, artifact: &StoredArtifact) -> Result<Self, CallError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).await;
        let mut file = file.map_err(|error| local(path, &error))?;
        let known = continue_digest(&mut file, Sha256::new()).await;
        let (hasher, bytes) = known.map_err(|error| local(path, &error))?;
        let mut part = Self { path, file, hasher, bytes, wanted: artifact.bytes };
        if bytes > artifact.bytes {
            part.restart().await?;
        }
        Ok(part)
    }

    async fn restart(&mut self) -> Result<(), CallError> {
        (self.hasher, self.bytes) = (Sha256::new(), 0);
        self.file.set_len(0).await.map_err(|error| local(self.path, &error))?;
        self.file.seek(SeekFrom::Start(0)).await.map_err(|error| local(self.path, &error))?;
        Ok(())
    }

    async fn append(&mut self, response: Response, progress: &Progress) -> Result<(), CallError> {
        // Whoever knows no ranges sends all of it, again.
        if response.status() != StatusCode::PARTIAL_CONTENT && self.bytes > 0 {
            progress.restart();
            self.restart().await?;
        }
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            self.bytes += piece.len() as u64;
            if self.bytes > self.wanted {
                return Err(CallError::Nonsense("more bytes than the artifact has".to_owned()));
            }
            self.hasher.update(&piece);
            self.file.write_all(&piece).await.map_err(|error| local(self.path, &error))?;
            progress.add(piece.len() as u64);
        }
        Ok(())
    }

    /// The hash of the whole file.
    async fn end(mut self) -> Result<Sha256Hex, CallError> {
        self.file.flush().await.map_err(|error| local(self.path, &error))?;
        if self.bytes < self.wanted {
            return Err(CallError::Unreachable("the download broke off".to_owned()));
        }
        Ok(finish(self.hasher))
    }
}

fn local(path: &Path, error: &std::io::Error) -> CallError {
    CallError::File(format!("{}: {error}", path.display()))
}
