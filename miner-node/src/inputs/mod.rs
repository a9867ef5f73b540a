//! Fetching a job's input files: from the coordinator or an allowed host, capped, hash checked; or
//! out of the [`cache`] of those that were fetched before.
//!
//! An allowed host is the owner's word, also where its name leads to an address of the owner's own
//! network. It cannot send the node elsewhere: redirects are not followed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use protocol::job::InputFile;
use protocol::{FailureCode, JobId, LeaseToken, Name, Sha256Hex};
use reqwest::{Response, Url};
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;
use tracing::warn;

pub mod cache;

pub use cache::InputCache;

use crate::config::Accept;
use crate::coordinator::{CallError, Coordinator, Remedy};
use crate::runners::Refusal;

/// Where inputs come from, for one job.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The coordinator.
    pub coordinator: &'a Coordinator,
    /// What the owner allows.
    pub accept: &'a Accept,
    /// The job.
    pub job: JobId,
    /// Its lease.
    pub token: LeaseToken,
    /// Its client.
    pub client: &'a Name,
    /// What was fetched before.
    pub cache: &'a Arc<InputCache>,
}

/// Why an input could not be had.
#[derive(Debug)]
pub enum InputError {
    /// The job cannot be run with it.
    Refused(Refusal),
    /// The call failed; it may succeed later.
    Call(CallError),
}

impl From<CallError> for InputError {
    fn from(error: CallError) -> Self {
        match error.remedy() {
            Remedy::GiveUp => refused(error.to_string()),
            _ => Self::Call(error),
        }
    }
}

/// A host of files does not speak the protocol: its refusals are final by their status alone. The
/// owner hears why; the client would learn from it what else listens on the owner's network.
fn foreign(error: &CallError) -> InputError {
    warn!(event = "input_failed", "the host of an input: {error}");
    match *error {
        CallError::Refused { status: 300..=407 | 409..=424 | 426..=428 | 430..=499, .. }
        | CallError::Local(_) => refused(CallError::Foreign(None).to_string()),
        CallError::Refused { retry_after, .. } => InputError::Call(CallError::Foreign(retry_after)),
        _ => InputError::Call(CallError::Foreign(None)),
    }
}

fn too_large(file: &InputFile) -> InputError {
    refused(format!("input {} is larger than this node allows", file.name))
}

/// This node's disk is no fault of the job's.
fn local(file: &InputFile, error: &std::io::Error) -> InputError {
    let why = format!("input {}: {error}", file.name);
    InputError::Refused(Refusal::new(FailureCode::Internal, why))
}

fn refused(why: String) -> InputError {
    InputError::Refused(Refusal::new(FailureCode::Input, why))
}

/// Brings `file` into `directory`; at most `room` bytes. Returns its size.
///
/// # Errors
/// [`FailureCode::Input`] where it is too large or another file than promised.
pub async fn fetch(
    source: &Source<'_>,
    file: &InputFile,
    directory: &Path,
    room: u64,
) -> Result<u64, InputError> {
    if file.size_bytes.is_some_and(|size| size > room) {
        return Err(too_large(file));
    }
    // Before anything is looked up: what the owner has forbidden since is not given any more.
    let url = file.url.as_ref().map(|url| allowed(url, source.accept)).transpose()?;
    let path = directory.join(file.name.as_str());
    let local = |error: std::io::Error| local(file, &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).await.map_err(local)?;
    }
    let key = InputCache::key(source.client, file);
    let _turn = source.cache.turn(&key).await;
    if let Some(bytes) = take(source.cache, &key, file, &path).await.map_err(local)? {
        return if bytes <= room { Ok(bytes) } else { Err(too_large(file)) };
    }
    let response = match url {
        None => source.coordinator.input(file.sha256, source.job, source.token).await?,
        Some(url) => {
            source.coordinator.foreign_input(url).await.map_err(|error| foreign(&error))?
        }
    };
    let mut target = File::create(&path).await.map_err(local)?;
    let saved = save(response, &mut target, room, file).await;
    let (sha256, bytes) = saved.map_err(|error| match error {
        InputError::Call(error) if file.url.is_some() => foreign(&error),
        other => other,
    })?;
    target.sync_all().await.map_err(local)?;
    if sha256 != file.sha256 {
        return Err(refused(format!("input {} has another hash than promised", file.name)));
    }
    keep(source.cache, key, path, bytes).await;
    Ok(bytes)
}

async fn take(
    cache: &Arc<InputCache>,
    key: &str,
    file: &InputFile,
    target: &Path,
) -> std::io::Result<Option<u64>> {
    let (cache, key, sha256) = (Arc::clone(cache), key.to_owned(), file.sha256);
    let target = target.to_owned();
    let taken = tokio::task::spawn_blocking(move || cache.take(&key, sha256, &target)).await;
    taken.map_err(std::io::Error::other)?
}

/// The job has its file; that it cannot be kept is the owner's affair.
async fn keep(cache: &Arc<InputCache>, key: String, file: PathBuf, bytes: u64) {
    let cache = Arc::clone(cache);
    let kept = tokio::task::spawn_blocking(move || cache.keep(&key, &file, bytes)).await;
    if let Err(error) = kept.map_err(std::io::Error::other).and_then(|kept| kept) {
        warn!(event = "input_not_kept", "an input cannot be kept for later: {error}");
    }
}

async fn save(
    response: Response,
    target: &mut File,
    room: u64,
    file: &InputFile,
) -> Result<(Sha256Hex, u64), InputError> {
    let mut digest = Sha256::new();
    let mut bytes = 0_u64;
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(CallError::from)?;
        bytes += piece.len() as u64;
        if bytes > room {
            return Err(too_large(file));
        }
        digest.update(&piece);
        target.write_all(&piece).await.map_err(|error| local(file, &error))?;
    }
    target.flush().await.map_err(|error| local(file, &error))?;
    Ok((Sha256Hex::from_bytes(digest.finalize().into()), bytes))
}

/// The address, if the owner allows its host. Plain HTTP is good enough: the hash is checked.
///
/// # Errors
/// [`InputError::Refused`], with a sentence for the client.
pub fn allowed(url: &str, accept: &Accept) -> Result<Url, InputError> {
    let parsed: Url = url.parse().map_err(|_| refused("input url is malformed".to_owned()))?;
    let host = parsed.host_str().unwrap_or_default();
    let is_plain = parsed.username().is_empty() && parsed.password().is_none();
    if !matches!(parsed.scheme(), "http" | "https") || !is_plain {
        return Err(refused("input url must be plain http or https".to_owned()));
    }
    if !accept.input_hosts.iter().any(|entry| names(entry, host, &parsed)) {
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        return Err(refused(format!("this node does not fetch inputs from {host}{port}")));
    }
    Ok(parsed)
}

/// Whether the owner's `entry` means `url`: a bare host is its file server, not all that listens
/// there.
fn names(entry: &str, host: &str, url: &Url) -> bool {
    if entry.eq_ignore_ascii_case(host) {
        // The parser drops a port that is the scheme's own.
        return url.port().is_none();
    }
    let Some((name, port)) = entry.rsplit_once(':') else { return false };
    name.eq_ignore_ascii_case(host) && port.parse().ok() == url.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_files_refuses_for_good() {
        for (status, is_final) in
            [(404, true), (403, true), (302, true), (429, false), (503, false)]
        {
            let error = foreign(&CallError::refused(status, None, b""));
            assert_eq!(matches!(error, InputError::Refused(_)), is_final, "{status}");
        }
    }

    #[test]
    fn a_host_of_files_does_not_speak_for_the_coordinator() {
        let body = br#"{"error": {"code": "LEASE_LOST", "message": "sshd"}}"#;
        let second = std::time::Duration::from_secs(1);
        let texts = [
            foreign(&CallError::refused(503, Some(second), body)),
            foreign(&CallError::refused(404, None, body)),
            foreign(&CallError::Unreachable("connection refused".to_owned())),
        ]
        .map(|error| match error {
            InputError::Refused(refusal) => refusal.message,
            InputError::Call(error) => {
                assert!(matches!(error.remedy(), Remedy::Retry(_)));
                error.to_string()
            }
        });
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0], texts[2]);
        assert!(!texts[0].contains("sshd") && !texts[0].contains("404"), "{}", texts[0]);
    }

    #[test]
    fn a_host_is_not_all_of_its_ports() {
        let accept = Accept {
            input_hosts: vec!["a.example".to_owned(), "b.example:8080".to_owned()],
            ..Accept::default()
        };
        for (url, is_allowed) in [
            ("http://a.example/x", true),
            ("http://a.example:80/x", true),
            ("https://A.example/x", true),
            ("https://a.example:22/x", false),
            ("https://a.example:80/x", false),
            ("https://b.example:8080/x", true),
            ("http://b.example/x", false),
            ("http://b.example:80801/x", false),
        ] {
            assert_eq!(allowed(url, &accept).is_ok(), is_allowed, "{url}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_no_fault_of_the_job() {
        let response = Response::from(axum::http::Response::new("content"));
        let mut full = File::options().write(true).open("/dev/full").await.unwrap();
        let file = InputFile {
            name: "x".parse().unwrap(),
            sha256: Sha256Hex::of(b"content"),
            url: None,
            size_bytes: None,
        };
        let saved = save(response, &mut full, 100, &file).await;
        let Err(InputError::Refused(refusal)) = saved else { panic!("{saved:?}") };
        assert_eq!(refusal.code, FailureCode::Internal);
    }

    #[test]
    fn only_hosts_that_the_owner_named() {
        let accept =
            Accept { input_hosts: vec!["data.example.net".to_owned()], ..Accept::default() };
        assert!(allowed("https://DATA.example.net/x", &accept).is_ok());
        for url in [
            "https://example.net/x",
            "https://data.example.net.evil.org/x",
            "https://evil.org/data.example.net",
            "https://data.example.net@evil.org/",
            "https://user@data.example.net/",
            "https://:password@data.example.net/",
            "file:///etc/passwd",
            "data.example.net/x",
            "http://169.254.169.254/latest",
            "",
        ] {
            assert!(allowed(url, &accept).is_err(), "{url}");
        }
        assert!(allowed("https://data.example.net/x", &Accept::default()).is_err());
    }
}
