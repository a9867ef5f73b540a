//! The mock as a process.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{http, within};

/// A mock process that ends with the test.
pub struct Process {
    pub url: String,
    pub log: Lines<BufReader<ChildStderr>>,
    _child: Child,
    _out: Lines<BufReader<ChildStdout>>,
}

/// Starts a program; its output goes through pipes.
pub fn program(name: &str) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where these tests start processes"
    )]
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The mock's binary.
pub fn mock(args: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_mock-coordinator"));
    command.args(args);
    command
}

impl Process {
    pub async fn start(args: &[&str]) -> Self {
        let mut child = mock(args).args(["--port", "0"]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = within(out.next_line()).await.unwrap().unwrap();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { url, log, _child: child, _out: out }
    }

    /// The next line of the log with `words`.
    pub async fn logged(&mut self, words: &str) -> String {
        within(async {
            loop {
                let line = self.log.next_line().await.unwrap().unwrap();
                if line.contains(words) {
                    return line;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn it_answers_without_a_key_and_tells_what_it_hears() {
    let mut mock = Process::start(&[]).await;
    assert!(mock.url.starts_with("http://127.0.0.1:"));
    let balance: Value = http()
        .get(format!("{}/v1/wallet/balance", mock.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&balance["wallet"], &balance["balance"]), (&json!("wallet_demo"), &json!("0")));
    let body = json!({"miner_id": "m7", "wallet": "wallet_demo", "mode": "cpu", "gpu": false});
    http().post(format!("{}/v1/miner/heartbeat", mock.url)).json(&body).send().await.unwrap();
    let line = mock.logged("heartbeat").await;
    assert!(line.contains("m7") && line.contains("status=200"), "{line}");
}

#[tokio::test]
async fn faults_at_random_are_repeated_by_their_seed() {
    let statuses = async |seed: &str| {
        let mock = Process::start(&["--no-jobs", "--fault-rate", "0.5", "--seed", seed]).await;
        let mut statuses = Vec::new();
        for _ in 0..32 {
            let reply = http().get(format!("{}/v1/health", mock.url)).send().await.unwrap();
            statuses.push(reply.status().as_u16());
        }
        statuses
    };
    let first = statuses("7").await;
    assert!(first.contains(&200) && first.contains(&503));
    assert_eq!(statuses("7").await, first);
    assert_ne!(statuses("8").await, first);
}

#[tokio::test]
async fn the_seed_is_printed() {
    let mut mock = Process::start(&["--fault-rate", "0.1"]).await;
    assert!(mock.logged("seed=").await.contains("--seed"));
}

#[tokio::test]
async fn scripts_are_read_and_bad_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script.yaml");
    let script = "jobs: []\nfaults:\n  - {route: GET /v1/health, count: 1, status: 404}\n";
    std::fs::write(&path, script).unwrap();
    let file = path.display().to_string();
    let mock = Process::start(&["--script", &file]).await;
    for status in [404, 200] {
        let reply = http().get(format!("{}/v1/health", mock.url)).send().await.unwrap();
        assert_eq!(reply.status(), status);
    }
    std::fs::write(&path, "jbos: []\n").unwrap();
    let output = within(super::binary::mock(&["--script", &file]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains(&file) && complaint.contains("jbos"), "{complaint}");
}

#[tokio::test]
async fn wrong_usage_is_2_and_help_is_0() {
    for (args, code) in
        [(&["--help"][..], 0), (&["--fault-rate", "2"], 2), (&["--port", "x"], 2), (&["x"], 2)]
    {
        let output = within(mock(args).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
}
