//! XMRig's HTTP API: the few calls that driving it takes, and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::engine::{Connection, Hashrate, Phase, Shares, Status};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long a call may take: on this machine, of a program that is busy with hashing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailed {
    #[error("XMRig's API: {0}")]
    Http(#[from] reqwest::Error),
    #[error("XMRig's API: TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("XMRig's API refuses the token (status {0}); see mining.xmrig.token_file")]
    Token(u16),
    #[error("XMRig's API is restricted; it must be started with http.restricted: false")]
    Restricted,
    #[error("XMRig's API answers {0}")]
    Status(u16),
    #[error("XMRig's API sends too much, or what is no JSON of its kind")]
    Malformed,
}

/// One XMRig.
pub(super) struct Api {
    client: Client,
    base: Url,
    token: String,
}

impl Api {
    pub(super) fn new(base: Url, token: String) -> Result<Self, CallFailed> {
        // Never through a proxy: it is on this machine, and the token is for it alone.
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(PATIENCE);
        let tls = tls(base.scheme() == "https")?;
        let client = client.tls_backend_preconfigured(tls).build()?;
        Ok(Self { client, base, token })
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        self.client.request(method, url).bearer_auth(&self.token)
    }

    /// How it stands.
    pub(super) async fn summary(&self) -> Result<Summary, CallFailed> {
        read(self.call(Method::GET, "/2/summary").send().await?).await
    }

    pub(super) async fn config(&self) -> Result<Value, CallFailed> {
        read(self.call(Method::GET, "/1/config").send().await?).await
    }

    pub(super) async fn set_config(&self, config: &Value) -> Result<(), CallFailed> {
        checked(self.call(Method::PUT, "/1/config").json(config).send().await?).map(drop)
    }

    /// Pauses it or has it go on, within so long.
    pub(super) async fn pause(&self, paused: bool, within: Duration) -> Result<(), CallFailed> {
        let method = if paused { "pause" } else { "resume" };
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
        let call = self.call(Method::POST, "/json_rpc").json(&call).timeout(within);
        checked(call.send().await?).map(drop)
    }
}

/// Certificates are checked as the system does; where there are none, none is believed.
fn tls(needed: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    if !needed {
        return Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let verifier = Arc::new(Verifier::new(provider)?);
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn checked(response: Response) -> Result<Response, CallFailed> {
    match response.status().as_u16() {
        200..=299 => Ok(response),
        401 => Err(CallFailed::Token(401)),
        403 if response.url().path() == "/2/summary" => Err(CallFailed::Token(403)),
        403 => Err(CallFailed::Restricted),
        other => Err(CallFailed::Status(other)),
    }
}

async fn read<T: for<'de> Deserialize<'de>>(response: Response) -> Result<T, CallFailed> {
    let mut response = checked(response)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(CallFailed::Malformed);
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| CallFailed::Malformed)
}

/// What of `GET /2/summary` matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    algo: Option<String>,
    paused: bool,
    version: Option<String>,
    hashrate: Rates,
    results: Results,
    connection: Pool,
    resources: Resources,
    hugepages: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rates {
    total: Vec<Option<f64>>,
    highest: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Results {
    shares_good: u64,
    shares_total: u64,
    hashes_total: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    pool: Option<String>,
    uptime: u64,
    ping: Option<u64>,
    failures: u64,
    diff: u64,
    algo: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    resident_set_memory: u64,
}

impl Summary {
    /// What it computes, in its own words.
    pub(super) fn algo(&self) -> Option<&str> {
        self.algo.as_deref().or(self.connection.algo.as_deref())
    }

    /// Whether it does nothing because somebody has told it so.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// The same as any engine tells it.
    pub(super) fn status(&self, threads: usize, threads_most: usize) -> Status {
        let connected = self.connection.pool.as_ref().filter(|_| self.connection.uptime > 0);
        let refused = self.results.shares_total.saturating_sub(self.results.shares_good);
        let rate = |place: usize| self.hashrate.total.get(place).copied().flatten();
        let words = |text: &str| text.chars().filter(|c| !c.is_control()).take(64).collect();
        let version: String = self.version.as_deref().map_or_else(String::new, words);
        let pages = match &self.hugepages {
            Value::Array(pages) => format!(", huge pages {}/{}", at(pages, 0), at(pages, 1)),
            _ => String::new(),
        };
        Status {
            algorithm: self.algo().and_then(|name| name.parse::<Algorithm>().ok()),
            phase: match (self.paused, connected) {
                (true, _) => Phase::Paused,
                (false, None) => Phase::Waiting { reason: "XMRig has no pool".to_owned() },
                // It does not say how far its dataset is.
                (false, Some(_)) if rate(0).is_none() => Phase::Preparing { done_permille: 0 },
                _ => Phase::Mining,
            },
            threads,
            threads_most,
            hashrate: Hashrate {
                ten_secs: rate(0),
                minute: rate(1),
                quarter_hour: rate(2),
                highest: self.hashrate.highest,
                of_thread: None,
            },
            // It counts the hashes behind its shares only.
            hashes: self.results.hashes_total,
            shares: Shares {
                found: self.results.shares_total,
                accepted: self.results.shares_good,
                rejected: refused,
                accepted_difficulty: self.results.hashes_total,
                ..Shares::default()
            },
            pool: connected.map(|url| Connection {
                url: url.chars().filter(|c| !c.is_control()).take(300).collect(),
                uptime_secs: self.connection.uptime,
                difficulty: self.connection.diff,
                height: None,
                ping_ms: self.connection.ping,
                failures: self.connection.failures,
            }),
            memory_bytes: self.resources.memory.resident_set_memory,
            in_force: format!("XMRig {version}{pages}, {threads} threads"),
            ..Status::unknown("xmrig")
        }
    }
}

fn at(pages: &[Value], place: usize) -> u64 {
    pages.get(place).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_become_ours() {
        let summary: Summary = serde_json::from_value(json!({
            "algo": "rx/0", "version": "6.26.0", "paused": false, "hugepages": [1168, 1168],
            "hashrate": { "total": [512.5, null, null], "highest": 520.1 },
            "results": { "shares_good": 9, "shares_total": 10, "hashes_total": 90_000 },
            "connection": { "pool": "127.0.0.1:3333", "uptime": 7, "ping": 3, "diff": 10_000 },
            "resources": { "memory": { "resident_set_memory": 1_000_000 } },
        }))
        .unwrap();
        let status = summary.status(2, 2);
        assert_eq!((status.algorithm, status.phase), (Some(Algorithm::RandomX), Phase::Mining));
        assert_eq!((status.shares.accepted, status.shares.rejected), (9, 1));
        assert_eq!(status.hashrate.ten_secs, Some(512.5));
        assert_eq!(status.in_force, "XMRig 6.26.0, huge pages 1168/1168, 2 threads");
        let nothing: Summary = serde_json::from_str("{}").unwrap();
        assert!(matches!(nothing.status(0, 0).phase, Phase::Waiting { .. }));
    }
}
