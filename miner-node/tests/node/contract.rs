//! One story in the node's own words, told to the mock and to the real coordinator on both
//! databases: whoever serves it has to answer the same.

use std::time::Duration;

use coordinator::accounts::Answer;
use coordinator::accounts::keys::{Minted, issue};
use coordinator::accounts::store::put_client;
use coordinator::app::{App, Clock, Parts, SharedApp, random_bytes, random_u128};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::{Config, Listen};
use coordinator::db::Db;
use coordinator::intake::Submission;
use coordinator::router::router;
use coordinator::serve::Server;
use coordinator::{ledger, settlement};
use ed25519_dalek::SigningKey;
use miner_node::capacity::Footprint;
use miner_node::config::{self, Secret};
use miner_node::coordinator::{CallError, Coordinator, Free, Remedy};
use miner_node::receipts::{self, Signer};
use miner_node::workdir::RunRecord;
use protocol::job::SlotKind;
use protocol::miner::{ActiveJob, Fail, Heartbeat, LogChunk, LogStream, Progress};
use protocol::proof::ArtifactProof;
use protocol::wallet::{NewKey, Scope};
use protocol::{
    ErrorCode, FailureCode, Job, JobId, JobState, MinerCapabilities, Name, Proof, Sha256Hex,
    Timestamp, signing,
};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// A node that has one slot, and nothing else in it.
const ONE: Free =
    Free { slots: 1, room: Footprint { ram_mb: 1 << 20, threads: 64, disk_mb: u64::MAX } };

const OUTPUT: &[u8] = b"what the job said\n";
const ARTIFACT: &[u8] = b"what it left behind";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn clock() -> Clock {
    Clock::manual("2026-01-24T00:00:00Z".parse::<Timestamp>().unwrap())
}

/// A node as far as it talks, and the coordinator from inside.
struct Stage {
    app: SharedApp,
    node: Coordinator,
    client: Name,
    key: SigningKey,
}

impl Stage {
    fn new(app: SharedApp, url: &str, key: &str, client: Name) -> Self {
        // Another test may have been faster; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = config::Coordinator {
            base_url: url.parse().unwrap(),
            auth_token: Some(Secret::new(key)),
            ..config::Coordinator::default()
        };
        let node = Coordinator::new(&settings).unwrap();
        Self { app, node, client, key: SigningKey::from_bytes(&[7; 32]) }
    }

    fn capabilities(&self) -> MinerCapabilities {
        let pubkey = signing::key_id(&self.key.verifying_key());
        serde_json::from_value(json!({
            "miner_id": "node7", "mode": "cpu", "gpu": false, "concurrency": 2,
            "workloads": ["hash"], "runners": ["builtin"], "wallet": "wallet_demo",
            "limits": {"ram_mb": 4096, "max_runtime_s": 3600, "disk_mb": 1000, "cpu_cores": 2},
            "pubkey": pubkey,
        }))
        .unwrap()
    }

    fn heartbeat(&self, jobs: &[&Job]) -> Heartbeat {
        let leased =
            |job: &&Job| ActiveJob::Leased { id: job.id, lease_token: Some(job.lease.token) };
        Heartbeat {
            miner_id: name("node7"),
            wallet: Some(name("wallet_demo")),
            mode: SlotKind::Cpu,
            gpu: false,
            status: None,
            inflight: None,
            queue_len: None,
            active_jobs: jobs.iter().map(leased).collect(),
            metrics: Map::new(),
            mining: Map::new(),
            capabilities: None,
        }
    }

    async fn submit(&self, job: Value) -> JobId {
        let job = serde_json::from_value(job).unwrap();
        let draft = self.app.intake.draft(&self.client, job).unwrap();
        let client = self.client.clone();
        match self.app.intake.submit(Submission { client, draft, idempotency: None }).await {
            Ok(Answer::Fresh(view)) => view.job_id,
            other => panic!("{other:?}"),
        }
    }

    async fn take(&self) -> Job {
        let wait = Duration::from_secs(20);
        let job = self.node.next(&name("node7"), ONE, wait).await.unwrap().unwrap();
        let lease = self.node.ack(job.id, job.lease.token).await.unwrap();
        assert_eq!((lease.token, lease.fence), (job.lease.token, job.lease.fence));
        job
    }

    /// The proof of a run of so many seconds, with its receipt.
    fn proof(&self, job: &Job, secs: u64) -> Proof {
        let artifact = ArtifactProof {
            path: "left.txt".parse().unwrap(),
            sha256: Sha256Hex::of(ARTIFACT),
            bytes: ARTIFACT.len() as u64,
        };
        let run = RunRecord {
            mode: SlotKind::Cpu,
            isolation: "bwrap".to_owned(),
            started_at: self.app.now(),
            wall_micros: secs * 1_000_000,
            cpu_micros: 0,
            max_rss_bytes: 0,
            written_bytes: 0,
            vram_bytes: None,
            joules: None,
            egress_bytes: None,
            output_sha: Sha256Hex::of(OUTPUT),
            artifacts: vec![artifact.clone()],
            fuel: None,
            tokens: None,
            model: None,
            measured: Map::new(),
        };
        let (miner, wallet) = (name("node7"), name("wallet_demo"));
        let signer = Signer { miner: &miner, wallet: &wallet, key: &self.key, nonce: 1 };
        Proof {
            id: job.id.to_string(),
            mode: SlotKind::Cpu,
            output_sha: run.output_sha,
            metrics: Map::new(),
            lease_token: Some(job.lease.token),
            started_at: None,
            finished_at: None,
            exit_code: Some(0),
            result: Some(String::from_utf8_lossy(OUTPUT).into_owned().into()),
            artifacts: vec![artifact],
            receipt: receipts::receipt(job, &run, &signer),
        }
    }
}

fn refusal(outcome: Result<impl std::fmt::Debug, CallError>) -> (Option<ErrorCode>, Remedy) {
    let error = outcome.unwrap_err();
    (error.code(), error.remedy())
}

fn key() -> String {
    uuid::Builder::from_random_bytes(random_bytes()).into_uuid().to_string()
}

/// The story. The coordinator's clock moves only where the story says so.
async fn story(stage: &Stage) {
    let Stage { app, node, .. } = stage;
    let unknown = node.next(&name("node7"), ONE, Duration::ZERO).await;
    assert_eq!(refusal(unknown), (Some(ErrorCode::MinerNotRegistered), Remedy::Register));
    assert_eq!(node.register(&stage.capabilities()).await.unwrap().status, "registered");
    assert_eq!(node.register(&stage.capabilities()).await.unwrap().status, "updated");
    assert_eq!(node.heartbeat(&stage.heartbeat(&[])).await.unwrap().server_time, app.now());
    assert_eq!(node.next(&name("node7"), ONE, Duration::ZERO).await.unwrap(), None);

    is_paid(stage).await;
    is_failed_and_called_off(stage).await;

    let mut tx = app.db.read().await.unwrap();
    let audit = ledger::store::audit(&mut tx).await.unwrap();
    assert_eq!((audit.faults, audit.receipts), (vec![], 1));
    assert_eq!(audit.credited.to_string(), "0.008");
}

async fn is_paid(stage: &Stage) {
    let Stage { app, node, .. } = stage;
    let id = stage.submit(json!({"workload": "hash", "artifacts": [{"path": "left.txt"}]})).await;
    let job = stage.take().await;
    assert_eq!((job.id, job.attempt), (id, 1));
    let token = job.lease.token;
    let progress = Progress { lease_token: Some(token), pct: Some(50), ..Progress::default() };
    assert!(node.progress(id, &progress).await.unwrap().go_on);
    let chunk =
        LogChunk { lease_token: Some(token), stream: LogStream::Stdout, seq: 0, text: "x".into() };
    assert!(node.logs(id, &chunk).await.unwrap().accepted);
    let beat = node.heartbeat(&stage.heartbeat(&[&job])).await.unwrap();
    assert_eq!((beat.renewed, beat.cancel_jobs), (vec![id], vec![]));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("left.txt"), ARTIFACT).unwrap();
    let proof = stage.proof(&job, 5);
    let uploaded = node.upload(id, token, dir.path(), &proof.artifacts).await.unwrap();
    assert_eq!(uploaded.items[0].sha256, Sha256Hex::of(ARTIFACT));

    // It claims five seconds, the coordinator saw four, and says so; it signs again.
    let clock = app.clock.clone();
    clock.advance(Duration::from_secs(4));
    let (code, remedy) = refusal(node.proof(&proof, &key()).await);
    let most = "4".parse().unwrap();
    assert_eq!((code, remedy), (Some(ErrorCode::UnitsExceeded), Remedy::Lower(most)));
    let lowered = receipts::lowered(proof.receipt.as_ref().unwrap(), most, &stage.key);
    let proof = Proof { receipt: lowered, ..proof };
    let idempotency = key();
    let credited = node.proof(&proof, &idempotency).await.unwrap();
    assert_eq!(credited.credited.to_string(), "0.008");
    assert_eq!(credited.receipt.verify(), Ok(()));
    // Its answer was lost: the same request again, and then, after a restart, another one.
    assert_eq!(node.proof(&proof, &idempotency).await.unwrap(), credited);
    assert_eq!(node.proof(&proof, &key()).await.unwrap(), credited);
    let other = Proof { output_sha: Sha256Hex::of(b"else"), result: None, ..proof };
    let refused = refusal(node.proof(&other, &key()).await);
    assert_eq!(refused, (Some(ErrorCode::DuplicateProof), Remedy::Drop));
}

async fn is_failed_and_called_off(stage: &Stage) {
    let Stage { app, node, client, .. } = stage;
    let id = stage.submit(json!({"workload": "hash", "max_attempts": 1})).await;
    let job = stage.take().await;
    let report = Fail {
        lease_token: Some(job.lease.token),
        error_code: FailureCode::Exit,
        error_message: Some("exit code 3".to_owned()),
        metrics: Map::new(),
        logs_tail: None,
    };
    let (idempotency, ended) = (key(), (JobState::Failed, 1));
    let failed = node.fail(id, &report, &idempotency).await.unwrap();
    assert_eq!((failed.state, failed.attempt), ended);
    let again = node.fail(id, &report, &idempotency).await.unwrap();
    assert_eq!((again.state, again.attempt), ended);

    let id = stage.submit(json!({"workload": "hash"})).await;
    let job = stage.take().await;
    settlement::cancel(app, client, id, None).await.unwrap();
    let beat = node.heartbeat(&stage.heartbeat(&[&job])).await.unwrap();
    assert_eq!((beat.renewed, beat.cancel_jobs), (vec![], vec![id]));
    let late = Proof { artifacts: Vec::new(), ..stage.proof(&job, 1) };
    let refused = refusal(node.proof(&late, &key()).await);
    assert_eq!(refused, (Some(ErrorCode::ConflictState), Remedy::Drop));
}

#[tokio::test]
async fn told_to_the_mock() {
    let options =
        mock_coordinator::Options { clock: clock(), ..mock_coordinator::Options::default() };
    let mock = mock_coordinator::start(options).await.unwrap();
    story(&Stage::new(mock.app.clone(), &mock.url(), "CHANGE_ME", name("client_demo"))).await;
}

/// The real coordinator on a database of its own, with keys.
async fn told_to_the_coordinator(url: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (db, clock) = (Db::open(url, 4).unwrap(), clock());
    db.migrate().await.unwrap();
    let mut tx = db.write().await.unwrap();
    put_client(&mut tx, clock.now(), &name("c"), None, None).await.unwrap();
    tx.commit().await.unwrap();
    let wallet = Some(name("wallet_demo"));
    let new = NewKey {
        scope: Scope::Miner,
        client: None,
        wallet,
        miner_id: None,
        funding: None,
        weight: None,
    };
    let minted = Minted::from_random(Scope::Miner, random_bytes(), random_bytes());
    let key = issue(&db, clock.now(), "local", &new, minted).await.unwrap().key;
    let parts = Parts {
        config: Config::default(),
        db,
        clock,
        auth: Auth::keys(),
        artifacts: Artifacts::local(dir.path()).unwrap(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    let app = App::start(parts).await.unwrap();
    let listen = Listen { port: 0, ..Listen::default() };
    let server = Server::start(&listen, router(app.clone())).unwrap();
    story(&Stage::new(app, &server.url(), &key, name("c"))).await;
}

#[tokio::test]
async fn told_to_the_coordinator_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    told_to_the_coordinator(&format!("sqlite:{}", dir.path().join("c.db").display())).await;
}

#[tokio::test]
async fn told_to_the_coordinator_on_postgres() {
    let admin_url = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: scripts/test starts a server and sets it");
    let mut admin = PgConnection::connect(&admin_url).await.unwrap();
    let database = format!("contract_{:032x}", random_u128());
    let create = format!("create database {database} template template0");
    admin.execute(sqlx::query(AssertSqlSafe(create))).await.unwrap();
    let (server, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
    let server = server.rsplit_once('/').unwrap().0;
    told_to_the_coordinator(&format!("{server}/{database}?{query}")).await;
    let drop = format!("drop database {database} with (force)");
    admin.execute(sqlx::query(AssertSqlSafe(drop))).await.unwrap();
}
