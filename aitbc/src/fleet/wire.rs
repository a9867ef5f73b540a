//! One kept connection to a coordinator, HTTP/1.1 without TLS: with thousands of them at once,
//! what the simulation itself costs must be little beside the coordinator.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::error::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::coordinator::BaseUrl;

/// The largest reply that is read, in bytes.
const LARGEST_REPLY: usize = 16 << 20;

/// How long a reply may take, beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a coordinator listens.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host and port.
    authority: String,
    /// What stands in front of each path.
    prefix: String,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The coordinator refused.
    #[error("{status} {body}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it said, shortened.
        body: String,
    },
    /// The reply makes no sense.
    #[error("a reply that makes no sense: {0}")]
    Nonsense(String),
}

impl WireError {
    /// Whether the same request may be answered later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Nonsense(_) => false,
        }
    }
}

impl Endpoint {
    /// The coordinator at `url`; `None` where it speaks TLS.
    pub fn of(url: &BaseUrl) -> Option<Self> {
        let url = url.endpoint(&[]);
        let host = url.host_str().filter(|_| url.scheme() == "http")?;
        let authority = format!("{host}:{}", url.port_or_known_default()?);
        Some(Self { authority, prefix: url.path().trim_end_matches('/').to_owned() })
    }
}

/// A connection with a key; it is opened when it is needed.
pub struct Wire {
    endpoint: Endpoint,
    key: HeaderValue,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Wire {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// A key that no header can carry.
    pub fn new(endpoint: &Endpoint, key: &str) -> Result<Self, WireError> {
        let key = HeaderValue::from_str(&format!("Bearer {key}"));
        let mut key = key.map_err(|error| WireError::Broken(format!("the key: {error}")))?;
        key.set_sensitive(true);
        Ok(Self { endpoint: endpoint.clone(), key, open: None })
    }

    /// Asks; `None` for a reply without content.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<Option<T>, WireError> {
        let (status, body) = self.send(Method::GET, path, Bytes::new()).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read(status, &body).map(Some)
    }

    /// Tells.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, WireError> {
        let body = serde_json::to_vec(body);
        let body = body.map_err(|error| WireError::Nonsense(error.to_string()))?;
        let (status, body) = self.send(Method::POST, path, body.into()).await?;
        read(status, &body)
    }

    /// Closes the connection; the next request opens another one.
    pub fn close(&mut self) {
        self.open = None;
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), WireError> {
        let done = timeout(PATIENCE, self.exchange(method, path, body)).await;
        let done = done.unwrap_or_else(|_| Err(WireError::Broken("no answer came".to_owned())));
        if done.is_err() {
            self.open = None;
        }
        done
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), WireError> {
        let broken = |error: hyper::Error| WireError::Broken(error.to_string());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint.prefix))
            .header(HOST, &self.endpoint.authority)
            .header(AUTHORIZATION, self.key.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| WireError::Broken(error.to_string()))?;
        let sender = self.opened().await?;
        let reply = sender.send_request(request).await.map_err(broken)?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), LARGEST_REPLY).collect().await;
        let body = body.map_err(|error| WireError::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }

    async fn opened(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, WireError> {
        let ready = match &mut self.open {
            Some(open) => open.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.open = Some(connect(&self.endpoint.authority).await?);
        }
        self.open.as_mut().ok_or_else(|| WireError::Broken("not connected".to_owned()))
    }
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, WireError> {
    let broken = |error: std::io::Error| WireError::Broken(format!("{authority}: {error}"));
    let stream = TcpStream::connect(authority).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| WireError::Broken(error.to_string()))?;
    tokio::spawn(connection);
    Ok(sender)
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, WireError> {
    if !status.is_success() {
        let text = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => format!("{}: {}", body.error.code, body.error.message),
            Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
        };
        return Err(WireError::Refused { status, body: text });
    }
    serde_json::from_slice(body).map_err(|error| WireError::Nonsense(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stay_and_tls_is_refused() {
        let of = |text: &str| Endpoint::of(&text.parse().unwrap());
        let endpoint = of("http://127.0.0.1:8011/api/").unwrap();
        assert_eq!(endpoint.authority, "127.0.0.1:8011");
        assert_eq!(endpoint.prefix, "/api");
        assert_eq!(of("http://[::1]").unwrap().authority, "[::1]:80");
        assert!(of("https://c.example").is_none());
    }
}
