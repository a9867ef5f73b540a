//! Random histories against a model: whatever clients, miners, time and chance do, at one
//! coordinator or at two whose clocks differ and are set, the promises hold.
//!
//! `MODEL_HISTORIES` says how many per database, played on all processors. A history that fails is made smaller, printed with
//! its steps, and its seed is kept in `proptest-regressions/model.txt`, which every run tries first.
//! `scripts/mutants` shows that broken coordinators do not get past it.

mod bench;
mod market;
mod play;
mod promises;
mod steps;
mod task;

use std::cell::RefCell;
use std::thread;

use bench::Bench;
use play::Play;
use proptest::test_runner::{
    Config, FileFailurePersistence, TestCaseError, TestCaseResult, TestError, TestRunner,
};
use steps::History;
use tokio::runtime::{Builder, Runtime};

use crate::support::Engine;

/// How many histories per database are played unless `MODEL_HISTORIES` says otherwise.
const HISTORIES: u32 = 200;

/// How many histories share a database: its audit looks at all of them.
const PER_BENCH: u32 = 40;

/// A coordinator with the tasks that it started.
struct Stage {
    runtime: Runtime,
    bench: Option<Bench>,
    played: u32,
}

impl Stage {
    fn new(engine: Engine) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let bench = Some(runtime.block_on(Bench::start(engine)));
        Self { runtime, bench, played: 0 }
    }

    fn play(&mut self, history: &History) -> TestCaseResult {
        self.played += 1;
        let bench = self.bench.as_ref().unwrap();
        self.runtime.block_on(play(bench, self.played, history))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Its pools want a runtime to go in.
        let _inside = self.runtime.enter();
        self.bench = None;
    }
}

async fn play(bench: &Bench, number: u32, history: &History) -> TestCaseResult {
    let mut play = Play::begin(bench, number).await;
    let mut outcome = Ok(());
    for (i, step) in history.0.iter().enumerate() {
        outcome = play.take(step).await.map_err(|broken| (format!("step {i}"), broken));
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = play.end().await.map_err(|broken| ("the end".to_owned(), broken));
    }
    outcome.map_err(|(at, broken)| {
        let why = format!("promise broken: {}\nat {at}: {}", broken.promise, broken.seen);
        TestCaseError::fail(why)
    })
}

fn histories(engine: Engine) {
    let all = std::env::var("MODEL_HISTORIES").map_or(HISTORIES, |text| text.parse().unwrap());
    // A player and its database mostly wait for each other.
    let players = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let play = || player(engine, all.div_ceil(players));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let playing: Vec<_> = (0..players).map(|_| scope.spawn(play)).collect();
        playing.into_iter().map(|player| player.join().unwrap()).collect()
    });
    for outcome in outcomes {
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Plays so many histories on databases of its own.
fn player(engine: Engine, cases: u32) -> Result<(), TestError<History>> {
    let persistence = FileFailurePersistence::Direct("proptest-regressions/model.txt");
    let default = Config::default();
    let config = Config {
        cases,
        // Each attempt that still fails needs a new database.
        max_shrink_iters: default.max_shrink_iters.min(512),
        failure_persistence: default
            .failure_persistence
            .as_ref()
            .map(|_| Box::new(persistence) as _),
        ..default
    };
    let stage = RefCell::new(None);
    TestRunner::new(config).run(&steps::history(), |history| {
        // Whatever a failure leaves behind must not fail the next history.
        let fresh = stage.take().filter(|stage: &Stage| stage.played < PER_BENCH);
        let mut playing = fresh.unwrap_or_else(|| Stage::new(engine));
        playing.play(&history)?;
        stage.replace(Some(playing));
        Ok(())
    })
}

#[test]
fn sqlite() {
    histories(Engine::Sqlite);
}

#[test]
fn postgres_with_two_replicas() {
    histories(Engine::Postgres);
}
