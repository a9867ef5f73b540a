//! A pool for tests: it listens on a port of its own, speaks both dialects, and computes every hash
//! again on a path of its own (RandomX interpreted, with AES by tables; GhostRider without the
//! processor's instructions).
//!
//! Three ways to use it:
//! - line by line, for one story: [`TestPool::accept`] gives each [`Miner`] who calls;
//! - by itself: [`keeper::keep`] serves all who call, and reports what it thinks of each share;
//! - as a program: `cargo run -p mining --example test_pool -- --port 0 --dialect monero`.
//!
//! Other crates' tests include it by its path, as the program does: `#[path = ".../mod.rs"]`. It
//! needs `futures-util`, `hex`, `mining`, `serde_json`, `sha2`, `tokio`, `tokio-rustls` and
//! `tokio-util`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::codec::{Framed, LinesCodec};

pub mod jobs;
pub mod keeper;
#[path = "../../../../ghostrider/tests/sphlib/mod.rs"]
mod sphlib;
pub mod verify;

/// Longer than anything takes, even on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Something to speak through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A pool that listens.
pub struct TestPool {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl TestPool {
    /// On `port` of the loopback interface; 0 for any that is free.
    pub async fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        Self { listener, tls: None }
    }

    /// The same in TLS.
    pub async fn listen_tls(config: ServerConfig) -> Self {
        Self { tls: Some(TlsAcceptor::from(Arc::new(config))), ..Self::listen(0).await }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// As a URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "stratum+ssl" } else { "stratum+tcp" };
        format!("{scheme}://{}", self.address())
    }

    /// The next one who calls; in TLS `None` for those who hang up at the sight of the certificate.
    pub async fn accept(&self) -> Option<Miner> {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.accept(stream).await.ok()?),
            None => Box::new(stream),
        };
        Some(Miner { lines: Framed::new(stream, LinesCodec::new_with_max_length(1 << 16)) })
    }
}

/// A miner, as its pool sees it.
pub struct Miner {
    lines: Framed<Box<dyn Stream>, LinesCodec>,
}

impl Miner {
    /// What it says next; `None` once it has hung up.
    pub async fn hear(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next()).await.expect("the miner says nothing");
        Some(serde_json::from_str(&line?.ok()?).unwrap())
    }

    /// What it says next, which is `method`.
    pub async fn expect(&mut self, method: &str) -> Value {
        let heard = self.hear().await.unwrap_or_else(|| panic!("hung up instead of {method}"));
        assert_eq!(heard["method"], method, "{heard}");
        heard
    }

    /// Says something.
    pub async fn say(&mut self, line: &Value) {
        self.say_plainly(&line.to_string()).await;
    }

    /// Says what may not even be JSON. Whoever has hung up does not hear it.
    pub async fn say_plainly(&mut self, line: &str) {
        let _ = self.lines.send(line).await;
    }

    /// Answers a question.
    pub async fn answer(&mut self, question: &Value, result: Value) {
        self.say(&json!({"id": question["id"], "error": null, "result": result})).await;
    }

    /// Answers a question with a refusal.
    pub async fn refuse(&mut self, question: &Value, error: Value) {
        self.say(&json!({"id": question["id"], "error": error, "result": null})).await;
    }

    /// Lets a Monero-style miner in, with its first job.
    pub async fn let_in(&mut self, job: &jobs::Monero) -> Value {
        let login = self.expect("login").await;
        let result = json!({"id": "s", "job": job.written(), "status": "OK",
            "extensions": ["algo", "keepalive"]});
        self.answer(&login, result).await;
        login
    }

    /// Sends a Monero-style job.
    pub async fn send_job(&mut self, job: &jobs::Monero) {
        self.say(&json!({"jsonrpc": "2.0", "method": "job", "params": job.written()})).await;
    }

    /// Lets a Bitcoin-style miner in; jobs are sent by [`jobs::Bitcoin::written`].
    pub async fn let_in_with(&mut self, extra_nonce: &str, second_bytes: usize) {
        let subscribe = self.expect("mining.subscribe").await;
        let result = json!([[["mining.notify", "s"]], extra_nonce, second_bytes]);
        self.answer(&subscribe, result).await;
        let authorize = self.expect("mining.authorize").await;
        self.answer(&authorize, json!(true)).await;
        let extra = self.expect("mining.extranonce.subscribe").await;
        self.answer(&extra, json!(true)).await;
    }

    /// Notifies a Bitcoin-style miner.
    pub async fn notify(&mut self, method: &str, params: Value) {
        self.say(&json!({"id": null, "method": method, "params": params})).await;
    }

    /// Reads and writes, apart from each other.
    fn into_lines(self) -> Framed<Box<dyn Stream>, LinesCodec> {
        self.lines
    }
}
