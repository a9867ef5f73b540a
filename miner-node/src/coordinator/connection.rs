//! How connections to the coordinator are made: time-outs, authorities, the node's own
//! certificate. Used by everything that speaks to it, `doctor` included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{PROTOCOL_HEADER, PROTOCOL_VERSION};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity};

use crate::config;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of further authorities, or of the node's own certificate, cannot be used.
    #[error("coordinator.{setting} {path}: {why}")]
    File {
        /// Which of the two.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS could not be set up.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A client as configured, to be completed. The process must have a rustls provider installed.
///
/// # Errors
/// Where a file cannot be used.
pub fn builder(config: &config::Coordinator) -> Result<ClientBuilder, ClientError> {
    let version = HeaderValue::from(PROTOCOL_VERSION);
    let name = HeaderName::from_static(PROTOCOL_HEADER);
    let mut builder = Client::builder()
        .user_agent(concat!("miner-node/", env!("CARGO_PKG_VERSION")))
        .default_headers(HeaderMap::from_iter([(name, version)]))
        .connect_timeout(Duration::from_secs(config.connect_timeout_s.into()))
        // The key goes to the coordinator and nowhere else.
        .redirect(Policy::none());
    if !config.base_url.is_https() {
        // A proxy would read the key, even on the way to this very machine.
        builder = builder.no_proxy();
    }
    if let Some(path) = &config.ca_file {
        builder = builder.tls_certs_merge(authorities(path)?);
    }
    if let Some(path) = &config.client_cert_file {
        builder = builder.identity(identity(path)?);
    }
    Ok(builder)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let found = parsed("ca_file", path, Certificate::from_pem_bundle)?;
    if found.is_empty() {
        let why = "holds no certificate".to_owned();
        return Err(ClientError::File { setting: "ca_file", path: path.to_owned(), why });
    }
    Ok(found)
}

fn identity(path: &Path) -> Result<Identity, ClientError> {
    parsed("client_cert_file", path, Identity::from_pem)
}

fn parsed<T>(
    setting: &'static str,
    path: &Path,
    parse: impl Fn(&[u8]) -> reqwest::Result<T>,
) -> Result<T, ClientError> {
    let fail = |why: String| ClientError::File { setting, path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    parse(&pem).map_err(|error| fail(error.to_string()))
}
