//! What stands below the coordinator's HTTP, and above it. `scripts/bench dispatch` runs it in turns
//! with the whole coordinator. Prints one JSON object.
//!
//! - `storage`: submit, claim and settle, receipts verified and ledger written, without HTTP and
//!   keys, on the database in `BENCH_DATABASE_URL`: `BENCH_JOBS` jobs by `BENCH_MINERS` miners.
//! - `submitted`: submits as many and one more, and settles one: somebody else burns down the others,
//!   and has an example of each row.
//! - `http`: a bare handler that takes a proof and answers, on a real socket.
//! - `http-verify`: the same with the verification of one Ed25519 receipt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::routing::post;
use axum::{Json, Router};
use coordinator::accounts::{Answer, Binding, Caller};
use coordinator::app::{App, Clock, Parts, SharedApp, new_lease_token};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::Config;
use coordinator::db::Db;
use coordinator::dispatch::Left;
use coordinator::intake::Submission;
use coordinator::router::router;
use ed25519_dalek::SigningKey;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use protocol::job::SlotKind;
use protocol::receipt::VERSION;
use protocol::wallet::Scope;
use protocol::{Job, JobId, Name, Proof, Receipt, Sha256Hex, Timestamp, Units, signing};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

mod keys;

use keys::key;

/// Jobs of one run, unless `BENCH_JOBS` says how many.
const JOBS: usize = 20_000;

/// Jobs that are submitted at once.
const SUBMITTING: usize = 500;

/// Miners, each with one job at a time, unless `BENCH_MINERS` says how many; for HTTP: connections.
const MINERS: usize = 64;

/// Requests of one run over HTTP.
const REQUESTS: usize = 50_000;

#[tokio::main]
async fn main() {
    let what = std::env::args().nth(1).unwrap_or_default();
    let report = match what.as_str() {
        "storage" => storage().await,
        "submitted" => submitted().await,
        "http" => http(false).await,
        "http-verify" => http(true).await,
        // cargo test and cargo bench pass options of their own.
        _ => return,
    };
    println!("{report}");
}

// --- storage -----------------------------------------------------------------------------------

async fn storage() -> Value {
    let jobs = count("BENCH_JOBS", JOBS);
    let (app, names) = open_with_miners(count("BENCH_MINERS", MINERS)).await;
    let begun = Instant::now();
    let since = submit(&app, jobs).await;
    let submitting = begun.elapsed();
    let begun = Instant::now();
    let done = join_all(names.iter().map(|name| work(&app, name, usize::MAX))).await.concat();
    assert_eq!(done.len(), jobs, "jobs were left");
    // Not to the end of the wait for more of them.
    let last = done.iter().map(|done| done.credited).max().expect("jobs");
    let working = last - begun;
    let after = |at: fn(&Done) -> Instant| {
        quantiles(done.iter().map(|done| at(done) - since[&done.job_id]).collect())
    };
    json!({
        "jobs": jobs, "miners": names.len(), "per_sec": jobs as f64 / working.as_secs_f64(),
        "submitted_per_sec": jobs as f64 / submitting.as_secs_f64(),
        "to_start": after(|done| done.started), "to_credit": after(|done| done.credited),
    })
}

async fn submitted() -> Value {
    let jobs = count("BENCH_JOBS", JOBS);
    let (app, names) = open_with_miners(count("BENCH_MINERS", MINERS)).await;
    let begun = Instant::now();
    submit(&app, jobs + 1).await;
    let submitting = begun.elapsed();
    let done = work(&app, &names[0], 1).await;
    assert_eq!(done.len(), 1, "no job came");
    json!({"jobs": jobs, "submitted_per_sec": jobs as f64 / submitting.as_secs_f64()})
}

/// A number that a variable of the environment may state.
fn count(variable: &str, otherwise: usize) -> usize {
    let stated = std::env::var(variable).ok();
    stated.map_or(otherwise, |text| text.parse().expect("a number in BENCH_JOBS, BENCH_MINERS"))
}

fn quantiles(mut all: Vec<Duration>) -> Value {
    all.sort_unstable();
    let at = |permille: usize| {
        all[(all.len() * permille).div_ceil(1000).max(1) - 1].as_secs_f64() * 1000.0
    };
    json!({"p50_ms": at(500), "p99_ms": at(990)})
}

/// A coordinator on the database in `BENCH_DATABASE_URL`, with so many miners.
async fn open_with_miners(miners: usize) -> (SharedApp, Vec<Name>) {
    let url = std::env::var("BENCH_DATABASE_URL").expect("BENCH_DATABASE_URL: see scripts/bench");
    let app = open(&url).await;
    let names: Vec<Name> =
        (0..miners).map(|n| format!("bench-{n}").parse().expect("a name")).collect();
    key(&app, Scope::Client).await;
    let wallet = key(&app, Scope::Miner).await;
    for name in &names {
        register(&app, &wallet, name).await;
    }
    (app, names)
}

async fn open(url: &str) -> SharedApp {
    let db = Db::open(url, 8).expect("a database URL");
    db.migrate().await.expect("the schema");
    let mut config = Config::default();
    // All miners register within a moment.
    config.limits.miner_per_minute = 1_000_000;
    let parts = Parts {
        config,
        db,
        clock: Clock::System,
        auth: Auth::keys(),
        artifacts: Artifacts::memory(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    App::start(parts).await.expect("a coordinator")
}

async fn register(app: &SharedApp, wallet: &str, name: &Name) {
    let body = json!({
        "miner_id": name, "mode": "cpu", "gpu": false, "concurrency": 1, "workloads": ["hash"],
        "runners": ["builtin"], "wallet": "bench", "pubkey": signing::key_id(&signer(name).verifying_key()),
        "limits": {"ram_mb": 1024, "max_runtime_s": 3600, "disk_mb": 1024, "cpu_cores": 1},
    });
    let request = Request::post("/v1/miner/register")
        .header("authorization", format!("Bearer {wallet}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request");
    let reply = router(Arc::clone(app)).oneshot(request).await.expect("a reply");
    assert!(reply.status().is_success(), "{}", reply.status());
}

fn signer(name: &Name) -> SigningKey {
    SigningKey::from_bytes(Sha256Hex::of(name.as_str().as_bytes()).as_bytes())
}

/// Submits so many jobs; returns when.
async fn submit(app: &SharedApp, jobs: usize) -> HashMap<JobId, Instant> {
    let client: Name = "bench".parse().expect("a name");
    let job = json!({"workload": "hash", "input": {"inline": {"text": "bench"}}});
    let mut since = HashMap::with_capacity(jobs);
    while since.len() < jobs {
        let one = || {
            let job = serde_json::from_value(job.clone()).expect("a job");
            let draft = app.intake.draft(&client, job).expect("a sound job");
            app.intake.submit(Submission { client: client.clone(), draft, idempotency: None })
        };
        let now = Instant::now();
        for taken in join_all((0..SUBMITTING.min(jobs - since.len())).map(|_| one())).await {
            match taken.expect("a job is taken") {
                Answer::Fresh(job) => since.insert(job.job_id, now),
                Answer::Replayed(_) => unreachable!("no key, no repeat"),
            };
        }
    }
    since
}

/// A job that was paid.
#[derive(Clone)]
struct Done {
    job_id: JobId,
    started: Instant,
    credited: Instant,
}

/// Takes and proves jobs, at most so many, until there is none.
async fn work(app: &SharedApp, name: &Name, most: usize) -> Vec<Done> {
    let (signer, mut done) = (signer(name), Vec::new());
    let caller = Caller {
        key_id: "bench".to_owned(),
        binding: Binding::Miner { wallet: "bench".parse().expect("a name"), miner_id: None },
    };
    let miner = app.presence.find(name).await.expect("the database").expect("a miner");
    while done.len() < most {
        let next =
            app.dispatch.next(Arc::clone(&miner), 1, Left::default(), Duration::from_secs(1)).await;
        let Some(job) = next.expect("the database") else { break };
        let started = Instant::now();
        let proof = proof(&job, name, &signer, app.now());
        app.settlement.prove(caller.clone(), proof, None).await.expect("a sound proof is paid");
        done.push(Done { job_id: job.id, started, credited: Instant::now() });
    }
    done
}

fn proof(job: &Job, name: &Name, signer: &SigningKey, now: Timestamp) -> Proof {
    let output = Sha256Hex::of(b"done");
    let units = Units::from_micros(1).expect("a number");
    let receipt = Receipt {
        version: VERSION.to_owned(),
        receipt_id: format!("rcpt-{}-{}", job.id, job.lease.fence).parse().expect("a name"),
        job_id: job.id.to_string(),
        provider: name.clone(),
        client: job.client.clone(),
        wallet: "bench".parse().expect("a name"),
        status: "COMPLETED".to_owned(),
        units,
        unit_type: job.price.unit_type,
        unit_price: job.price.unit_price,
        price: units.price(job.price.unit_price).expect("a price"),
        model: None,
        prompt_hash: None,
        started_at: now,
        completed_at: now,
        duration_ms: None,
        artifact_hash: Some(format!("sha256:{output}")),
        artifacts_root: None,
        fence: Some(job.lease.fence),
        isolation: None,
        energy_j: None,
        coordinator_id: None,
        nonce: "00000000000000000000000000000001".to_owned(),
        chain_id: None,
        metadata: Map::new(),
        signature: None,
        attestations: Vec::new(),
    };
    Proof {
        id: job.id.to_string(),
        mode: SlotKind::Cpu,
        output_sha: output,
        metrics: Map::new(),
        lease_token: Some(job.lease.token),
        started_at: None,
        finished_at: None,
        exit_code: Some(0),
        result: Some("done".into()),
        artifacts: Vec::new(),
        receipt: Some(receipt.signed(signer)),
    }
}

// --- HTTP --------------------------------------------------------------------------------------

/// How many requests a second a handler takes that does nothing, or only verifies.
async fn http(verify: bool) -> Value {
    let handler = move |Json(proof): Json<Proof>| async move {
        let sound = !verify || proof.receipt.is_some_and(|receipt| receipt.verify().is_ok());
        if sound { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = Router::new().route("/v1/miner/proof", post(handler));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let body = serde_json::to_string(&sample()).expect("a proof");
    let request = format!(
        "POST /v1/miner/proof HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {:x<48}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        "",
        body.len()
    );
    let begun = Instant::now();
    join_all((0..MINERS).map(|_| ask(address, &request, REQUESTS / MINERS))).await;
    let sent = REQUESTS / MINERS * MINERS;
    json!({"requests": sent, "per_sec": sent as f64 / begun.elapsed().as_secs_f64()})
}

/// Sends a request again and again on one connection. It looks for the status alone: what the
/// client costs shall be little.
async fn ask(address: std::net::SocketAddr, request: &str, times: usize) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut reply = [0; 512];
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await.expect("an open connection");
        let length = stream.read(&mut reply).await.expect("an open connection");
        assert!(reply[..length].starts_with(b"HTTP/1.1 200"), "the handler refuses");
    }
}

/// A proof as miners send it.
fn sample() -> Proof {
    let name: Name = "bench-0".parse().expect("a name");
    let job = serde_json::from_value(json!({
        "id": "01KFHYC9G00000000000000001", "workload": "hash",
        "runner": {"kind": "builtin"}, "slot": "cpu", "attempt": 1, "client": "bench",
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.002"},
        "lease": {
            "token": new_lease_token(), "fence": 1,
            "expires_at": "2026-01-24T00:00:30Z", "deadline": "2026-01-24T01:00:00Z",
        },
        "created_at": "2026-01-24T00:00:00Z", "expires_at": "2026-01-25T00:00:00Z",
    }));
    let now = "2026-01-24T00:00:00Z".parse().expect("a time");
    proof(&job.expect("a job"), &name, &signer(&name), now)
}
