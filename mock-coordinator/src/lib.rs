//! The mock coordinator: the coordinator library on a database in memory, open to everybody, with
//! scripted jobs and scripted faults. For local development, and for the tests of the node.
//!
//! Nothing of the coordinator's behaviour lives here; only what stands around it.

pub mod faults;
pub mod feeder;
pub mod journal;
pub mod script;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::{Router, middleware};
use coordinator::accounts::store;
use coordinator::app::{self, App, Clock, Parts, SharedApp};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::{Config, Listen};
use coordinator::db::Db;
use coordinator::router;
use coordinator::serve::Server;
use coordinator::sweeper::Sweeper;
use ed25519_dalek::SigningKey;
use protocol::client::{JobView, NewJob};
use protocol::{JobId, Name};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub use crate::faults::Faults;
pub use crate::journal::{Call, Journal};
pub use crate::script::Script;

/// The largest reply that is read back from the router, in bytes.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// How long requests at work may take to end when the mock is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// How a mock behaves.
#[derive(Debug)]
pub struct Options {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// The client for whom jobs are submitted.
    pub client: Name,
    /// The wallet that is credited where a miner names none.
    pub wallet: Name,
    /// What goes wrong, and when.
    pub faults: Faults,
    /// Jobs to be submitted one after another; `None`: only what is submitted from outside.
    pub feed: Option<Script>,
    /// The coordinator's own settings; where it listens is said above.
    pub config: Config,
    /// The coordinator's time.
    pub clock: Clock,
}

impl Default for Options {
    /// For tests: a free port, no faults, no jobs.
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            client: script::name("client_demo"),
            wallet: script::name("wallet_demo"),
            faults: Faults::default(),
            feed: None,
            config: Config::default(),
            clock: Clock::System,
        }
    }
}

/// Why a mock did not start, or a call to one was refused.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// The port cannot be used.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database in memory failed.
    #[error("database: {0}")]
    Db(String),
    /// The coordinator refused the call.
    #[error("{status}: {body}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        body: String,
    },
}

/// A mock that runs.
#[derive(Debug)]
pub struct Mock {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The coordinator inside.
    pub app: SharedApp,
    /// The calls that were made from outside.
    pub journal: Arc<Journal>,
    router: Router,
    server: Server,
    stop: CancellationToken,
}

/// Starts a mock.
///
/// # Errors
/// Where the port cannot be used.
pub async fn start(options: Options) -> Result<Mock, MockError> {
    let Options { host, port, client, wallet, faults, feed, config, clock } = options;
    let app = open(&client, wallet, config, clock).await?;
    let inside = router::router(app.clone());
    let journal = Arc::new(Journal::default());
    let outside = inside
        .clone()
        .layer(middleware::from_fn_with_state(journal.clone(), journal::write))
        .layer(middleware::from_fn_with_state(Arc::new(faults), faults::inject));
    let listen = Listen { host, port, ..Listen::default() };
    let server = Server::start(&listen, outside)?;
    let stop = CancellationToken::new();
    let (swept, swept_until) = (app.clone(), stop.clone());
    tokio::spawn(async move { Sweeper::new(&swept).run(&swept, swept_until).await });
    if let Some(script) = feed {
        let feeder = feeder::run(inside.clone(), script);
        tokio::spawn(stop.clone().run_until_cancelled_owned(feeder));
    }
    Ok(Mock { addr: server.addr, app, journal, router: inside, server, stop })
}

async fn open(
    client: &Name,
    wallet: Name,
    config: Config,
    clock: Clock,
) -> Result<SharedApp, MockError> {
    let failed = |error: &dyn std::fmt::Display| MockError::Db(error.to_string());
    let db = Db::open("sqlite::memory:", 1).map_err(|error| failed(&error))?;
    db.migrate().await.map_err(|error| failed(&error))?;
    let mut tx = db.write().await.map_err(|error| failed(&error))?;
    let known = store::put_client(
        &mut tx,
        clock.now(),
        client,
        Some(protocol::wallet::Funding::Issuance),
        Some(1),
    )
    .await;
    known.map_err(|error| failed(&error))?;
    tx.commit().await.map_err(|error| failed(&error))?;
    let parts = Parts {
        config,
        db,
        clock,
        auth: Auth::Open { client: client.clone(), wallet },
        artifacts: Artifacts::memory(),
        attestor: SigningKey::from_bytes(&app::random_bytes()),
    };
    App::start(parts).await.map_err(|error| failed(&error))
}

impl Mock {
    /// Its base URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Submits a job; faults do not touch this call.
    ///
    /// # Errors
    /// Where the coordinator refuses it.
    pub async fn submit(&self, job: &NewJob) -> Result<JobView, MockError> {
        call(&self.router, Method::POST, "/v1/jobs", Some(job)).await
    }

    /// A job as its client sees it.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn job(&self, id: JobId) -> Result<JobView, MockError> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    /// Whatever a path of the API answers; faults do not touch this call.
    ///
    /// # Errors
    /// Where it answers with an error.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, MockError> {
        call(&self.router, Method::GET, path, None::<&()>).await
    }

    /// Stops listening, ends what waits, and forgets everything.
    ///
    /// # Errors
    /// Where it had ended before.
    pub async fn stop(self) -> Result<(), MockError> {
        self.app.dispatch.drain();
        self.stop.cancel();
        Ok(self.server.stop(GRACE).await?)
    }
}

/// One call to a router, without a network in between.
pub(crate) async fn call<T: DeserializeOwned>(
    router: &Router,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, MockError> {
    let failed = |error: &dyn std::fmt::Display| MockError::Io(io::Error::other(error.to_string()));
    let body = body.map(serde_json::to_vec).transpose().map_err(|error| failed(&error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.unwrap_or_default()))
        .map_err(|error| failed(&error))?;
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), MAX_REPLY).await;
    let bytes = bytes.map_err(|error| failed(&error))?;
    if !status.is_success() {
        let body = String::from_utf8_lossy(&bytes).into_owned();
        return Err(MockError::Refused { status, body });
    }
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}
