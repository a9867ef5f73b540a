//! A server that speaks as XMRig's API does and looks at every call: token, content type, and what
//! is in it. It hashes nothing.
//!
//! Other crates' tests include it by its path: `#[path = ".../xmrig_api.rs"]`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

pub const TOKEN: &str = "a-token-of-the-test";

/// What the server is at.
pub struct State {
    pub paused: bool,
    /// Whether it never answers how it stands.
    pub is_slow: bool,
    pub config: Value,
    pub calls: Vec<String>,
    /// What no client of XMRig should have sent.
    pub faults: Vec<String>,
}

pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// One with a thread of RandomX on each of `processors`.
    pub fn start(processors: &[usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "autosave": true,
            "cpu": { "enabled": true, "rx": processors, "gr": [[8, 0]] },
            "pools": [{ "url": "pool.example:3333" }],
        });
        let (calls, faults) = (Vec::new(), Vec::new());
        let state = State { paused: false, is_slow: false, config, calls, faults };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                thread::spawn(move || serve(stream.unwrap(), &served));
            }
        });
        Self { url, state }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }
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
    if state.is_slow && call == "GET /2/summary" {
        state.calls.push("unanswered".to_owned());
        drop(state);
        // Until the other side has had enough.
        return reader.read_exact(&mut [0]);
    }
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
                let config: Value = serde_json::from_slice(body).unwrap();
                let rest = |config: &Value| {
                    let mut rest = config.clone();
                    rest["cpu"]["rx"].take();
                    rest
                };
                if rest(&config) != rest(&self.config) {
                    self.faults.push(format!("more than threads: {config}"));
                }
                self.config = config;
                self.calls.push(format!("threads {}", self.config["cpu"]["rx"]));
                return (204, String::new());
            }
            "POST /json_rpc" => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let method = asked["method"].as_str().unwrap_or_default();
                if !["pause", "resume"].contains(&method) {
                    self.faults.push(format!("{call} {method}"));
                }
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
