//! The node: its parts put together, and the one source of time and of chance.
//!
//! What it does with them is in `loops/`.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use protocol::{MinerCapabilities, Timestamp};
use tokio::sync::{Notify, watch};
use tracing::warn;

mod complaints;
mod machine;
mod reports;
mod room;
mod start;

use crate::audit::Audit;
use crate::capabilities::{Sensors, miner_capabilities, offered_gpus};
use crate::capacity::Capacity;
use crate::clock;
use crate::config::{Config, SlotPlan};
use crate::coordinator::{ClientError, Coordinator};
use crate::egress::{Egress, Internet, Rules};
use crate::energy::Meter;
use crate::facts::usable_processors;
use crate::identity::Identity;
use crate::inputs::InputCache;
use crate::leases::Leases;
use crate::outbox::Outbox;
use crate::runners::{Offer, Runners};
use crate::sandbox::Sandbox;
use crate::sharing::Sharing;
use crate::slots::Slots;
use crate::tally::Tally;
use crate::workdir::{Workspace, WorkspaceError};
use complaints::Told;
use start::{complain_of_server, isolate, try_runners};

/// A difference between our clock and the coordinator's that may be the network's.
const HARMLESS_SKEW_MICROS: i64 = 2_000_000;

/// What its owner changed while it ran, in the state directory.
const CONTROLS_FILE: &str = "controls.json";

/// Why a node cannot run, or stopped running.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The work directory.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file or a system call.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the node ended that never should.
    #[error("the {0} loop ended unexpectedly")]
    LoopEnded(&'static str),
    /// `--once` was asked, and there is nothing that could be run.
    #[error("no job can be run: {0}")]
    NothingToOffer(String),
}

/// A node, ready to work.
pub struct Node {
    /// What the owner decided.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// Whom it works for.
    pub coordinator: Coordinator,
    /// Where its jobs live.
    pub workspace: Workspace,
    /// How much energy its jobs take, as far as that can be measured.
    pub energy: Arc<Meter>,
    /// The input files that were fetched before.
    pub inputs: Arc<InputCache>,
    /// In what they run; absent where the machine cannot isolate.
    pub sandbox: Option<Sandbox>,
    /// What it lets jobs reach; absent: nothing.
    pub egress: Option<Egress>,
    /// The node's own program.
    pub executable: PathBuf,
    /// Which of them it can run.
    pub runners: Runners,
    /// How many it runs at once.
    pub slots: Slots,
    /// What of the machine they and mining have.
    pub sharing: Arc<Sharing>,
    /// What they take together.
    pub capacity: Arc<Capacity>,
    /// Which it holds.
    pub leases: Leases,
    /// What it has to report.
    pub outbox: Outbox,
    /// What it has done in all its lives.
    pub tally: Tally,
    /// What its owner may want to prove later.
    pub audit: Audit,
    /// Whether the coordinator knows it and lets it work.
    pub standing: watch::Sender<Standing>,
    /// Whether it takes no more jobs because it is about to end.
    pub draining: AtomicBool,
    /// Has the next heartbeat rescheduled.
    pub heartbeat_wake: Notify,
    /// Has the owner's servers asked at once what they have.
    pub servers_wake: Notify,
    /// What it tells the coordinator about itself.
    capabilities: RwLock<Arc<MinerCapabilities>>,
    /// What its runners can do; tried out once, at the start.
    offer: Offer,
    sensors: Arc<Mutex<Sensors>>,
    offset_micros: AtomicI64,
    told: Told,
}

/// How the node stands with the coordinator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is registered.
    pub registered: bool,
    /// The operator wants it to take no more jobs.
    pub drained: bool,
}

impl Standing {
    /// Whether to ask for work.
    pub const fn may_work(self) -> bool {
        self.registered && !self.drained
    }
}

impl Node {
    /// Puts a node together, trying out everything that it will offer. `executable` is the node's
    /// own program, which built-in work is run with.
    ///
    /// # Errors
    /// Where it could not work at all. That there is no sandbox, or the allowlist is bad, is told
    /// and makes it offer less.
    pub async fn start(
        config: Config,
        identity: Identity,
        executable: PathBuf,
    ) -> Result<Arc<Self>, NodeError> {
        Self::start_with(config, identity, executable, Sensors::of_machine()).await
    }

    /// The same with other eyes for the machine.
    ///
    /// # Errors
    /// Those of [`Node::start`].
    pub async fn start_with(
        config: Config,
        identity: Identity,
        executable: PathBuf,
        mut sensors: Sensors,
    ) -> Result<Arc<Self>, NodeError> {
        if let Err(error) = crate::sandbox::raise_open_files() {
            warn!(event = "open_files", "limit of open files: {error}");
        }
        let coordinator = Coordinator::new(&config.coordinator)?;
        let workspace = Workspace::open(&config.workspace.root)?;
        let inputs = workspace.root().join("inputs");
        let inputs = InputCache::open(inputs, config.workspace.input_cache_mb);
        let inputs = Arc::new(inputs.map_err(WorkspaceError::NotPrivate)?);
        let (sandbox, isolation) = isolate(&config, &workspace, &executable).await?;
        let mut runners = match &sandbox {
            Some(sandbox) => try_runners(&config, sandbox, &workspace, &executable).await,
            None => Runners::default(),
        };
        runners.add_served(&config.runners, complain_of_server).await;
        let offer = runners.offer(isolation.map(|level| level.to_string()).as_deref());
        let root = workspace.root().to_owned();
        let (sensors, probe) = blocking(move || {
            let probe = sensors.probe(&root);
            (sensors, probe)
        })
        .await?;
        let capabilities = miner_capabilities(&probe, &config, &identity, &offer);
        let slots = capabilities.slots.unwrap_or_default();
        let plan = SlotPlan { cpu: slots.cpu, gpu: slots.gpu, total: capabilities.concurrency };
        let threads = capabilities.limits.cpu_cores.unwrap_or(u32::MAX).into();
        let rules = Rules::new(config.egress.allow.clone());
        let egress = Egress::new(rules, Internet, config.egress.max_mb);
        let for_jobs = config.sandbox.cpu_affinity.as_ref();
        let sharing = Sharing::new(
            &config.mining.policy,
            config.state_dir().join(CONTROLS_FILE),
            &usable_processors(),
            for_jobs.map_or(&[], |processors| processors.numbers()),
            plan.cpu,
        );
        let gpus = offered_gpus(&probe, &offer).cloned().collect();
        let audit = Audit::new(config.state_dir());
        audit.started(clock::now(), &config, &identity);
        let tally = Tally::open(config.state_dir());
        Ok(Arc::new(Self {
            audit,
            tally,
            config,
            identity,
            coordinator,
            workspace,
            inputs,
            energy: Arc::new(Meter::of_machine()),
            sandbox,
            egress,
            executable,
            runners,
            capabilities: RwLock::new(Arc::new(capabilities)),
            offer,
            slots: Slots::new(plan, gpus),
            sharing: Arc::new(sharing),
            capacity: Arc::new(Capacity::new(probe.ram_mb(), threads)),
            leases: Leases::default(),
            outbox: Outbox::default(),
            standing: watch::Sender::default(),
            draining: AtomicBool::new(false),
            heartbeat_wake: Notify::new(),
            servers_wake: Notify::new(),
            sensors: Arc::new(Mutex::new(sensors)),
            offset_micros: AtomicI64::new(0),
            told: Told::default(),
        }))
    }

    /// What it tells the coordinator about itself.
    pub fn capabilities(&self) -> Arc<MinerCapabilities> {
        Arc::clone(&self.capabilities.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time, by the coordinator's clock as far as it is known.
    pub fn now(&self) -> Timestamp {
        let offset = self.offset_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(clock::now().micros().saturating_add(offset))
    }

    /// Takes in what the coordinator's clock says.
    pub fn heed_clock(&self, server: Timestamp) {
        let offset = server.micros() - clock::now().micros();
        let known = self.offset_micros.load(Ordering::Relaxed);
        if (offset - known).abs() <= HARMLESS_SKEW_MICROS {
            return;
        }
        self.offset_micros.store(offset, Ordering::Relaxed);
        let seconds = offset / 1_000_000;
        warn!(
            event = "clock_skew",
            seconds, "this clock is {seconds} s behind the coordinator's; corrected"
        );
    }

    /// 128 random bits.
    pub fn random(&self) -> u128 {
        chance()
    }

    /// 32 random bits.
    pub fn random_u32(&self) -> u32 {
        (chance() >> 96) as u32
    }

    /// Whether the node takes no more jobs because it is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A version 4 UUID.
    pub fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.random().to_be_bytes()).into_uuid().to_string()
    }
}

/// The only source of chance.
#[expect(clippy::disallowed_methods, reason = "this is the one source of randomness")]
fn chance() -> u128 {
    rand::random()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| NodeError::Io { what: "probe", source: io::Error::other(error) })
}
