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

/// A client for strangers: they are shown no certificate of the node's, and the authorities that
/// vouch for the coordinator do not vouch for them.
pub fn foreign(config: &config::Coordinator) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("miner-node/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(config.connect_timeout_s.into()))
        .redirect(Policy::none())
        .no_proxy()
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// Answers every request with `ok`, over TLS.
    fn serve(tls: Arc<ServerConfig>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&tls)).unwrap();
                let mut stream = StreamOwned::new(session, stream.unwrap());
                // Who does not trust us hangs up.
                if stream.read(&mut [0; 4096]).is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn the_coordinators_authority_vouches_for_nobody_else() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let base = format!("https://127.0.0.1:{}", serve(Arc::new(tls)));
        let directory = tempfile::tempdir().unwrap();
        let (authority, own) = (directory.path().join("ca.pem"), directory.path().join("own.pem"));
        std::fs::write(&authority, made.cert.pem()).unwrap();
        std::fs::write(&own, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
        let config = config::Coordinator {
            base_url: base.parse().unwrap(),
            ca_file: Some(authority),
            client_cert_file: Some(own),
            ..config::Coordinator::default()
        };
        let theirs = builder(&config).unwrap().build().unwrap();
        assert_eq!(theirs.get(&base).send().await.unwrap().status(), 200);
        let others = foreign(&config).build().unwrap();
        assert!(others.get(&base).send().await.unwrap_err().is_connect());
        // The client that inputs of other hosts are fetched with is that one.
        let coordinator = crate::coordinator::Coordinator::new(&config).unwrap();
        assert!(coordinator.foreign_input(base.parse().unwrap()).await.is_err());
    }
}
