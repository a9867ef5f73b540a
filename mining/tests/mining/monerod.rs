//! Mining alone on a real daemon: Debian's `monerod`, on a chain of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mining::Target;
use mining::pool::{Event, Solution, Timing, Verdict};
use mining::randomx::{Cache, Machine, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{TIMING, settings};
use crate::rig::Rig;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_mined_that_a_real_daemon_takes() {
    let mut monerod = Monerod::start();
    let mut alone = settings(&monerod.url());
    alone.user = WALLET.to_owned();
    let timing = Timing { answer: Duration::from_secs(20), ..TIMING };
    let mut rig = Rig::new(alone, timing);
    while rig.accepted.len() < 3 {
        assert_eq!(monerod.process.try_wait().unwrap(), None, "monerod has ended");
        rig.step().await;
    }
    rig.hasher.set_running(0);
    while rig.answered.len() < rig.submitted {
        rig.step().await;
    }
    let blocks = monerod.blocks().await;
    // The first block of the chain was there before.
    assert_eq!(blocks, rig.accepted.len() as u64 + 1);
    for (solution, height) in rig.accepted.iter().zip(1..) {
        let params = json!({"height": height, "fill_pow_hash": true});
        let answer = monerod.call("get_block_header_by_height", params).await;
        let header = &answer["result"]["block_header"];
        assert_eq!(header["pow_hash"], hex::encode(solution.hash));
        assert_eq!(header["nonce"], solution.nonce);
    }
    a_nonce_that_is_none_is_refused(&monerod, &mut rig, blocks).await;
}

async fn a_nonce_that_is_none_is_refused(monerod: &Monerod, rig: &mut Rig, blocks: u64) {
    while rig.job.as_ref().is_none_or(|(_, job)| job.height != Some(blocks)) {
        rig.step().await;
    }
    let (_, job) = rig.job.clone().unwrap();
    let cache = Cache::new(Mode::fastest(), &job.seed.unwrap()).unwrap();
    let mut machine = Machine::light(&cache).unwrap();
    let nonce = wrong_nonce(&mut machine, job.work.blob());
    // It claims another hash, else it would not even be sent.
    let claim = Solution { number: 0, job: job.number, nonce, hash: [0; 32] };
    rig.client.pools.submit(claim).unwrap();
    let verdict = loop {
        if let Some(Event::Answered { number: 0, verdict, .. }) = rig.client.hear().await {
            break verdict;
        }
    };
    assert_eq!(verdict, Verdict::Rejected("Block not accepted".into()));

    // The same without anything of ours between.
    let params = json!({"wallet_address": WALLET, "reserve_size": 8});
    let template = &monerod.call("get_block_template", params).await["result"];
    let bytes = |key: &str| hex::decode(template[key].as_str().unwrap()).unwrap();
    let nonce = wrong_nonce(&mut machine, &bytes("blockhashing_blob"));
    let mut block = bytes("blocktemplate_blob");
    block[39..43].copy_from_slice(&nonce.to_le_bytes());
    let answer = monerod.call("submit_block", json!([hex::encode(block)])).await;
    assert_eq!(answer["error"]["code"], -7, "{answer}");
    assert_eq!(monerod.blocks().await, blocks);
}

/// A nonce whose hash makes no block of these bytes.
fn wrong_nonce(machine: &mut Machine, blob: &[u8]) -> u32 {
    let mut blob = blob.to_vec();
    let wrong = (0_u32..).find(|nonce| {
        blob[39..43].copy_from_slice(&nonce.to_le_bytes());
        !Target::of_difficulty(DIFFICULTY).is_met_by(&machine.hash(&blob))
    });
    wrong.unwrap()
}
