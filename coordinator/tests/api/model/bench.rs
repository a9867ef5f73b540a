//! What is under test: one coordinator on SQLite, or two replicas on one PostgreSQL, each with
//! connections, files and a clock of its own.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use coordinator::app::Clock;
use coordinator::artifacts::Artifacts;
use coordinator::db::Args;
use coordinator::sweeper::Sweeper;
use protocol::{Amount, JobId, Timestamp};
use tokio::sync::Mutex;

use super::market::Market;
use super::promises::{Broken, Promise, broken, expect};
use crate::support::{Engine, Replica, TestApp};

pub struct Bench {
    pub app: TestApp,
    other: Option<(Replica, Mutex<Sweeper>)>,
    clocks: Vec<Dial>,
}

/// A replica's clock: the time, give or take some.
struct Dial {
    shown: Arc<AtomicI64>,
    off_millis: Cell<i64>,
}

impl Bench {
    pub async fn start(engine: Engine) -> Self {
        let app = TestApp::with(engine, |_| {}).await;
        let mut clocks = vec![Dial::of(&app.clock)];
        let other = match engine {
            Engine::Postgres => {
                let clock = Clock::manual(app.clock.now());
                clocks.push(Dial::of(&clock));
                let replica = app.replica_with(clock, Artifacts::memory()).await;
                let sweeper = Mutex::new(Sweeper::new(&replica.app));
                Some((replica, sweeper))
            }
            // A file has one coordinator.
            Engine::Sqlite | Engine::Memory => None,
        };
        Self { app, other, clocks }
    }

    pub fn replicas(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    /// What a replica takes for now.
    pub fn now(&self, replica: usize) -> Timestamp {
        Timestamp::from_micros(self.clock(replica).shown.load(Ordering::SeqCst))
    }

    /// Time passes, at all of them.
    pub fn wait(&self, secs: u64) {
        let micros = i64::try_from(secs).unwrap() * 1_000_000;
        for clock in &self.clocks {
            clock.shown.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Somebody sets a replica's clock, forward or back.
    pub fn set_off(&self, replica: usize, millis: i64) {
        let clock = self.clock(replica);
        let step = millis - clock.off_millis.replace(millis);
        clock.shown.fetch_add(step * 1000, Ordering::SeqCst);
    }

    /// All clocks show the time.
    pub fn set_right(&self) {
        (0..self.clocks.len()).for_each(|replica| self.set_off(replica, 0));
    }

    fn clock(&self, replica: usize) -> &Dial {
        &self.clocks[replica % self.clocks.len()]
    }

    pub fn router(&self, replica: usize) -> &Router {
        match &self.other {
            Some((other, _)) if replica == 1 => &other.router,
            _ => &self.app.router,
        }
    }

    pub async fn sweep(&self, replica: usize) {
        match &self.other {
            Some((other, sweeper)) if replica == 1 => {
                sweeper.lock().await.tick(&other.app).await.unwrap();
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

impl Dial {
    fn of(clock: &Clock) -> Self {
        let Clock::Manual(shown) = clock else { panic!("a clock that cannot be set") };
        Self { shown: Arc::clone(shown), off_millis: Cell::new(0) }
    }
}
