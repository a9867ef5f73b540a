//! A coordinator process of a test's own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without the settings of whoever runs the tests.
pub fn binary(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where these tests start processes"
    )]
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "DATABASE_URL" || text.contains("COORDINATOR") {
            command.env_remove(&name);
        }
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Output {
    let output = within(command.output()).await.unwrap();
    Output {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Fails rather than waits for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not take for ever")
}

/// Everything that a stream brought so far.
#[derive(Debug, Default)]
pub struct Lines {
    text: Mutex<String>,
    more: Notify,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                writer.text.lock().unwrap().push_str(&(line + "\n"));
                writer.more.notify_waiters();
            }
        });
        lines
    }

    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The first line with `words`, waiting for it.
    pub async fn wait_for(&self, words: &str) -> String {
        within(async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if let Some(line) = self.text().lines().find(|line| line.contains(words)) {
                    return line.to_owned();
                }
                more.await;
            }
        })
        .await
    }
}

/// A service that runs until it is signalled, or dropped.
pub struct Service {
    pub url: String,
    pub log: Arc<Lines>,
    pub out: Arc<Lines>,
    child: Child,
}

impl Service {
    /// Starts `serve` on a free port and waits until it listens.
    pub async fn start(settings: &[&str]) -> Self {
        let mut command = binary(["serve", "--port", "0"]);
        let spawned = command.args(settings).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let out = Lines::of(child.stdout.take().unwrap());
        let line = out.wait_for("listening on ").await;
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { url, log, out, child }
    }

    /// Starts, and waits until the database is there.
    pub async fn open(settings: &[&str]) -> Self {
        let service = Self::start(settings).await;
        service.log.wait_for("open: ").await;
        service
    }

    /// The reply to a GET, with a key if one is given.
    pub async fn get(&self, path: &str, key: Option<&str>) -> reqwest::Response {
        let request = http().get(format!("{}{path}", self.url));
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        within(request.send()).await.unwrap()
    }

    pub async fn status(&self, path: &str, key: Option<&str>) -> u16 {
        self.get(path, key).await.status().as_u16()
    }

    pub async fn post(&self, path: &str, key: &str, body: serde_json::Value) -> reqwest::Response {
        let request = http().post(format!("{}{path}", self.url)).bearer_auth(key).json(&body);
        within(request.send()).await.unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap())).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}

/// A client that goes through no proxy of the environment, and pools nothing between tests.
pub fn http() -> reqwest::Client {
    // It fails only where a provider is installed already, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
}

/// A data directory, and the settings that name it.
pub struct Home {
    pub dir: TempDir,
    settings: Vec<String>,
}

impl Home {
    /// With the default database, a SQLite file in it.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = vec!["--data-dir".to_owned(), dir.path().display().to_string()];
        Self { dir, settings }
    }

    /// With another database.
    pub fn with_database(url: &str) -> Self {
        let mut home = Self::new();
        home.settings.extend(["--database-url".to_owned(), url.to_owned()]);
        home
    }

    pub fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command on this home.
    pub async fn run(&self, args: &[&str]) -> Output {
        run(binary(args).args(&self.settings)).await
    }

    /// Makes a key.
    pub async fn key(&self, args: &[&str]) -> String {
        let output = self.run(&[&["keys", "create"], args].concat()).await;
        assert_eq!(output.code, 0, "{output:?}");
        output.out.trim().to_owned()
    }
}
