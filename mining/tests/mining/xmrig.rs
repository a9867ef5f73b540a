//! The engine that drives XMRig, against a server that speaks as XMRig's API does.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mining::Notice;
use mining::engine::{Allowance, Engine, Phase};
use mining::pool::Settings;
use mining::xmrig::{Program, Which, Xmrig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mined::LOOK;
use crate::xmrig_api::{Server, State, TOKEN};

const PATIENCE: Duration = Duration::from_secs(60);

struct Fake {
    server: Server,
    directory: TempDir,
}

impl Fake {
    fn start() -> Self {
        Self { server: Server::start(&[0, 1]), directory: tempfile::tempdir().unwrap() }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.server.with(look)
    }

    fn engine(&self, token: &str) -> (Xmrig, Arc<Mutex<Vec<Notice>>>) {
        let url = self.server.url.parse().unwrap();
        let kept = self.directory.path().join("xmrig.json");
        engine(Which::Running { url, token: token.to_owned(), kept })
    }
}

fn engine(which: Which) -> (Xmrig, Arc<Mutex<Vec<Notice>>>) {
    let notices: Arc<Mutex<Vec<_>>> = Arc::default();
    let heard = Arc::clone(&notices);
    let listener = Arc::new(move |notice: &Notice| heard.lock().unwrap().push(notice.clone()));
    (Xmrig::start(which, listener).unwrap(), notices)
}

fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(LOOK);
    }
}

fn threads(threads: usize, processors: &[usize]) -> Allowance {
    Allowance { threads, processors: processors.to_vec(), give_memory_back: false }
}

#[test]
fn one_that_runs_is_paused_and_moved_and_left_as_it_was() {
    let fake = Fake::start();
    let (engine, _) = fake.engine(TOKEN);
    // Nothing is allowed at first.
    until(|| fake.with(|state| state.paused));
    until(|| engine.status().phase == Phase::Paused);
    assert_eq!((engine.busy_threads(), engine.status().threads_most), (0, 2));
    engine.allow(&threads(1, &[1]));
    until(|| fake.with(|state| state.config["cpu"]["rx"] == json!([1]) && !state.paused));
    until(|| engine.busy_threads() == 1 && engine.status().phase == Phase::Mining);
    let status = engine.status();
    assert_eq!((status.shares.accepted, status.hashrate.minute), (9, Some(500.0)));
    engine.allow(&threads(8, &[]));
    until(|| fake.with(|state| state.config["cpu"]["rx"] == json!([0, 1])));
    until(|| engine.busy_threads() == 2);
    engine.allow(&threads(0, &[]));
    until(|| engine.busy_threads() == 0);
    assert!(fake.with(|state| state.paused));
    drop(engine);
    fake.with(|state| {
        let expected = ["pause", "threads [1]", "resume", "threads [0,1]", "pause", "resume"];
        assert_eq!(state.calls, expected);
        assert_eq!(state.faults, [""; 0]);
        assert_eq!(state.config["cpu"]["gr"], json!([[8, 0]]));
    });
}

#[test]
fn a_wrong_token_is_said_once() {
    let fake = Fake::start();
    let (engine, notices) = fake.engine("another");
    let failed = |phase: &Phase| matches!(phase, Phase::Failed { reason } if reason.contains("refuses the token") || reason.contains("restricted"));
    until(|| failed(&engine.status().phase));
    engine.allow(&threads(1, &[]));
    until(|| failed(&engine.status().phase));
    assert!(notices.lock().unwrap().len() <= 2);
    assert!(!format!("{:?}", notices.lock().unwrap()).contains("another"));
}

#[test]
fn one_that_ends_by_itself_is_begun_again_later() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("xmrig");
    let address = "stratum+tcp://pool.example:3333".parse().unwrap();
    let program = Program {
        path: "/bin/false".into(),
        directory: place.clone(),
        pools: vec![Settings::new(address, "WALLET")],
        threads: Some(2),
        idle: true,
        donate_level: 1,
    };
    let (engine, notices) = engine(Which::Started { program, token: TOKEN.to_owned() });
    until(|| engine.status().phase == Phase::Paused);
    engine.allow(&threads(2, &[]));
    let told = || told(&notices);
    until(|| told().iter().any(|line| line.contains("again in 2 s")));
    let line = told().remove(0);
    assert!(line.contains("ended by itself") && line.contains("again in 1 s"), "{line}");
    assert!(matches!(engine.status().phase, Phase::Failed { .. }));
    engine.allow(&threads(0, &[]));
    drop(engine);
    assert!(!fs::exists(&place).unwrap());
}

fn told(notices: &Mutex<Vec<Notice>>) -> Vec<String> {
    notices.lock().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn the_owners_gets_back_what_it_had_also_from_the_next_life() {
    let fake = Fake::start();
    fake.with(|state| state.paused = true);
    let (engine, _) = fake.engine(TOKEN);
    engine.allow(&threads(1, &[1]));
    until(|| fake.with(|state| state.config["cpu"]["rx"] == json!([1]) && !state.paused));
    // As after a crash: what was written down is there, and nobody has put anything back.
    let kept = fake.directory.path().join("xmrig.json");
    let left = fs::read(&kept).unwrap();
    drop(engine);
    fake.with(|state| {
        assert_eq!(state.config["cpu"]["rx"], json!([0, 1]));
        assert!(state.paused);
        state.config["cpu"]["rx"] = json!([1]);
        state.paused = false;
    });
    assert!(!kept.exists());
    fs::write(&kept, left).unwrap();

    let (engine, _) = fake.engine(TOKEN);
    engine.allow(&threads(8, &[]));
    until(|| engine.busy_threads() == 2);
    assert_eq!((engine.status().threads_most, fake.with(|state| state.paused)), (2, false));
    drop(engine);
    fake.with(|state| {
        assert_eq!(state.config["cpu"]["rx"], json!([0, 1]));
        assert!(state.paused);
        assert_eq!(state.faults, [""; 0]);
    });
}

#[test]
fn a_call_that_is_not_answered_holds_up_no_pause() {
    let fake = Fake::start();
    let (engine, _) = fake.engine(TOKEN);
    engine.allow(&threads(2, &[]));
    until(|| engine.busy_threads() == 2);
    let unanswered = |state: &mut State| state.calls.last().is_some_and(|it| it == "unanswered");
    fake.with(|state| state.is_slow = true);
    until(|| fake.with(unanswered));
    engine.allow(&threads(0, &[]));
    until(|| fake.with(|state| state.paused));
    until(|| engine.busy_threads() == 0);
    // Each call may take 5 s; this one was not waited for.
    assert!(!matches!(engine.status().phase, Phase::Failed { .. }));
}

#[test]
fn one_that_does_not_answer_is_stopped_by_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("silent");
    // Not written here: the kernel runs no file that a process has open, and what other tests start
    // takes open files along for a moment.
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mining/silent.sh"), &path).unwrap();
    let address = "stratum+tcp://pool.example:3333".parse().unwrap();
    let program = Program {
        path,
        directory: directory.path().join("xmrig"),
        pools: vec![Settings::new(address, "WALLET")],
        threads: Some(3),
        idle: true,
        donate_level: 1,
    };
    let (engine, _) = engine(Which::Started { program, token: TOKEN.to_owned() });
    assert_eq!((engine.status().threads_most, engine.busy_threads()), (3, 0));
    engine.allow(&threads(2, &[1, 0]));
    let id = directory.path().join("id");
    until(|| id.exists());
    // It hashes from its first job on, whether or not it answers.
    assert_eq!(engine.busy_threads(), 2);
    let config = fs::read_to_string(directory.path().join("config")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["cpu"]["rx"], json!([1, 0]));
    assert_eq!(config["cpu"]["ghostrider"], json!([[8, 1], [8, 0]]));
    let id = fs::read_to_string(id).unwrap().trim().to_owned();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    engine.allow(&threads(0, &[]));
    until(|| engine.busy_threads() == 0);
    until(|| state() == Some('T'));
    until(|| engine.status().phase == Phase::Paused);
    engine.allow(&threads(1, &[]));
    until(|| state() == Some('S') && engine.busy_threads() > 0);
    engine.allow(&threads(0, &[]));
    until(|| state() == Some('T'));
    drop(engine);
    assert_eq!(state(), None);
}

#[test]
fn tokens_are_not_shown() {
    let (url, kept) = ("http://127.0.0.1:1".parse().unwrap(), "/k".into());
    let which = Which::Running { url, token: "hidden".to_owned(), kept };
    assert!(!format!("{which:?}").contains("hidden"));
}
