//! The seed's own shell miner, with real `curl` and `jq`: it never registers, acknowledges nothing,
//! has no token, and is silent while it works. Against the mock and the real coordinator.

use std::fs;
use std::path::Path;
use std::time::Duration;

use coordinator::accounts::keys::{Minted, issue};
use coordinator::app::{App, Clock, Parts, SharedApp, random_bytes};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::{Config, Listen};
use coordinator::db::Db;
use coordinator::intake::Submission;
use coordinator::router::router;
use coordinator::serve::Server;
use coordinator::sweeper::Sweeper;
use coordinator::{accounts::store, ledger};
use ed25519_dalek::SigningKey;
use mock_coordinator::{Options, start};
use protocol::wallet::{Balance, NewKey, Scope};
use protocol::{JobId, JobState, Name, Sha256Hex, Timestamp};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::binary::program;
use super::{http, within};

fn clock() -> Clock {
    Clock::manual("2026-01-24T00:00:00Z".parse::<Timestamp>().unwrap())
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The script, running in a directory of its own.
struct ShellMiner {
    dir: TempDir,
    out: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl ShellMiner {
    async fn start(url: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hold = dir.path().join("hold");
        let made = program("mkfifo").arg(&hold).status().await.unwrap();
        assert!(made.success());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock/miner.sh");
        let mut child = program("bash")
            .arg(script)
            .env("COORD_URL", format!("{url}/"))
            .env("API_KEY", key)
            .env("WALLET_ADDR", "wallet_demo")
            .env("MINER_ID", "demo-node")
            .env("WORK_DIR", dir.path().join("work"))
            .env("LOG_FILE", dir.path().join("miner.log"))
            .env("HOLD", &hold)
            .env("JOB_POLL_SECS", "0.05")
            .env("MAX_CONCURRENCY", "1")
            .env("ACCEL_MODE", "auto")
            .env("NO_PROXY", "127.0.0.1")
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { dir, out, _child: child }
    }

    async fn says(&mut self, words: &str) {
        within(async { while !self.out.next_line().await.unwrap().unwrap().contains(words) {} })
            .await;
    }

    /// Lets the job at work go on.
    async fn release(&self) {
        let hold = self.dir.path().join("hold");
        within(tokio::task::spawn_blocking(move || fs::write(hold, "go on\n")))
            .await
            .unwrap()
            .unwrap();
    }
}

/// A long job and a short one, as any coordinator must serve them to the script.
async fn story(app: &SharedApp, url: &str, key: &str, client: &Name) {
    let mut sweeper = Sweeper::new(app);
    let long = submit(app, client, json!({"workload": "sd_infer"})).await;
    let short = submit(app, client, json!({"workload": "llm_gen"})).await;
    let mut miner = ShellMiner::start(url, key).await;
    miner.says(&format!("[JOB] start id={long} mode=cpu type=sd_infer")).await;
    // Four leases long it says nothing; nobody else gets the job.
    app.clock.advance(Duration::from_secs(120));
    sweeper.tick(app).await.unwrap();
    assert_eq!(state(app, long).await, JobState::Assigned);
    miner.release().await;
    miner.says(&format!("[JOB] done id={long} proof_submitted")).await;
    miner.says(&format!("[JOB] done id={short} proof_submitted")).await;
    for (job, output) in [
        (long, "stub: run stable diffusion pipeline here\n"),
        (short, "stub: run text generation here\n"),
    ] {
        assert_eq!(state(app, job).await, JobState::Completed);
        let mut tx = app.db.read().await.unwrap();
        let sql = "select output_sha from receipts where job_id = $1";
        let row = tx.row(sql, coordinator::db::Args::new().with(job)).await.unwrap().unwrap();
        assert_eq!(row.get::<Sha256Hex>("output_sha").unwrap(), Sha256Hex::of(output.as_bytes()));
    }
    // The clock stood still but for those 120 seconds, at 0.002 each.
    let balance = http().get(format!("{url}/v1/wallet/balance")).bearer_auth(key).send().await;
    let balance: Balance = balance.unwrap().json().await.unwrap();
    assert_eq!(balance.balance.to_string(), "0.24");
    let mut tx = app.db.read().await.unwrap();
    assert_eq!(ledger::store::audit(&mut tx).await.unwrap().faults, []);
}

async fn submit(app: &SharedApp, client: &Name, job: Value) -> JobId {
    let job = serde_json::from_value(job).unwrap();
    let draft = app.intake.draft(client, job).unwrap();
    let submission = Submission { client: client.clone(), draft, idempotency: None };
    match app.intake.submit(submission).await.unwrap() {
        coordinator::accounts::Answer::Fresh(view) => view.job_id,
        coordinator::accounts::Answer::Replayed(reply) => panic!("{reply:?}"),
    }
}

async fn state(app: &SharedApp, job: JobId) -> JobState {
    let mut tx = app.db.read().await.unwrap();
    let sql = "select coalesce(j.outcome, q.state) as state
               from jobs j left join queue q on q.job_id = j.job_id where j.job_id = $1";
    let row = tx.row(sql, coordinator::db::Args::new().with(job)).await.unwrap().unwrap();
    row.word("state").unwrap()
}

#[tokio::test]
async fn it_earns_at_the_mock() {
    let mock = start(Options { clock: clock(), ..Options::default() }).await.unwrap();
    story(&mock.app, &mock.url(), "CHANGE_ME", &name("client_demo")).await;
    // The seed's check sends no key at all.
    let balance = http().get(format!("{}/v1/wallet/balance", mock.url())).send().await.unwrap();
    assert_eq!(balance.json::<Balance>().await.unwrap().balance.to_string(), "0.24");
}

async fn earns_at_the_coordinator(url: &str, dir: &Path) {
    let (db, clock) = (Db::open(url, 4).unwrap(), clock());
    db.migrate().await.unwrap();
    let now = clock.now();
    let mut tx = db.write().await.unwrap();
    store::put_client(&mut tx, now, &name("c"), None, None).await.unwrap();
    tx.commit().await.unwrap();
    let new = NewKey {
        scope: Scope::Miner,
        client: None,
        wallet: Some(name("wallet_demo")),
        miner_id: None,
        funding: None,
        weight: None,
    };
    let minted = Minted::from_random(Scope::Miner, random_bytes(), random_bytes());
    let key = issue(&db, now, "local", &new, minted).await.unwrap().key;
    let parts = Parts {
        config: Config::default(),
        db,
        clock,
        auth: Auth::keys(),
        artifacts: Artifacts::local(dir).unwrap(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    let app = App::start(parts).await.unwrap();
    let listen = Listen { port: 0, ..Listen::default() };
    let server = Server::start(&listen, router(app.clone())).unwrap();
    story(&app, &server.url(), &key, &name("c")).await;
}

#[tokio::test]
async fn it_earns_at_the_coordinator_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("c.db").display());
    earns_at_the_coordinator(&url, dir.path()).await;
}

#[tokio::test]
async fn it_earns_at_the_coordinator_on_postgres() {
    let admin_url = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: scripts/test starts a server and sets it");
    let mut admin = PgConnection::connect(&admin_url).await.unwrap();
    let database = format!("seed_{}", hex(random_bytes::<8>()));
    let create = format!("create database {database} template template0");
    admin.execute(sqlx::query(AssertSqlSafe(create))).await.unwrap();
    let (server, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
    let server = server.rsplit_once('/').unwrap().0;
    let dir = tempfile::tempdir().unwrap();
    earns_at_the_coordinator(&format!("{server}/{database}?{query}"), dir.path()).await;
    let drop = format!("drop database {database} with (force)");
    admin.execute(sqlx::query(AssertSqlSafe(drop))).await.unwrap();
}

fn hex(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}
