//! `run`: the node itself.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mining::Notice;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{FAILED, Flags, USAGE, complain};
use crate::config::{Config, Environment, Loaded};
use crate::identity::{self, Identity, IdentityError};
use crate::loops::{self, Options, Outcome, Stop};
use crate::node::{Node, NodeError};
use crate::{clock, engines, private, systemd, telemetry};

/// How long threads that wait for a driver or a disk may keep the process from ending.
const LAST_THREADS: Duration = Duration::from_secs(2);

/// How long it takes to kill what still runs after its grace time, and to report it.
const LAST_ACTS: Duration = Duration::from_secs(30);

/// Works until stopped.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Take one job, finish it, and end (1 if it failed)
    #[arg(long)]
    once: bool,
    /// Speak to no coordinator
    #[arg(long, conflicts_with = "once")]
    standalone: bool,
}

impl Run {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let loaded = match flags.load() {
            Ok(loaded) => loaded,
            Err(error) => return complain(&error, USAGE),
        };
        match self.start(loaded) {
            Ok(code) => code,
            Err(error) => complain(&error, FAILED),
        }
    }

    fn start(&self, loaded: Loaded) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let Loaded { config, warnings, origins, .. } = loaded;
        // Before anything is written: somebody else may have made it and be waiting for that.
        private::directory(&config.workspace.root)?;
        let _lock = identity::lock(&config)?;
        let identity = who(&config)?;
        let secret = config.coordinator.auth_token.clone();
        let node_id = Some(&identity.node_id);
        telemetry::init(&config.logging, node_id, secret, clock::now)?;
        for (key, origin) in origins {
            tracing::debug!(event = "config", key, %origin, "set");
        }
        for warning in warnings {
            tracing::warn!(event = "config", "{warning}");
        }
        if config.coordinator.auth_token.is_none() && !self.standalone {
            tracing::warn!(
                event = "config",
                "no API_KEY is set; only a mock coordinator takes that"
            );
        }
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let code = self.work(&runtime, config, identity);
        runtime.shutdown_timeout(LAST_THREADS);
        Ok(code)
    }

    fn work(&self, runtime: &Runtime, config: Config, identity: Identity) -> ExitCode {
        let options = Options { once: self.once, standalone: self.standalone };
        match runtime.block_on(work(config, identity, options)) {
            Ok(Outcome::Good) => ExitCode::SUCCESS,
            Ok(Outcome::JobFailed) => ExitCode::from(FAILED),
            Err(error) => {
                tracing::error!(event = "end", "{error}");
                ExitCode::from(FAILED)
            }
        }
    }
}

fn who(config: &Config) -> Result<Identity, IdentityError> {
    let environment = Environment::of_process();
    Identity::load_or_create(config, &environment.hostname, &mut rand::rng())
}

async fn work(config: Config, identity: Identity, options: Options) -> Result<Outcome, NodeError> {
    let stop = Stop::default();
    let signals = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = signals.follow_signals().await {
            tracing::error!(event = "signals", "signals cannot be received: {error}");
        }
    });
    let executable =
        std::env::current_exe().map_err(|source| NodeError::Io { what: "own program", source })?;
    let node = Node::start(config, identity, executable).await?;
    if node.config.mining.enabled {
        mine(&node);
    }
    tokio::spawn(systemd::keep_alive());
    tokio::spawn(say_when_stopping(stop.clone(), &node));
    systemd::ready();
    loops::run(node, options, stop).await
}

/// Jobs that run have their grace time, then some to end and to be reported: systemd must not end
/// the node before.
fn say_when_stopping(stop: Stop, node: &Node) -> impl Future<Output = ()> + use<> {
    let patience = Duration::from_secs(node.config.shutdown.grace_s.into()) + LAST_ACTS;
    async move {
        stop.drain.cancelled().await;
        systemd::stopping(patience);
    }
}

/// Has the engine of the configuration mine whenever the owner's rules allow it. A node that cannot
/// mine still works.
fn mine(node: &Node) {
    let listener = Arc::new(tell);
    let seed = u64::from(node.random_u32());
    let (mining, state) = (&node.config.mining, node.config.state_dir());
    match engines::start(mining, listener, seed, state, &Handle::current()) {
        Ok(engine) => node.sharing.employ(Arc::from(engine)),
        Err(error) => tracing::error!(event = "no_mining", "nothing is mined: {error}"),
    }
}

/// What the engine tells, in the log.
fn tell(notice: &Notice) {
    match notice {
        Notice::Warning { .. } | Notice::Disconnected { .. } => {
            tracing::warn!(event = "mining", "[MINE] {notice}");
        }
        Notice::Share { .. } | Notice::Job { .. } | Notice::Dataset { .. } => {
            tracing::debug!(event = "mining", "[MINE] {notice}");
        }
        Notice::Connected { .. }
        | Notice::Preparing { .. }
        | Notice::Ready { .. }
        | Notice::ReadyAhead
        | Notice::GivenBack => tracing::info!(event = "mining", "[MINE] {notice}"),
    }
}
