//! Mining alone on a real daemon: Debian's `monerod`, on a chain of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use mining::engine::Engine as _;
use mining::pool::{Event, Job, Settings, Solution, Verdict};
use mining::randomx::{Cache, Machine, Mode};
use mining::{NonceRange, Target, Work};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::client::{Client, TIMING, settings};
use crate::mined::{LOOK, engine, settled};
use crate::test_pool::PATIENCE;

/// A wallet that Monero's own tests use.
const WALLET: &str = "42ey1afDFnn4886T7196doS9GPMzexD9gXpsZJDwVjeRVdFCSoHnv7KPbBeGpzJBzHRCAs9UxqeoyFQMYbqSWYTfJJQAWDm";

/// How many hashes a block takes on average.
const DIFFICULTY: u64 = 50;

struct Monerod {
    process: Child,
    port: u16,
    http: reqwest::Client,
    _directory: TempDir,
}

impl Monerod {
    /// Starts one; whether it is ready is seen when it answers.
    #[expect(clippy::disallowed_methods, reason = "it is what the test is about")]
    fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("monerod")
            .args(["--regtest", "--offline", "--non-interactive", "--no-zmq", "--disable-rpc-ban"])
            .args(["--fixed-difficulty", &DIFFICULTY.to_string()])
            .args(["--rpc-bind-ip", "127.0.0.1", "--rpc-bind-port", &port.to_string()])
            .args(["--log-level", "0", "--data-dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("monerod, of Debian's package monero, is needed");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, port, http, _directory: directory }
    }

    fn url(&self) -> String {
        format!("daemon+http://127.0.0.1:{}", self.port)
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": "0", "method": method, "params": params});
        let url = format!("http://127.0.0.1:{}/json_rpc", self.port);
        let answer = self.http.post(url).json(&call).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn blocks(&self) -> u64 {
        self.call("get_block_count", json!({})).await["result"]["count"].as_u64().unwrap()
    }
}

impl Drop for Monerod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Mines by hand: what an engine would do, in plain sight.
struct Hand {
    client: Client,
    machine: Machine,
    job: Job,
}

impl Hand {
    async fn at(monerod: &Monerod) -> Self {
        let wallet = Settings { user: WALLET.to_owned(), ..settings(&monerod.url()) };
        let mut client = Client::of(vec![wallet], TIMING);
        let job = loop {
            // Until the daemon is ready, there are failures.
            if let Some(Event::Job(job)) = client.hear().await {
                break job;
            }
        };
        let cache = Cache::new(Mode::fastest(), &job.seed.unwrap()).unwrap();
        Self { client, machine: Machine::light(&cache).unwrap(), job }
    }

    /// The first nonce of the job whose hash makes a block, or makes none.
    fn nonce(&mut self, makes_one: bool) -> (u32, [u8; 32]) {
        let mut blob = self.job.work.blob().to_vec();
        let mut hashes = (0..).map(|nonce| {
            self.job.work.put_nonce(&mut blob, nonce);
            (nonce, self.machine.hash(&blob))
        });
        hashes.find(|(_, hash)| self.job.work.target.is_met_by(hash) == makes_one).unwrap()
    }

    async fn send(&mut self, nonce: u32, hash: [u8; 32]) -> Verdict {
        let job = self.job.number;
        self.client.pools.submit(Solution { number: job, job, nonce, hash }).unwrap();
        loop {
            match self.client.hear().await.unwrap() {
                Event::Answered { number, verdict, .. } if number == job => return verdict,
                Event::Job(job) => self.job = job,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn height(&mut self, height: u64) {
        while self.job.height != Some(height) {
            self.job = self.client.job().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_mined_that_a_real_daemon_takes() {
    let monerod = Monerod::start();
    let mut hand = Hand::at(&monerod).await;
    for height in 1..=3 {
        hand.height(height).await;
        assert_eq!(monerod.blocks().await, height);
        let (nonce, hash) = hand.nonce(true);
        assert_eq!(hand.send(nonce, hash).await, Verdict::Accepted);
        assert_eq!(monerod.blocks().await, height + 1);
        let params = json!({"height": height, "fill_pow_hash": true});
        let answer = monerod.call("get_block_header_by_height", params).await;
        let header = &answer["result"]["block_header"];
        assert_eq!(header["pow_hash"], hex::encode(hash));
        assert_eq!(header["nonce"], nonce);
    }
    // A nonce that is none: it claims another hash, else it would not even be sent.
    hand.height(4).await;
    let (nonce, _) = hand.nonce(false);
    let verdict = hand.send(nonce, [0; 32]).await;
    assert_eq!(verdict, Verdict::Rejected("Block not accepted".into()));
    assert_eq!(monerod.blocks().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_mines_for_a_real_daemon() {
    let monerod = Monerod::start();
    let engine = engine(Settings { user: WALLET.to_owned(), ..settings(&monerod.url()) });
    let begun = Instant::now();
    while engine.status().shares.accepted < 2 {
        assert!(begun.elapsed() < PATIENCE * 2, "{:?}", engine.status());
        sleep(LOOK).await;
    }
    let shares = settled(&engine).await;
    assert_eq!((shares.rejected, shares.lost), (0, 0), "{shares:?}");
    assert_eq!(monerod.blocks().await, shares.accepted + 1);
}

/// What [`Verdict::Rejected`] stands for, without anything of ours between.
#[tokio::test]
async fn a_daemon_refuses_a_wrong_nonce_with_its_number() {
    let monerod = Monerod::start();
    let mut hand = Hand::at(&monerod).await;
    let params = json!({"wallet_address": WALLET, "reserve_size": 8});
    let answer = monerod.call("get_block_template", params).await;
    let bytes = |key: &str| hex::decode(answer["result"][key].as_str().unwrap()).unwrap();
    let mut block = bytes("blocktemplate_blob");
    let (blob, target) = (bytes("blockhashing_blob"), Target::of_difficulty(DIFFICULTY));
    hand.job.work = Work::new(blob, 39, NonceRange::ALL, target).unwrap();
    let (nonce, _) = hand.nonce(false);
    block[39..43].copy_from_slice(&nonce.to_le_bytes());
    let answer = monerod.call("submit_block", json!([hex::encode(block)])).await;
    assert_eq!(answer["error"]["code"], -7, "{answer}");
}
