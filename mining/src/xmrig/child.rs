//! An XMRig of our own: its configuration in a file that nobody else can read, its process, its end.
//!
//! The only place of this crate that starts a process: it is the owner's own program, no job's, and
//! needs what a sandbox takes away (huge pages, model-specific registers, the network).

#![expect(unsafe_code, reason = "a child is told to end with its parent before it runs; see below")]

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::own::Own;
use super::processors;
use crate::engine::Allowance;
use crate::pool;

/// How long it may take to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// A directory that it makes for its configuration; nobody else may read what is in it.
    pub directory: PathBuf,
    /// The pools.
    pub pools: Vec<pool::Settings>,
    /// How many threads at most; `None`: as many as it finds right.
    pub threads: Option<usize>,
    /// Whether everybody else goes first.
    pub idle: bool,
    /// What it donates to its authors, in per cent.
    pub donate_level: u8,
}

/// One that runs.
pub(super) struct Child {
    process: tokio::process::Child,
    file: PathBuf,
    /// Whether the kernel keeps it from running.
    is_stopped: bool,
    /// Where its API is.
    pub(super) url: Url,
}

impl Child {
    /// Starts it, on no more than is allowed. To be called on a thread that lives as long as it
    /// shall: the kernel ends it with that thread.
    pub(super) fn start(
        program: &Program,
        token: &str,
        own: &Own,
        allowance: &Allowance,
    ) -> io::Result<Self> {
        // Free now; where somebody takes it meanwhile, XMRig's API does not answer, and it is begun
        // anew with another one.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}")).map_err(io::Error::other)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&program.directory)?;
        let file = program.directory.join("xmrig.json");
        write(&file, &config(program, port, token, own, allowance))?;
        let process = spawn(&program.path, &file).inspect_err(|_| drop(fs::remove_file(&file)))?;
        Ok(Self { process, file, is_stopped: false, url })
    }

    /// Whether it is kept from running.
    pub(super) const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Keeps it from running, or not any more.
    pub(super) fn stop(&mut self, stopped: bool) {
        self.signal(if stopped { Signal::STOP } else { Signal::CONT });
        self.is_stopped = stopped;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok())
            && let Some(id) = Pid::from_raw(id)
        {
            // It has ended already, and was not waited for: its number is still its own.
            let _ = kill_process(id, signal);
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.process.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("XMRig ended by itself ({status})")),
            Err(error) => Some(format!("XMRig: {error}")),
        }
    }

    /// Ends it, and waits for that.
    pub(super) async fn end(mut self) {
        if self.is_stopped {
            // It would hash before it heard anything else.
            self.signal(Signal::KILL);
        }
        self.signal(Signal::TERM);
        if timeout(LAST_WORDS, self.process.wait()).await.is_err() {
            // As above.
            let _ = self.process.kill().await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Gone already, or the directory is.
        let _ = fs::remove_file(&self.file);
        if let Some(directory) = self.file.parent() {
            // Not where there is something else in it.
            let _ = fs::remove_dir(directory);
        }
    }
}

fn spawn(path: &Path, file: &Path) -> io::Result<tokio::process::Child> {
    #[expect(clippy::disallowed_methods, reason = "the owner's own miner is no job; see above")]
    let mut command = Command::new(path);
    command
        .arg("--config")
        .arg(file)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let parent = rustix::process::getpid();
    let end_with_parent = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before.
        if rustix::process::getppid() == Some(parent) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    };
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated or locked.
    unsafe { command.pre_exec(end_with_parent) };
    command.spawn()
}

fn write(file: &Path, config: &Value) -> io::Result<()> {
    // Whatever was left there by one that did not end well.
    let _ = fs::remove_file(file);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(config.to_string().as_bytes())
}

/// Its configuration; the names are those of XMRig's `config.json`.
fn config(program: &Program, port: u16, token: &str, own: &Own, allowance: &Allowance) -> Value {
    let pools: Vec<_> = program.pools.iter().map(pool).collect();
    let mut config = json!({
        "autosave": false,
        "background": false,
        "colors": false,
        "syslog": false,
        "watch": false,
        "donate-level": program.donate_level,
        "http": {
            "enabled": true, "host": "127.0.0.1", "port": port,
            "access-token": token, "restricted": false,
        },
        // 0 is SCHED_IDLE and the lowest niceness, as for our own threads.
        "cpu": { "enabled": true, "priority": program.idle.then_some(0) },
        "pools": pools,
    });
    // It begins by itself, before it can be told anything.
    for (name, algo) in [("rx", "rx/0"), ("ghostrider", "gr")] {
        let all = own.list(algo).unwrap_or_default();
        let list = processors::chosen(all, allowance.threads, &allowance.processors);
        config["cpu"][name] = Value::Array(list);
    }
    config
}

fn pool(of: &pool::Settings) -> Value {
    let scheme = of.address.scheme;
    json!({
        "url": of.address.authority(),
        "user": of.user,
        "pass": of.password,
        "rig-id": of.rig_id,
        "algo": of.algorithm.map(|algorithm| algorithm.as_str()),
        "tls": scheme.is_secure(),
        "tls-fingerprint": of.fingerprint.map(|fingerprint| fingerprint.to_string()),
        "keepalive": of.keep_alive,
        "nicehash": of.nicehash,
        "daemon": scheme.is_daemon(),
    })
}
