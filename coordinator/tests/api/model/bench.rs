//! What is under test: one coordinator on SQLite, or two replicas on one PostgreSQL, with one clock.

use axum::Router;
use coordinator::app::{App, Parts};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::db::Args;
use coordinator::router::router;
use coordinator::sweeper::Sweeper;
use ed25519_dalek::SigningKey;
use protocol::{Amount, JobId, Timestamp};
use tokio::sync::Mutex;

use super::market::Market;
use super::promises::{Broken, Promise, broken, expect};
use crate::support::{Engine, TestApp};

pub struct Bench {
    pub app: TestApp,
    other: Option<Replica>,
}

struct Replica {
    app: coordinator::app::SharedApp,
    router: Router,
    sweeper: Mutex<Sweeper>,
}

impl Bench {
    pub async fn start(engine: Engine) -> Self {
        let app = TestApp::with(engine, |_| {}).await;
        let other = match engine {
            Engine::Postgres => Some(Replica::beside(&app).await),
            // A file has one coordinator.
            Engine::Sqlite | Engine::Memory => None,
        };
        Self { app, other }
    }

    pub fn replicas(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    pub fn router(&self, replica: usize) -> &Router {
        match &self.other {
            Some(other) if replica == 1 => &other.router,
            _ => &self.app.router,
        }
    }

    pub async fn sweep(&self, replica: usize) {
        match &self.other {
            Some(other) if replica == 1 => {
                other.sweeper.lock().await.tick(&other.app).await.unwrap();
            }
            _ => self.app.sweep().await,
        }
    }

    /// What is stored of a job that has ended must be what its model says, and nothing more.
    pub async fn check_records(&self, market: &Market, job: JobId) -> Result<(), Broken> {
        let task = &market.jobs[&job];
        let sql = "select
            (select count(*) from receipts where job_id = $1) as receipts,
            (select count(*) from transfers where job_id = $1 and kind = 'credit') as credits,
            (select count(*) from attempts where job_id = $1) as attempts,
            (select count(*) from attempts where job_id = $1 and outcome = 'COMPLETED') as accepted,
            (select count(*) from attempts where job_id = $1 and outcome is null) as open,
            (select count(*) from job_events where job_id = $1) as events,
            (select max(seq) from job_events where job_id = $1) as last_event";
        let mut tx = self.app.app.db.read().await.unwrap();
        let row = tx.row(sql, Args::new().with(job)).await.unwrap().unwrap();
        let count = |column: &'static str| row.get::<i64>(column).unwrap();
        let seen = (count("receipts"), count("credits"), count("accepted"));
        let once = i64::from(task.paid.is_some());
        expect(Promise::Books, &seen, &(once, once, once))?;
        expect(Promise::Fence, &count("attempts"), &task.fence)?;
        expect(Promise::Ends, &count("open"), &0)?;
        let last: i32 = row.get("last_event").unwrap();
        expect(Promise::Ends, &count("events"), &i64::from(last))
    }

    /// Every account is what the model says, and the books are in order.
    pub async fn check_books(&self, accounts: &[(String, Amount)]) -> Result<(), Broken> {
        let mut tx = self.app.app.db.read().await.unwrap();
        for (account, promised) in accounts {
            let sql = "select balance from accounts where name = $1";
            let row = tx.row(sql, Args::new().with(account.as_str())).await.unwrap();
            let balance = row.map_or(Amount::ZERO, |row| row.get("balance").unwrap());
            expect(Promise::Books, &(account, balance), &(account, *promised))?;
        }
        let audit = coordinator::ledger::store::audit(&mut tx).await.unwrap();
        if audit.faults.is_empty() {
            return Ok(());
        }
        broken(Promise::Books, format!("{:?}", audit.faults))
    }
}

impl Replica {
    async fn beside(one: &TestApp) -> Self {
        let parts = Parts {
            config: (*one.app.config).clone(),
            db: one.app.db.clone(),
            clock: one.clock.clone(),
            auth: Auth::keys(),
            artifacts: Artifacts::memory(),
            attestor: SigningKey::from_bytes(&[42; 32]),
        };
        let app = App::start(parts).await.unwrap();
        Self { router: router(app.clone()), sweeper: Mutex::new(Sweeper::new(&app)), app }
    }
}
