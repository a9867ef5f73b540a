//! Mining alone on a daemon that fails now and then: a block that was found is not lost to that.

use mining::pool::{Job, Verdict};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::Client;
use crate::test_pool::PATIENCE;

const PREVIOUS: &str = "418015bb9ae982a1975da7d79277c2705727a56894ba0fb246adaabb1f4632e3";

/// A daemon played by hand, call by call.
struct Daemon {
    listener: TcpListener,
}

/// A call that waits for its answer. Dropped, it gets none.
struct Call {
    stream: TcpStream,
    path: String,
    body: Value,
}

impl Daemon {
    async fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self) -> String {
        format!("daemon+http://{}", self.listener.local_addr().unwrap())
    }

    /// The next call; one that is given up halfway is none.
    async fn call(&self) -> Call {
        loop {
            let accepted = timeout(PATIENCE, self.listener.accept()).await;
            let (stream, _) = accepted.expect("the miner asks nothing").unwrap();
            if let Some(call) = Call::read(stream).await {
                return call;
            }
        }
    }

    /// The next call of this name, with the usual answers to what comes before it.
    async fn expect(&self, name: &str) -> Call {
        loop {
            let call = self.call().await;
            match call.name() {
                found if found == name => return call,
                "/getheight" => call.answer(&json!({"height": 1, "hash": PREVIOUS})).await,
                "get_block_template" => call.answer(&template()).await,
                other => panic!("{other} instead of {name}"),
            }
        }
    }

    /// Gives a miner its first work.
    async fn let_in(&self, client: &mut Client) -> Job {
        self.expect("get_block_template").await.answer(&template()).await;
        client.connected(&self.url()).await;
        client.job().await
    }
}

impl Call {
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut read = Vec::new();
        let head = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap().to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while read.len() < head + length {
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        }
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let body = serde_json::from_slice(&read[head..]).unwrap_or_default();
        Some(Self { stream, path, body })
    }

    fn name(&self) -> &str {
        self.body["method"].as_str().unwrap_or(&self.path)
    }

    async fn answer(mut self, answer: &Value) {
        let body = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\nConnection: close";
        let whole = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        // Whoever has hung up does not hear it.
        let _ = self.stream.write_all(whole.as_bytes()).await;
        let _ = self.stream.shutdown().await;
    }

    async fn refuse(self, code: i64) {
        self.answer(&json!({"error": {"code": code, "message": "No."}})).await;
    }
}

fn template() -> Value {
    let head = format!("1010{}{PREVIOUS}00000000", "84c08cd806");
    json!({"result": {
        "blockhashing_blob": format!("{head}{}", "0e".repeat(33)),
        "blocktemplate_blob": format!("{head}{}", "02".repeat(40)),
        "difficulty": 1, "height": 1, "next_seed_hash": "", "prev_hash": PREVIOUS,
        "seed_hash": PREVIOUS, "status": "OK",
    }})
}

fn header(nonce: u32) -> Value {
    json!({"result": {"block_header": {"nonce": nonce, "prev_hash": PREVIOUS, "height": 1}}})
}

fn taken() -> Value {
    json!({"result": {"status": "OK"}})
}

/// A miner who has found a block, and the daemon's side of the call with it.
async fn with_a_block() -> (Daemon, Client, Call) {
    let daemon = Daemon::listen().await;
    let mut client = Client::at(&[&daemon.url()]);
    let job = daemon.let_in(&mut client).await;
    client.submit(1, &job, 7);
    let call = daemon.expect("submit_block").await;
    (daemon, client, call)
}

#[tokio::test]
async fn a_block_is_handed_in_until_it_is_taken() {
    let (daemon, mut client, call) = with_a_block().await;
    let block = call.body["params"].clone();
    // No answer, a daemon that is busy, no answer: and there is no other block yet.
    drop(call);
    daemon.expect("get_block_header_by_height").await.refuse(-2).await;
    daemon.expect("submit_block").await.refuse(-9).await;
    drop(daemon.expect("get_block_header_by_height").await);
    drop(daemon.expect("submit_block").await);
    daemon.expect("get_block_header_by_height").await.refuse(-2).await;
    let call = daemon.expect("submit_block").await;
    assert_eq!(call.body["params"], block);
    call.answer(&taken()).await;
    assert_eq!(client.verdict(1).await, Verdict::Accepted);
    daemon.expect("get_block_template").await;
}

#[tokio::test]
async fn a_block_whose_answer_was_lost_is_found_in_the_chain() {
    let (daemon, mut client, call) = with_a_block().await;
    drop(call);
    daemon.expect("get_block_header_by_height").await.answer(&header(7)).await;
    assert_eq!(client.verdict(1).await, Verdict::Accepted);

    // The same where it was refused because it had come through before.
    let (daemon, mut client, call) = with_a_block().await;
    drop(call);
    drop(daemon.expect("get_block_header_by_height").await);
    daemon.expect("submit_block").await.refuse(-7).await;
    daemon.expect("get_block_header_by_height").await.answer(&header(7)).await;
    assert_eq!(client.verdict(1).await, Verdict::Accepted);
}

#[tokio::test]
async fn a_block_that_comes_too_late_is_stale_and_a_bad_one_is_refused() {
    let (daemon, mut client, call) = with_a_block().await;
    drop(call);
    daemon.expect("get_block_header_by_height").await.answer(&header(8)).await;
    assert_eq!(client.verdict(1).await, Verdict::Stale);

    let (_daemon, mut client, call) = with_a_block().await;
    call.refuse(-7).await;
    assert_eq!(client.verdict(1).await, Verdict::Rejected("No.".to_owned()));

    let (daemon, mut client, call) = with_a_block().await;
    drop(call);
    drop(daemon.expect("get_block_header_by_height").await);
    daemon.expect("submit_block").await.refuse(-7).await;
    daemon.expect("get_block_header_by_height").await.refuse(-2).await;
    assert_eq!(client.verdict(1).await, Verdict::Rejected("No.".to_owned()));
}

#[tokio::test]
async fn some_looks_may_fail() {
    let daemon = Daemon::listen().await;
    let mut client = Client::at(&[&daemon.url()]);
    let job = daemon.let_in(&mut client).await;
    for _ in 0..2 {
        for _ in 0..3 {
            drop(daemon.expect("/getheight").await);
        }
        let tip = json!({"height": 1, "hash": PREVIOUS});
        daemon.expect("/getheight").await.answer(&tip).await;
    }
    // The work that it gave before is still good.
    client.submit(1, &job, 7);
    daemon.expect("submit_block").await.answer(&taken()).await;
    assert_eq!(client.verdict(1).await, Verdict::Accepted);
    for _ in 0..4 {
        drop(daemon.expect("get_block_template").await);
    }
    let (reason, _) = client.disconnected().await;
    assert!(!reason.is_empty());
}
