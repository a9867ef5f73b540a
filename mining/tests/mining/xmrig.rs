//! The engine that drives XMRig, against a server that speaks as XMRig's API does and looks at every
//! call: token, content type, and what is in it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mining::Notice;
use mining::engine::{Allowance, Engine, Phase};
use mining::pool::Settings;
use mining::xmrig::{Program, Which, Xmrig};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "a-token-of-the-test";

/// What the server is at.
struct State {
    paused: bool,
    config: Value,
    calls: Vec<String>,
    faults: Vec<String>,
}

struct Fake {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "autosave": true,
            "cpu": { "enabled": true, "rx": [0, 1], "gr": [[8, 0]] },
            "pools": [{ "url": "pool.example:3333" }],
        });
        let (calls, faults) = (Vec::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { paused: false, config, calls, faults }));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(stream.unwrap(), &served);
            }
        });
        Self { url, state }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    fn engine(&self, token: &str) -> (Xmrig, Arc<Mutex<Vec<Notice>>>) {
        let url = self.url.parse().unwrap();
        engine(Which::Running { url, token: token.to_owned() })
    }
}

fn engine(which: Which) -> (Xmrig, Arc<Mutex<Vec<Notice>>>) {
    let notices: Arc<Mutex<Vec<_>>> = Arc::default();
    let heard = Arc::clone(&notices);
    let listener = Arc::new(move |notice: &Notice| heard.lock().unwrap().push(notice.clone()));
    (Xmrig::start(which, listener).unwrap(), notices)
}

/// One call, as XMRig answers it (its `Httpd.cpp` and `Api.cpp`, by behaviour).
fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut token, mut json_type) = (String::new(), 0, false, false);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("authorization", value)) => token = value == format!("bearer {TOKEN}"),
            Some(("content-type", value)) => json_type = value == "application/json",
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call = first.rsplit_once(' ').unwrap().0.to_owned();
    let mut state = state.lock().unwrap();
    let (status, answer) = state.answer(&call, token, json_type, &body);
    drop(state);
    let mut stream = reader.into_inner();
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{answer}"
    )
}

impl State {
    fn answer(&mut self, call: &str, token: bool, json: bool, body: &[u8]) -> (u16, String) {
        if !token {
            return (403, String::new());
        }
        if !call.starts_with("GET") && !json {
            self.faults.push(format!("{call} without its type"));
            return (415, String::new());
        }
        match call {
            "GET /2/summary" => return (200, self.summary().to_string()),
            "GET /1/config" => return (200, self.config.to_string()),
            "PUT /1/config" => {
                self.config = serde_json::from_slice(body).unwrap();
                self.calls.push(format!("threads {}", self.config["cpu"]["rx"]));
                return (204, String::new());
            }
            "POST /json_rpc" => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let method = asked["method"].as_str().unwrap_or_default();
                self.paused = method == "pause";
                self.calls.push(method.to_owned());
            }
            other => self.faults.push(other.to_owned()),
        }
        (200, json!({ "jsonrpc": "2.0", "id": 1, "result": { "status": "OK" } }).to_string())
    }

    fn summary(&self) -> Value {
        json!({
            "algo": "rx/0", "version": "6.26.0", "paused": self.paused, "hugepages": [1168, 1168],
            "hashrate": { "total": [512.5, 500.0, null], "highest": 520.1 },
            "results": { "shares_good": 9, "shares_total": 10, "hashes_total": 90_000 },
            "connection": { "pool": "pool.example:3333", "uptime": 7, "ping": 3, "diff": 10_000 },
            "resources": { "memory": { "resident_set_memory": 10_000_000 } },
        })
    }
}

fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
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
    let told = || notices.lock().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    until(|| told().iter().any(|line| line.contains("again in 2 s")));
    let line = told().remove(0);
    assert!(line.contains("ended by itself") && line.contains("again in 1 s"), "{line}");
    assert!(matches!(engine.status().phase, Phase::Failed { .. }));
    engine.allow(&threads(0, &[]));
    drop(engine);
    assert!(!fs::exists(&place).unwrap());
}
