//! HTTP to a server of the owner's: no redirects, no proxies, a limit on every wait and reply.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::{ServerError, quoted};
use crate::config::{BaseUrl, Secret};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The most that is read of a reply that says why not, in bytes.
const LARGEST_COMPLAINT: usize = 4 << 10;

/// A server's address, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Connection {
    base: BaseUrl,
    authorization: Option<Secret>,
    client: Client,
    silence: Duration,
}

/// A reply that has begun.
#[derive(Debug)]
pub struct Reply {
    response: Response,
    silence: Duration,
}

impl Connection {
    /// To the server at `base`, which may be silent for as long as `silence`; `authorization` is
    /// the header of that name.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(
        base: BaseUrl,
        authorization: Option<Secret>,
        silence: Duration,
    ) -> reqwest::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("miner-node/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            // Prompts and the key go to this server and nowhere else.
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { base, authorization, client, silence })
    }

    /// Reads what is at `path`, which may have a query: at most `most` bytes, within the time that a server may be silent.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn get(&self, path: &str, most: usize) -> Result<Vec<u8>, ServerError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = self.base.endpoint(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let request = self.client.get(url);
        let read = async { self.send(request).await?.whole(most).await };
        timeout(self.silence, read).await.map_err(|_| silent(self.silence))?
    }

    /// Asks at `path`; the reply may take its time, but for no piece of it longer than a server may
    /// be silent.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, ServerError> {
        self.send(self.client.post(self.base.endpoint(path)).json(body)).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, ServerError> {
        let request = match &self.authorization {
            Some(text) => request.header(AUTHORIZATION, text.expose()),
            None => request,
        };
        let response = timeout(self.silence, request.send()).await;
        let response = response.map_err(|_| silent(self.silence))?.map_err(broken)?;
        let reply = Reply { response, silence: self.silence };
        match reply.response.status() {
            status if status.is_success() => Ok(reply),
            status => Err(reply.complaint(status).await),
        }
    }
}

impl Reply {
    /// The next piece of it; `None` at its end.
    ///
    /// # Errors
    /// [`ServerError::Gone`] where it broke off or stands still.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ServerError> {
        let piece = timeout(self.silence, self.response.chunk()).await;
        piece.map_err(|_| silent(self.silence))?.map_err(broken)
    }

    /// All of it.
    ///
    /// # Errors
    /// [`ServerError::Nonsense`] where it is longer than `most` bytes.
    pub async fn whole(mut self, most: usize) -> Result<Vec<u8>, ServerError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > most {
                return Err(ServerError::Nonsense(format!("its reply is over {most} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    async fn complaint(self, status: StatusCode) -> ServerError {
        let body = self.whole(LARGEST_COMPLAINT).await.unwrap_or_default();
        refusal(status.as_u16(), &body)
    }
}

/// What a status other than success means; `body` is what came with it.
pub fn refusal(status: u16, body: &[u8]) -> ServerError {
    let why = complaint(body).unwrap_or_default();
    let said = if why.is_empty() { String::new() } else { format!(": {}", quoted(&why)) };
    let text = format!("it answers with {status}{said}");
    match status {
        300..=399 => ServerError::Nonsense(format!("{text}; redirects are not followed")),
        // Not what the job asked for, but who asked: the owner has to look at it.
        401 | 403 | 407 => ServerError::Gone(format!("{text}; the owner has to look at its key")),
        404 => ServerError::Absent(text),
        408 | 425 | 429 => ServerError::Gone(text),
        400..=499 => ServerError::Refused(text),
        _ => ServerError::Gone(text),
    }
}

/// The sentence in `{"error": ".."}`, `{"error": {"message": ".."}}` or `{"detail": ".."}`.
fn complaint(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = &body["error"];
    let sentence = [&error["message"], error, &body["message"], &body["detail"]];
    sentence.into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// The address stays out of it: it is the owner's, and the message goes to the client.
fn broken(error: reqwest::Error) -> ServerError {
    let what = if error.is_connect() { "cannot be reached" } else { "the connection broke off" };
    tracing::debug!("inference server: {error:?}");
    ServerError::Gone(what.to_owned())
}

fn silent(silence: Duration) -> ServerError {
    ServerError::Gone(format!("it was silent for {} s", silence.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whose_fault_it_is() {
        for (status, kind) in
            [(404, "absent"), (400, "refused"), (422, "refused"), (302, "nonsense")]
        {
            let error = refusal(status, br#"{"error":"model 'x' not found"}"#);
            let named = match &error {
                ServerError::Absent(_) => "absent",
                ServerError::Refused(_) => "refused",
                ServerError::Nonsense(_) => "nonsense",
                ServerError::Gone(_) | ServerError::Local(_) => "gone",
            };
            assert_eq!(named, kind, "{status}");
            assert!(error.to_string().contains("model 'x' not found"), "{error}");
        }
        for status in [401, 403, 408, 429, 500, 502, 503] {
            assert!(matches!(refusal(status, b"<html>"), ServerError::Gone(_)), "{status}");
        }
    }

    #[test]
    fn complaints_are_short_and_plain() {
        let long = format!(r#"{{"error":{{"message":"a\n\u001b[31m{}"}}}}"#, "x".repeat(1000));
        let text = refusal(400, long.as_bytes()).to_string();
        assert!(text.len() < 300 && !text.chars().any(char::is_control), "{text}");
        assert!(refusal(422, br#"{"detail":"no such sampler"}"#).to_string().contains("sampler"));
    }
}
