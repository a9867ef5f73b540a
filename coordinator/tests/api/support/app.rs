//! A coordinator of a test's own, with a database of its own.

use std::time::Duration;

use axum::Router;
use coordinator::accounts::keys::{Minted, issue};
use coordinator::app::{App, Clock, Parts, SharedApp, random_u128};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::Config;
use coordinator::db::{Args, Db};
use coordinator::retention::Retention;
use coordinator::router::router;
use coordinator::sweeper::Sweeper;
use ed25519_dalek::SigningKey;
use protocol::control::Controls;
use protocol::wallet::{Funding, NewKey, Scope};
use protocol::{Amount, Timestamp};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use super::{Client, Reply, Request, TestMiner};

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// SQLite without a file: readers and writer share one connection, as in the mock.
    Memory,
}

/// A running coordinator.
pub struct TestApp {
    pub app: SharedApp,
    pub clock: Clock,
    pub router: Router,
    pub admin_key: String,
    /// Where the artifacts are.
    pub dir: TempDir,
    sweeper: tokio::sync::Mutex<Sweeper>,
    retention: tokio::sync::Mutex<Retention>,
    database: Option<PostgresDatabase>,
}

/// A second coordinator on the same database.
pub struct Replica {
    pub app: SharedApp,
    pub router: Router,
}

impl TestApp {
    pub async fn sqlite() -> Self {
        Self::with(Engine::Sqlite, |_| {}).await
    }

    pub async fn postgres() -> Self {
        Self::with(Engine::Postgres, |_| {}).await
    }

    /// With other settings than the defaults.
    pub async fn with(engine: Engine, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(&dir.path().join("artifacts")).unwrap();
        Self::start(engine, dir, artifacts, change).await
    }

    /// With its files in another place.
    pub async fn with_artifacts(engine: Engine, artifacts: Artifacts) -> Self {
        Self::start(engine, tempfile::tempdir().unwrap(), artifacts, |_| {}).await
    }

    async fn start(
        engine: Engine,
        dir: TempDir,
        artifacts: Artifacts,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (database, url) = match engine {
            Engine::Memory => (None, "sqlite::memory:".to_owned()),
            Engine::Sqlite => (None, format!("sqlite:{}", dir.path().join("test.db").display())),
            Engine::Postgres => {
                let database = PostgresDatabase::create().await;
                let url = database.url.clone();
                (Some(database), url)
            }
        };
        let mut config = Config::default();
        // Tests say by themselves when a rate is what they look at.
        config.limits.client_per_minute = 100_000;
        config.limits.miner_per_minute = 100_000;
        config.limits.admin_per_minute = 100_000;
        config.leases.start_grace_secs = 0;
        change(&mut config);
        let db = Db::open(&url, 4).unwrap();
        db.migrate().await.unwrap();
        let clock = Clock::manual("2026-01-24T00:00:00Z".parse::<Timestamp>().unwrap());
        let parts = Parts {
            config,
            db,
            clock: clock.clone(),
            auth: Auth::keys(),
            artifacts,
            attestor: SigningKey::from_bytes(&[42; 32]),
        };
        let app = App::start(parts).await.unwrap();
        let admin_key = issue_key(&app, Scope::Admin, "", None, None).await;
        Self {
            router: router(app.clone()),
            sweeper: tokio::sync::Mutex::new(Sweeper::new(&app)),
            retention: tokio::sync::Mutex::new(Retention::new(&app)),
            app,
            clock,
            admin_key,
            dir,
            database,
        }
    }

    /// Another replica, with connections of its own and the same clock, settings and files.
    pub async fn replica(&self) -> Replica {
        self.replica_with(self.clock.clone(), self.app.artifacts.clone()).await
    }

    /// Another replica, with connections, a clock and files of its own and the same settings.
    pub async fn replica_with(&self, clock: Clock, artifacts: Artifacts) -> Replica {
        let parts = Parts {
            config: (*self.app.config).clone(),
            db: Db::open(self.database_url(), 4).unwrap(),
            clock,
            auth: Auth::keys(),
            artifacts,
            attestor: self.app.attestor.clone(),
        };
        let app = App::start(parts).await.unwrap();
        Replica { router: router(app.clone()), app }
    }

    pub fn engine(&self) -> Engine {
        match self.app.db.engine() {
            coordinator::db::Engine::Sqlite => Engine::Sqlite,
            coordinator::db::Engine::Postgres => Engine::Postgres,
        }
    }

    /// A client whose jobs are paid by issuance.
    pub async fn client(&self, name: &str) -> Client<'_> {
        let key = issue_key(&self.app, Scope::Client, name, None, None).await;
        Client { app: self, key }
    }

    /// A client that pays in first.
    pub async fn prepaid_client(&self, name: &str) -> Client<'_> {
        let funding = Some(Funding::Prepaid);
        let key = issue_key(&self.app, Scope::Client, name, funding, None).await;
        Client { app: self, key }
    }

    /// A client with a larger share of the queue.
    pub async fn weighted_client(&self, name: &str, weight: u16) -> Client<'_> {
        let key = issue_key(&self.app, Scope::Client, name, None, Some(weight)).await;
        Client { app: self, key }
    }

    /// A miner with the wallet `w-NAME`; it has not said anything yet.
    pub async fn miner(&self, name: &str) -> TestMiner<'_> {
        let key = issue_key(&self.app, Scope::Miner, &format!("w-{name}"), None, None).await;
        TestMiner::new(self, name, key)
    }

    /// A miner that registered.
    pub async fn registered(&self, name: &str) -> TestMiner<'_> {
        let miner = self.miner(name).await;
        miner.register().await.expect(201);
        miner
    }

    pub fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Where its PostgreSQL is.
    pub fn database_url(&self) -> &str {
        &self.database.as_ref().expect("a PostgreSQL").url
    }

    /// One turn of the background loops.
    pub async fn sweep(&self) {
        self.sweeper.lock().await.tick(&self.app).await.unwrap();
        self.retention.lock().await.tick(&self.app).await.unwrap();
    }

    /// An operator notes that a client paid in.
    pub async fn deposit(&self, client: &str, amount: &str, reference: &str) {
        let path = format!("/v1/admin/wallets/{client}/deposit");
        let body = json!({"amount": amount, "reference": reference});
        let reply = Request::post(&path, body).key(&self.admin_key).send(self).await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }

    /// An admin sends a request.
    pub async fn admin(&self, request: Request) -> Reply {
        request.key(&self.admin_key).send(self).await
    }

    /// An operator decides; what is not named is as it is by default.
    pub async fn decide(&self, controls: Value) -> Controls {
        self.admin(Request::put("/v1/admin/controls", controls)).await.expect(200).json()
    }

    /// What an account of the ledger holds.
    pub async fn account(&self, name: &str) -> Amount {
        let mut tx = self.app.db.read().await.unwrap();
        let sql = "select balance from accounts where name = $1";
        let row = tx.row(sql, Args::new().with(name)).await.unwrap();
        row.unwrap().get("balance").unwrap()
    }

    /// Checks the books; every test that moves money ends with it.
    pub async fn audit(&self) {
        let mut tx = self.app.db.read().await.unwrap();
        let audit = coordinator::ledger::store::audit(&mut tx).await.unwrap();
        assert_eq!(audit.faults, []);
    }
}

async fn issue_key(
    app: &SharedApp,
    scope: Scope,
    name: &str,
    funding: Option<Funding>,
    weight: Option<u16>,
) -> String {
    let new = NewKey {
        scope,
        client: (scope == Scope::Client).then(|| name.parse().unwrap()),
        wallet: (scope == Scope::Miner).then(|| name.parse().unwrap()),
        miner_id: None,
        funding,
        weight,
    };
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&random_u128().to_be_bytes());
    let id = random_u128().to_be_bytes()[..8].try_into().unwrap();
    let minted = Minted::from_random(scope, id, secret);
    issue(&app.db, app.now(), "local", &new, minted).await.unwrap().key
}

/// A database on the server of `TEST_POSTGRES_URL`, dropped with this value.
pub struct PostgresDatabase {
    admin_url: String,
    name: String,
    pub url: String,
}

impl PostgresDatabase {
    pub async fn create() -> Self {
        let admin_url = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL is not set: scripts/test starts a server and sets it");
        let name = format!("test_{:032x}", random_u128());
        let mut admin = PgConnection::connect(&admin_url).await.unwrap();
        let create = format!("create database {name} template template0");
        admin.execute(sqlx::query(AssertSqlSafe(create))).await.unwrap();
        let (server, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
        let server = &server[..server.rfind('/').unwrap()];
        let url = format!("{server}/{name}?{query}");
        Self { admin_url, name, url }
    }

    /// Where its server listens, as `host:port`.
    pub fn server(&self) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        rest.split('/').next().unwrap().to_owned()
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let (url, name) = (self.admin_url.clone(), self.name.clone());
        // Nobody waits for it: while the test's own runtime stood still, a connection that it was
        // about to open would keep the server from dropping the database for a minute.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&url).await.map_err(std::io::Error::other)?;
                let drop = format!("drop database {name} with (force)");
                admin.execute(sqlx::query(AssertSqlSafe(drop))).await.map_err(std::io::Error::other)
            })
        });
    }
}
