//! The coordinator as its users see it: calls, retries, limits on every reply. Which calls there
//! are is in `calls`; long transfers are in `transfer`, live events in `events`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Client, ClientBuilder, Identity, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

mod backoff;
pub mod base_url;
pub mod calls;
mod error;
pub mod events;
pub mod sse;
pub mod transfer;

pub use backoff::{Patience, Repeat};
pub use base_url::BaseUrl;
pub use calls::Call;
pub use error::{CallError, Refusal};

use crate::profile::{self, ProfileError, Secret, Settings};

/// The largest reply that is read, in bytes.
const LARGEST_REPLY: usize = 64 << 20;

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest wait for a reply.
const REPLY: Duration = Duration::from_secs(30);

/// How long a stream or a transfer may stand still.
const STALL: Duration = Duration::from_secs(60);

/// Header under which a repeated call is recognised.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A connection to a coordinator.
#[derive(Debug)]
pub struct Coordinator {
    base: BaseUrl,
    key: Option<Secret>,
    client: Client,
    /// For what is read for as long as it takes.
    streams: Client,
    patience: Patience,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of further authorities cannot be used.
    #[error("ca_file {path}: {why}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file with one's own certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] ProfileError),
    /// TLS could not be set up.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A successful reply, as the coordinator wrote it.
#[derive(Debug)]
pub struct Reply(Vec<u8>);

impl Reply {
    /// What it says.
    ///
    /// # Errors
    /// Where it is not what the protocol says.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.0).map_err(|error| CallError::Nonsense(error.to_string()))
    }

    /// Its JSON.
    ///
    /// # Errors
    /// Where it is no text.
    pub fn text(&self) -> Result<&str, CallError> {
        let text = std::str::from_utf8(&self.0);
        text.map(str::trim).map_err(|error| CallError::Nonsense(error.to_string()))
    }
}

impl Coordinator {
    /// A client as configured. The process must have a rustls provider installed.
    ///
    /// # Errors
    /// Where a file of certificates is bad or TLS cannot be set up.
    pub fn new(settings: &Settings, patience: Patience) -> Result<Self, ClientError> {
        Ok(Self {
            base: settings.url.clone(),
            key: settings.key.clone(),
            client: builder(settings)?.build()?,
            streams: builder(settings)?.read_timeout(STALL).build()?,
            patience,
        })
    }

    /// Whether nothing shall be told but what was asked for.
    pub const fn is_quiet(&self) -> bool {
        self.patience.quiet
    }

    /// Makes a call, several times if need be.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ask(&self, call: &Call) -> Result<Reply, CallError> {
        let safe = call.method != Method::POST
            || call.idempotency.is_some()
            || call.query.iter().any(|(name, _)| *name == "dry_run");
        let repeat = if safe { Repeat::Safe } else { Repeat::Unsent };
        self.patience
            .keep_trying(repeat, async || {
                let response = checked(self.request(&self.client, call).timeout(REPLY)).await?;
                read(response).await.map(Reply)
            })
            .await
    }

    /// Makes a call and reads its reply as what it must be.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ask_for<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CallError> {
        self.ask(call).await?.read()
    }

    fn request(&self, client: &Client, call: &Call) -> RequestBuilder {
        let url = self.base.endpoint(&call.path);
        let mut request = client.request(call.method.clone(), url).query(&call.query);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose());
        }
        if let Some(key) = call.idempotency {
            request = request.header(IDEMPOTENCY_KEY, key.to_string());
        }
        match &call.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}

fn builder(settings: &Settings) -> Result<ClientBuilder, ClientError> {
    let mut builder = Client::builder()
        .user_agent(concat!("aitbc/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        // Uploads have no read time-out; what nobody takes must end, too.
        .tcp_user_timeout(STALL)
        // The key goes to the coordinator and nowhere else.
        .redirect(reqwest::redirect::Policy::none());
    if !settings.url.is_https() {
        // A proxy would read the key, even on the way to this very machine.
        builder = builder.no_proxy();
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    if let Some(path) = &settings.client_cert_file {
        builder = builder.identity(identity(path)?);
    }
    Ok(builder)
}

fn identity(path: &Path) -> Result<Identity, ClientError> {
    let pem = profile::read_certificate(path)?;
    // What the parser says may quote what it read.
    let why = "holds no certificate with its private key, PEM".to_owned();
    let wrong = ProfileError::CertificateFile { path: path.to_owned(), why };
    Identity::from_pem(&pem).map_err(|_| wrong.into())
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let fail = |why: String| ClientError::CaFile { path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let found =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| fail(error.to_string()))?;
    if found.is_empty() { Err(fail("holds no certificate".to_owned())) } else { Ok(found) }
}

async fn checked(request: RequestBuilder) -> Result<Response, CallError> {
    let response = request.send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = read(response).await.unwrap_or_default();
    Err(CallError::Refused(Box::new(Refusal::read(status, &headers, &body))))
}

async fn read(response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        body.extend_from_slice(&piece?);
        if body.len() > LARGEST_REPLY {
            return Err(CallError::Nonsense("it is too large".to_owned()));
        }
    }
    Ok(body)
}
