//! A coordinator in memory with one client, one miner and one job at work, behind the real router.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use coordinator::accounts::keys::{Minted, issue};
use coordinator::app::{App, Clock, Parts, SharedApp};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::Config;
use coordinator::db::Db;
use coordinator::router::router;
use ed25519_dalek::SigningKey;
use protocol::wallet::{NewKey, Scope};
use protocol::{Job, Timestamp};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

/// No reply is larger.
const MAX_REPLY: usize = 64 << 20;

/// The longest that a request may take: none of a lone caller takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one is waited for that may itself wait for a job.
const GLANCE: Duration = Duration::from_millis(50);

/// The coordinator, its callers and the job that the miner holds.
pub(crate) struct Market {
    runtime: Runtime,
    router: Router,
    admin: String,
    client: String,
    miner: String,
    job: Option<Job>,
}

/// What a request is answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Market {
    /// Opens one.
    pub(crate) fn open() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (router, [admin, client, miner]) = runtime.block_on(house());
        let mut market = Self { runtime, router, admin, client, miner, job: None };
        market.job = Some(market.lease());
        market
    }

    /// `text` with the keys and the job in place of `{client}`, `{miner}`, `{admin}`, `{job}` and
    /// `{lease}`.
    pub(crate) fn filled_in(&self, text: &[u8]) -> Vec<u8> {
        let (job, lease) = self
            .job
            .as_ref()
            .map_or_else(Default::default, |job| (job.id.to_string(), job.lease.token.to_string()));
        let names = ["{client}", "{miner}", "{admin}", "{job}", "{lease}"];
        let values = [&self.client, &self.miner, &self.admin, &job, &lease];
        let mut filled = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.first() {
            match names.iter().zip(values).find(|(name, _)| rest.starts_with(name.as_bytes())) {
                Some((name, value)) => {
                    filled.extend_from_slice(value.as_bytes());
                    rest = &rest[name.len()..];
                }
                None => {
                    filled.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        filled
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: Request<Body>) -> Answer {
        self.answer_within(PATIENCE, request).expect("a request has an end")
    }

    /// Answers a request that may wait for a job; `None` where it does.
    pub(crate) fn glance(&self, request: Request<Body>) -> Option<Answer> {
        self.answer_within(GLANCE, request)
    }

    fn answer_within(&self, patience: Duration, request: Request<Body>) -> Option<Answer> {
        let answering = async {
            let response = match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, MAX_REPLY).await.expect("a body");
            Answer { status: parts.status, headers: parts.headers, body: body.into() }
        };
        self.runtime.block_on(async { tokio::time::timeout(patience, answering).await.ok() })
    }

    /// The miner registers, the client submits, the miner takes and acknowledges.
    fn lease(&self) -> Job {
        let workloads = ["hash", "cli", "torch_bench"];
        self.post(&self.miner, "/v1/miner/register", &json!({
            "miner_id": "m1", "mode": "cpu", "gpu": false, "concurrency": 8,
            "workloads": workloads, "runners": ["builtin", "cli"],
            "limits": {"ram_mb": 32768, "max_runtime_s": 3600, "disk_mb": 50000, "cpu_cores": 16},
        }));
        self.post(
            &self.client,
            "/v1/jobs",
            &json!({
                "workload": "hash", "limits": {"max_output_mb": 1},
                "artifacts": [{"path": "out.bin", "max_mb": 1}, {"path": "logs/run.txt"}],
            }),
        );
        let next = Request::get("/v1/miner/next?miner=m1&slots=8");
        let job = self.send(next.header("x-api-key", &self.miner), Body::empty());
        let job: Job = serde_json::from_slice(&job).expect("a job");
        let path = format!("/v1/miner/jobs/{}/ack", job.id);
        self.post(&self.miner, &path, &json!({"lease_token": job.lease.token}));
        job
    }

    fn post(&self, key: &str, path: &str, body: &Value) {
        let request = Request::builder().method(Method::POST).uri(path).header("x-api-key", key);
        self.send(request.header("content-type", "application/json"), body.to_string().into());
    }

    fn send(&self, request: axum::http::request::Builder, body: Body) -> Vec<u8> {
        let answer = self.answer(request.body(body).expect("a request"));
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status.is_success(), "{} {text}", answer.status);
        answer.body
    }
}

/// The router, and the keys of an admin, a client and a miner.
async fn house() -> (Router, [String; 3]) {
    let mut config = Config::default();
    config.limits.admin_per_minute = u32::MAX;
    config.limits.client_per_minute = u32::MAX;
    config.limits.miner_per_minute = u32::MAX;
    let db = Db::open("sqlite::memory:", 1).expect("a database");
    db.migrate().await.expect("a schema");
    let start: Timestamp = "2026-01-24T00:00:00Z".parse().expect("a moment");
    let parts = Parts {
        config,
        db,
        clock: Clock::manual(start),
        auth: Auth::keys(),
        artifacts: Artifacts::memory(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    let app = App::start(parts).await.expect("an app");
    let keys = [
        key(&app, Scope::Admin).await,
        key(&app, Scope::Client).await,
        key(&app, Scope::Miner).await,
    ];
    (router(app), keys)
}

async fn key(app: &SharedApp, scope: Scope) -> String {
    let name = |text: &str| text.parse().expect("a name");
    let new = NewKey {
        scope,
        client: (scope == Scope::Client).then(|| name("client")),
        wallet: (scope == Scope::Miner).then(|| name("wallet")),
        miner_id: None,
        funding: None,
        weight: None,
    };
    let minted = Minted::from_random(scope, [1; 8], [2; 32]);
    issue(&app.db, app.now(), "fuzz", &new, minted).await.expect("a key").key
}
