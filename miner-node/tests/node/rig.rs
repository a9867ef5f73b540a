//! A mock coordinator and a node that works for it, in one place that is gone afterwards.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use miner_node::capabilities::Sensors;
use miner_node::config::{Config, Secret};
use miner_node::identity::Identity;
use miner_node::loops::{self, Options, Outcome, Stop};
use miner_node::node::{Node, NodeError};
use mock_coordinator::faults::Rule;
use mock_coordinator::{Faults, Mock};
use protocol::client::{JobResult, JobView, NewJob};
use protocol::{JobId, JobState, Receipt, Sha256Hex};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Longer than anything here takes: a test that comes to this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mock, and a directory for nodes.
pub struct Rig {
    pub mock: Mock,
    pub root: TempDir,
    pub config: Config,
}

/// A node in this process.
pub struct Running {
    pub node: Arc<Node>,
    pub stop: Stop,
    work: JoinHandle<Result<Outcome, NodeError>>,
}

impl Rig {
    pub async fn new() -> Self {
        Self::with_faults(json!([])).await
    }

    /// With rules as they stand in a mock's script.
    pub async fn with_faults(rules: Value) -> Self {
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
        let faults = Faults::scripted(rules);
        Self::with(mock_coordinator::Options { faults, ..mock_coordinator::Options::default() })
            .await
    }

    /// With other prices than the coordinator's own.
    pub async fn with_prices(prices: Value) -> Self {
        let mut options = mock_coordinator::Options::default();
        options.config.prices = serde_json::from_value(prices).unwrap();
        Self::with(options).await
    }

    /// With so many seconds between a job's run time and the end of its lease.
    pub async fn with_lease_margin(secs: u32) -> Self {
        let mut options = mock_coordinator::Options::default();
        options.config.leases.margin_secs = secs;
        Self::with(options).await
    }

    async fn with(options: mock_coordinator::Options) -> Self {
        // Another test may have been faster; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mock = mock_coordinator::start(options).await.unwrap();
        let root = tempfile::tempdir().unwrap();
        // Jobs with a user id of their own pass through it.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::fs::create_dir(root.path().join("allowlist.d")).unwrap();
        let mut config = Config {
            node_id: Some("rig7".parse().unwrap()),
            wallet: Some("wallet_demo".parse().unwrap()),
            ..Config::default()
        };
        config.coordinator.base_url = mock.url().parse().unwrap();
        config.coordinator.auth_token = Some(Secret::new("id.very-secret"));
        config.workspace.root = root.path().join("work");
        config.runners.cli.allowlist_dir = root.path().join("allowlist.d");
        config.resources.max_concurrency = Some(2);
        config.heartbeat.interval_s = 1;
        config.shutdown.grace_s = 0;
        let rig = Self { mock, root, config };
        rig.allow("sh", "command: {path: /usr/bin/dash, name: sh}\nargs: [['-c', '(?s).*']]\n");
        rig
    }

    pub fn allow(&self, name: &str, text: &str) {
        let path = self.config.runners.cli.allowlist_dir.join(format!("{name}.yaml"));
        std::fs::write(path, text).unwrap();
    }

    pub async fn node(&self) -> Arc<Node> {
        self.node_with(Sensors::of_machine()).await
    }

    async fn node_with(&self, sensors: Sensors) -> Arc<Node> {
        let identity =
            Identity { node_id: "rig7".parse().unwrap(), key: SigningKey::from_bytes(&[7; 32]) };
        let executable = PathBuf::from(env!("CARGO_BIN_EXE_miner-node"));
        Node::start_with(self.config.clone(), identity, executable, sensors).await.unwrap()
    }

    pub async fn run(&self) -> Running {
        self.run_with(Options::default()).await
    }

    pub async fn run_with(&self, options: Options) -> Running {
        Self::begin(self.node().await, options)
    }

    /// A node that sees another machine.
    pub async fn run_with_sensors(&self, sensors: Sensors) -> Running {
        Self::begin(self.node_with(sensors).await, Options::default())
    }

    fn begin(node: Arc<Node>, options: Options) -> Running {
        let stop = Stop::default();
        let work = tokio::spawn(loops::run(Arc::clone(&node), options, stop.clone()));
        Running { node, stop, work }
    }

    /// The node as a process of its own.
    pub fn spawn(&self) -> Process {
        self.spawn_with(&[])
    }

    /// The same, with these variables as its environment.
    pub fn spawn_with(&self, environment: &[(&str, &str)]) -> Process {
        let coordinator = json!({"base_url": self.mock.url(), "auth_token": "id.very-secret"});
        self.start(json!({"coordinator": coordinator}), environment, Stdio::null())
    }

    /// The same with other settings, and what it prints in `out`.
    #[expect(clippy::disallowed_methods, reason = "the tests start the program under test")]
    pub fn start(
        &self,
        change: Value,
        environment: &[(&str, &str)],
        out: impl Into<Stdio>,
    ) -> Process {
        let mut settings = json!({
            "node_id": "rig7",
            "wallet": "wallet_demo",
            "workspace": {"root": self.config.workspace.root},
            "runners": {"cli": {"allowlist_dir": self.config.runners.cli.allowlist_dir}},
            "resources": {"max_concurrency": 2},
            "heartbeat": {"interval_s": 1},
            "shutdown": {"grace_s": 0},
        });
        for (key, value) in change.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let file = self.root.path().join("miner.yaml");
        // JSON is YAML.
        std::fs::write(&file, settings.to_string()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_miner-node"))
            .arg("--config")
            .arg(file)
            .arg("run")
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }

    pub async fn submit(&self, job: Value) -> JobId {
        let job: NewJob = serde_json::from_value(job).unwrap();
        self.mock.submit(&job).await.unwrap().job_id
    }

    /// A job that runs a shell script.
    pub async fn submit_script(&self, script: &str) -> JobId {
        self.submit(script_job(script)).await
    }

    /// Uploads a file, as a client would.
    pub async fn upload(&self, bytes: &[u8]) -> Sha256Hex {
        let hash = Sha256Hex::of(bytes);
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let request = client
            .post(format!("{}/v1/inputs", self.mock.url()))
            .header("x-content-sha256", hash.to_string())
            .header("content-type", "application/octet-stream")
            .body(bytes.to_vec());
        assert_eq!(request.send().await.unwrap().status(), 201);
        hash
    }

    /// An artifact of a job, as its client downloads it.
    pub async fn download(&self, id: JobId, number: i64) -> Vec<u8> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let url = format!("{}/v1/jobs/{id}/artifacts/{number}", self.mock.url());
        let response = client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap().to_vec()
    }

    /// The job, once `wanted` holds of it.
    pub async fn until(&self, id: JobId, wanted: impl Fn(&JobView) -> bool) -> JobView {
        eventually(async || {
            let view = self.mock.job(id).await.unwrap();
            wanted(&view).then_some(view)
        })
        .await
    }

    /// The job, once it has ended.
    pub async fn ended(&self, id: JobId) -> JobView {
        self.until(id, |job| job.state.is_terminal()).await
    }

    /// The job, which has to have failed with `code`.
    pub async fn failed(&self, id: JobId, code: &str) -> JobView {
        let view = self.ended(id).await;
        let error = view.error.clone().unwrap();
        assert_eq!((view.state, error.code.as_str()), (JobState::Failed, code), "{error:?}");
        view
    }

    /// The result of the job, which has to have been completed.
    pub async fn result(&self, id: JobId) -> JobResult {
        let view = self.ended(id).await;
        assert_eq!(view.state, JobState::Completed, "{:?}", view.error);
        self.mock.get(&format!("/v1/jobs/{id}/result")).await.unwrap()
    }

    pub async fn receipt(&self, id: JobId) -> Receipt {
        self.mock.get(&format!("/v1/jobs/{id}/receipt")).await.unwrap()
    }

    /// How often the job was credited.
    pub async fn credits(&self, id: JobId) -> usize {
        let path = "/v1/wallet/ledger?wallet=wallet_demo&limit=100";
        let lines: Value = self.mock.get(path).await.unwrap();
        let lines = lines["items"].as_array().unwrap();
        lines.iter().filter(|line| line["job_id"] == id.to_string()).count()
    }

    /// The directory of a job on the node.
    pub fn job_dir(&self, id: JobId) -> PathBuf {
        self.config.workspace.root.join("jobs").join(id.to_string())
    }

    /// Waits until `state.json` of a job says `phase`.
    pub async fn until_phase(&self, id: JobId, phase: &str) {
        let file = self.job_dir(id).join("state.json");
        eventually(async || {
            let text = std::fs::read(&file).unwrap_or_default();
            let state: Value = serde_json::from_slice(&text).unwrap_or_default();
            (state["phase"] == phase).then_some(())
        })
        .await;
    }
}

/// One try, no second node.
pub fn script_job(script: &str) -> Value {
    json!({"command": "sh", "args": ["-c", script], "max_attempts": 1})
}

/// Looks again and again, as one looks at another process, until there is an answer.
pub async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            if let Some(found) = look().await {
                return found;
            }
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap()
}

/// Waits for a file.
pub async fn exists(path: &Path) {
    eventually(async || path.exists().then_some(())).await;
}

impl Running {
    /// Ends the node and returns how it ended.
    pub async fn end(self) -> Outcome {
        self.stop.request();
        self.outcome().await
    }

    /// Waits until the node has ended by itself.
    pub async fn outcome(self) -> Outcome {
        tokio::time::timeout(PATIENCE, self.work).await.unwrap().unwrap().unwrap()
    }
}

/// A node that is a process of its own; killed when dropped.
pub struct Process(Child);

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
