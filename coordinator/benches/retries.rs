//! How fast the queue of retries in the database turns: a job fails, waits, is due, and is leased
//! again. `scripts/bench retries` runs it beside the same turns in Redis.
//!
//! Whole requests through the router, keys and all, without a socket. Prints one JSON object.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use coordinator::app::{App, Clock, Parts, SharedApp};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::Config;
use coordinator::db::Db;
use coordinator::router::router;
use coordinator::sweeper::Sweeper;
use ed25519_dalek::SigningKey;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use protocol::wallet::Scope;
use serde_json::{Value, json};
use tower::ServiceExt as _;

mod keys;

use keys::key;

/// Jobs in the queue.
const JOBS: usize = 500;

/// Attempts that each of them gets; all fail.
const ATTEMPTS: usize = 10;

/// Miners that ask and fail at once.
const MINERS: usize = 32;

#[tokio::main]
async fn main() {
    let url = std::env::var("BENCH_DATABASE_URL").expect("BENCH_DATABASE_URL: see scripts/bench");
    let bench = Bench::start(&url).await;
    bench.submit().await;
    let begun = Instant::now();
    let mut attempts = 0;
    let mut sweeper = Sweeper::new(&bench.app);
    while attempts < JOBS * ATTEMPTS {
        attempts += bench.fail_all().await;
        // Longer than any back-off, so that all are due.
        bench.clock.advance(Duration::from_secs(24 * 3600));
        sweeper.tick(&bench.app).await.expect("a sweep");
    }
    let secs = begun.elapsed().as_secs_f64();
    let retries = JOBS * (ATTEMPTS - 1);
    let report = json!({
        "retries": retries, "miners": MINERS, "secs": secs,
        "retries_per_s": retries as f64 / secs,
    });
    println!("{report}");
}

struct Bench {
    app: SharedApp,
    clock: Clock,
    router: Router,
    client: String,
    miner: String,
}

impl Bench {
    async fn start(url: &str) -> Self {
        let mut config = Config::default();
        config.limits.client_per_minute = 1_000_000;
        config.limits.miner_per_minute = 1_000_000;
        config.leases.start_grace_secs = u32::MAX;
        let db = Db::open(url, 8).expect("a database URL");
        db.migrate().await.expect("the schema");
        let clock = Clock::manual("2026-01-24T00:00:00Z".parse().expect("a time"));
        let parts = Parts {
            config,
            db,
            clock: clock.clone(),
            auth: Auth::keys(),
            artifacts: Artifacts::memory(),
            attestor: SigningKey::from_bytes(&[42; 32]),
        };
        let app = App::start(parts).await.expect("a coordinator");
        let client = key(&app, Scope::Client).await;
        let miner = key(&app, Scope::Miner).await;
        let router = router(Arc::clone(&app));
        let bench = Self { app, clock, router, client, miner };
        for n in 0..MINERS {
            let capabilities = json!({
                "miner_id": format!("m{n}"), "mode": "cpu", "gpu": false, "concurrency": 64,
                "workloads": ["hash"], "runners": ["builtin"], "wallet": "bench",
                "limits": {"ram_mb": 1024, "max_runtime_s": 3600, "disk_mb": 1024, "cpu_cores": 1},
                "pubkey": protocol::signing::key_id(&SigningKey::from_bytes(&[7; 32]).verifying_key()),
            });
            let (status, body) = bench.post(&bench.miner, "/v1/miner/register", capabilities).await;
            assert!(status.is_success(), "{body}");
        }
        bench
    }

    async fn submit(&self) {
        let job = json!({
            "workload": "hash", "input": {"inline": {"text": "x"}},
            "max_attempts": ATTEMPTS, "ttl_seconds": 2_592_000,
        });
        let (status, body) =
            self.post(&self.client, "/v1/jobs/batch", json!({"jobs": vec![job; JOBS]})).await;
        assert!(status.is_success(), "{body}");
    }

    /// Every miner takes and fails jobs until there is none; returns how many.
    async fn fail_all(&self) -> usize {
        let all = (0..MINERS).map(|n| self.fail_some(n));
        futures_util::future::join_all(all).await.into_iter().sum()
    }

    async fn fail_some(&self, n: usize) -> usize {
        let next = format!("/v1/miner/next?miner=m{n}&slots=1");
        let mut failed = 0;
        loop {
            let (status, job) = self.send(Method::GET, &self.miner, &next, Body::empty()).await;
            if status == StatusCode::NO_CONTENT {
                return failed;
            }
            assert!(status.is_success(), "{job}");
            let path = format!("/v1/miner/jobs/{}/fail", job["id"].as_str().expect("an id"));
            let report = json!({
                "lease_token": job["lease"]["token"], "error_code": "E_EXIT", "error_message": "1",
            });
            let (status, body) = self.post(&self.miner, &path, report).await;
            assert!(status.is_success(), "{body}");
            failed += 1;
        }
    }

    async fn post(&self, key: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, key, path, Body::from(body.to_string())).await
    }

    async fn send(&self, method: Method, key: &str, path: &str, body: Body) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let reply = self.router.clone().oneshot(request).await.expect("a reply");
        let status = reply.status();
        let bytes = reply.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}
