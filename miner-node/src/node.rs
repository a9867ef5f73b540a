//! The node: its parts put together, and the one source of time and of chance.
//!
//! What it does with them is in `loops/`.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use protocol::job::SlotKind;
use protocol::miner::Fail;
use protocol::{FailureCode, Job, JobId, LeaseToken, MinerCapabilities, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{error, info, warn};

use crate::audit::Audit;
use crate::capabilities::{GpuDevice, Sensors, miner_capabilities, offered_gpus};
use crate::clock;
use crate::config::{Config, SlotPlan};
use crate::coordinator::{ClientError, Coordinator};
use crate::egress::{Egress, Internet, Rules};
use crate::energy::Meter;
use crate::identity::Identity;
use crate::inputs::InputCache;
use crate::leases::Leases;
use crate::outbox::{Body, Outbox, Report, Settled};
use crate::runners::{Allowlist, Builtin, Ceilings, Cli, Containers, Offer, Python, Runners, Wasm};
use crate::sandbox::{Isolation, Sandbox, Tools, VramMeter};
use crate::slots::Slots;
use crate::workdir::{JobDir, Phase, State, Workspace, WorkspaceError};

/// A difference between our clock and the coordinator's that may be the network's.
const HARMLESS_SKEW_MICROS: i64 = 2_000_000;

/// How often the owner is told of something that only the owner can put right.
const COMPLAINT_PAUSE_MICROS: u64 = 60_000_000;

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
    /// Which it holds.
    pub leases: Leases,
    /// What it has to report.
    pub outbox: Outbox,
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
    complained_at: AtomicU64,
    complained_of_space_at: AtomicU64,
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
            Some(sandbox) => try_runners(&config, sandbox, &workspace, executable.clone()).await,
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
        let rules = Rules::new(config.egress.allow.clone());
        let egress = Egress::new(rules, Internet, config.egress.max_mb);
        let gpus = offered_gpus(&probe, &offer).cloned().collect();
        let audit = Audit::new(config.state_dir());
        audit.started(clock::now(), &config, &identity);
        Ok(Arc::new(Self {
            audit,
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
            leases: Leases::default(),
            outbox: Outbox::default(),
            standing: watch::Sender::default(),
            draining: AtomicBool::new(false),
            heartbeat_wake: Notify::new(),
            servers_wake: Notify::new(),
            sensors: Arc::new(Mutex::new(sensors)),
            offset_micros: AtomicI64::new(0),
            complained_at: AtomicU64::new(0),
            complained_of_space_at: AtomicU64::new(0),
        }))
    }

    /// What it tells the coordinator about itself.
    pub fn capabilities(&self) -> Arc<MinerCapabilities> {
        Arc::clone(&self.capabilities.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks again at what the machine has. If that changed, the coordinator will be told.
    pub async fn look_again(&self) {
        let (sensors, root) = (Arc::clone(&self.sensors), self.workspace.root().to_owned());
        let probe =
            blocking(move || sensors.lock().unwrap_or_else(PoisonError::into_inner).probe(&root));
        let Ok(probe) = probe.await else { return };
        let offer = self.runners.offer(self.offer.isolation.as_deref());
        let new = miner_capabilities(&probe, &self.config, &self.identity, &offer);
        let Some(new) = news(&self.capabilities(), new) else { return };
        info!(event = "capabilities_changed", "this machine has changed; registering again");
        *self.capabilities.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.standing.send_modify(|standing| standing.registered = false);
        self.heartbeat_wake.notify_one();
    }

    /// Asks the owner's servers again what they have. If that changed, the coordinator will be told.
    pub async fn look_at_servers(&self) {
        if self.runners.refresh(complain_of_server).await {
            self.look_again().await;
        }
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

    /// On what a job will run.
    pub fn mode(&self, job: &Job) -> SlotKind {
        match job.slot {
            SlotKind::Gpu if self.capabilities().gpu => SlotKind::Gpu,
            SlotKind::Gpu | SlotKind::Cpu => SlotKind::Cpu,
        }
    }

    /// Who knows what processes hold of the memory of a GPU, if anybody does.
    pub fn vram_meter(&self, gpu: &GpuDevice) -> Option<VramMeter> {
        self.sensors.lock().unwrap_or_else(PoisonError::into_inner).vram_meter(gpu)
    }

    /// The most that any job may use.
    pub fn ceilings(&self) -> Ceilings {
        let capabilities = self.capabilities();
        let (offered, jobs) = (&capabilities.limits, capabilities.concurrency.max(1));
        let share = offered.ram_mb.map(|machine| (machine / jobs).max(1));
        Ceilings {
            runtime_s: self.config.accept.max_runtime_s,
            ram_mb: offered.ram_mb,
            usual_ram_mb: self.config.resources.max_ram_mb.or(share),
            disk_mb: offered.disk_mb,
            output_mb: self.config.resources.max_output_mb,
            cpu_threads: offered.cpu_cores,
            busy_threads: self.config.resources.max_cpu_threads,
            processes: self.config.sandbox.max_processes.into(),
            open_files: self.config.sandbox.max_open_files.into(),
        }
    }

    /// How busy the machine is.
    pub async fn load(&self) -> Map<String, Value> {
        let (sensors, root) = (Arc::clone(&self.sensors), self.workspace.root().to_owned());
        let load = move || {
            // A sensor that panicked leaves at worst a wrong rate.
            sensors.lock().unwrap_or_else(PoisonError::into_inner).load(&root)
        };
        tokio::task::spawn_blocking(load).await.unwrap_or_default()
    }

    /// How busy the busiest GPU is, in per cent; `None` where no job reaches one. May start a
    /// program where there is no NVML.
    pub async fn busiest_gpu(&self) -> Option<u32> {
        if !self.capabilities().gpu {
            return None;
        }
        let sensors = Arc::clone(&self.sensors);
        let look = move || sensors.lock().unwrap_or_else(PoisonError::into_inner).gpus();
        let gpus = tokio::task::spawn_blocking(look).await.ok()?;
        gpus.iter().filter(|gpu| gpu.is_usable()).filter_map(|gpu| gpu.utilization_pct).max()
    }

    /// Whether the node takes no more jobs because it is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Puts the report about a job's end in the outbox. The receiver learns what became of it.
    pub fn report(
        &self,
        dir: &JobDir,
        id: JobId,
        token: LeaseToken,
        body: Body,
    ) -> Option<oneshot::Receiver<Settled>> {
        if !self.leases.holds(id, token) {
            // Leased anew meanwhile: the directory belongs to the new attempt.
            return None;
        }
        let report = Report { job_id: id, lease_token: token, idempotency_key: self.uuid(), body };
        if matches!(report.body, Body::Fail(_)) {
            // First, because the report may need the room.
            self.strip(dir);
        }
        if let Err(error) = Outbox::save(dir, &report) {
            error!(event = "report_unsaved", job_id = %id, "report cannot be written: {error}");
            self.strip(dir);
            if let Err(error) = Outbox::save(dir, &report) {
                // Better told and forgotten in a crash than not told at all.
                error!(event = "report_unsaved", job_id = %id, "it is sent unsaved: {error}");
            }
        }
        self.finish(dir, token, Phase::RetryWait, None);
        self.strip(dir);
        // Last: once it is answered, the job may be leased anew, and the directory with it.
        Some(self.outbox.send(dir, report))
    }

    /// Has a job that could not be begun given back at once, though nothing of it is on disk.
    pub fn report_not_begun(
        &self,
        id: JobId,
        token: LeaseToken,
        why: &io::Error,
    ) -> oneshot::Receiver<Settled> {
        let fail = Fail {
            lease_token: Some(token),
            error_code: FailureCode::Internal,
            error_message: Some(format!("node: job directory: {why}")),
            metrics: Map::new(),
            logs_tail: None,
        };
        let (job_id, idempotency_key) = (id, self.uuid());
        let report = Report { job_id, lease_token: token, idempotency_key, body: Body::Fail(fail) };
        self.outbox.send(&self.workspace.job(id), report)
    }

    /// Gives back the room that a job took which has ended.
    pub fn strip(&self, dir: &JobDir) {
        if let Err(error) = self.workspace.strip(dir) {
            warn!(event = "strip_failed", "{}: {error}", dir.path().display());
        }
    }

    /// Why there is no room for jobs, if there is none.
    pub fn lack_of_space(&self) -> Option<String> {
        let floor = self.config.workspace.min_free_mb;
        match self.workspace.free_mb() {
            Ok(free) if free >= floor.into() => None,
            Ok(free) => Some(format!("{free} MiB free, workspace.min_free_mb is {floor}")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Writes down a late phase of the job, if its directory still belongs to that lease.
    pub fn finish(&self, dir: &JobDir, token: LeaseToken, phase: Phase, why: Option<String>) {
        let written = self.workspace.if_still(dir, token, |state| {
            dir.save(&State { phase, updated_at: self.now(), error: why, ..state })
        });
        // A job whose directory could not be made has no state either; that is told already.
        if let Err(error) = written.or_else(missing_is_fine) {
            error!(event = "state_lost", "{}: {error}", dir.path().display());
        }
    }

    /// A version 4 UUID.
    pub fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.random().to_be_bytes()).into_uuid().to_string()
    }

    /// Tells the owner, at most once a minute, what only the owner can put right.
    pub fn complain(&self, what: &dyn std::fmt::Display) {
        self.rarely(&self.complained_at, || {
            warn!(event = "refused", "{what}; check API_KEY, COORD_URL and the node's version");
        });
    }

    /// The same for a disk that is full.
    pub fn complain_of_space(&self, what: &str) {
        self.rarely(&self.complained_of_space_at, || {
            warn!(event = "no_space", "no job is taken, there is too little space: {what}");
        });
    }

    fn rarely(&self, told_at: &AtomicU64, tell: impl FnOnce()) {
        let now = u64::try_from(clock::now().micros()).unwrap_or(0);
        let last = told_at.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= COMPLAINT_PAUSE_MICROS {
            told_at.store(now, Ordering::Relaxed);
            tell();
        }
    }
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
        _ => Err(error),
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

/// The sandbox, if the machine can do it, and the level that it was seen to reach.
async fn isolate(
    config: &Config,
    workspace: &Workspace,
    executable: &Path,
) -> Result<(Option<Sandbox>, Option<Isolation>), NodeError> {
    let fail = |source| NodeError::Io { what: "sandbox", source };
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(why) => {
            error!(event = "no_sandbox", "no sandbox, so no job can be run: {why}");
            return Ok((None, None));
        }
    };
    let mut policy = config.sandbox_policy();
    policy.reached.push(executable.to_owned());
    let mut sandbox = Sandbox::new(tools, &policy).map_err(fail)?;
    let tries_users = sandbox.isolation().own_user;
    if tries_users {
        workspace.let_others_through(true).map_err(fail)?;
    }
    let probed = sandbox.probe(&workspace.root().join("trial")).await;
    if tries_users && !sandbox.isolation().own_user {
        workspace.let_others_through(false).map_err(fail)?;
    }
    match probed {
        Ok(level) => {
            info!(event = "sandbox", %level, "sandbox works: {level}");
            Ok((Some(sandbox), Some(level)))
        }
        Err(why) => {
            error!(event = "no_sandbox", "no sandbox, so no job can be run: {why}");
            Ok((None, None))
        }
    }
}

/// The runners that are switched on and work.
async fn try_runners(
    config: &Config,
    sandbox: &Sandbox,
    workspace: &Workspace,
    executable: PathBuf,
) -> Runners {
    let mut runners = Runners::default();
    let trial = workspace.root().join("trial");
    if config.runners.builtin.enable {
        match Builtin::probe(executable.clone(), sandbox, &trial).await {
            Ok(builtin) => runners.builtin = Some(builtin),
            Err(why) => error!(event = "no_builtin", "built-in work is not offered: {why}"),
        }
    }
    if config.runners.container.enable {
        let owner = protocol::Sha256Hex::of(workspace.root().as_os_str().as_bytes()).to_string();
        match Containers::probe(&config.runners.container, sandbox, &owner).await {
            Ok(containers) => runners.containers = Some(containers),
            Err(why) => error!(event = "no_containers", "no containers are offered: {why}"),
        }
    }
    if config.runners.cli.enable {
        match Allowlist::load(&config.runners.cli.allowlist_dir) {
            Ok(list) => {
                for path in list.absent() {
                    warn!(event = "absent", "allowlisted, but not installed: {}", path.display());
                }
                runners.cli = Cli::new(list);
            }
            Err(error) => error!(event = "bad_allowlist", "{error}"),
        }
    }
    let python = &config.runners.python;
    if python.enable {
        let driver = workspace.root().join("driver.py");
        let complain = |why: String| warn!(event = "bad_task", "{why}");
        match Python::probe(python, driver, sandbox, &trial, complain).await {
            Ok(python) => runners.python = python,
            Err(why) => error!(event = "no_python", "no Python module is offered: {why}"),
        }
    }
    if config.runners.wasm.enable {
        match Wasm::probe(executable, sandbox, &trial).await {
            Ok(wasm) => runners.wasm = Some(wasm),
            Err(why) => error!(event = "no_wasm", "WebAssembly is not offered: {why}"),
        }
    }
    runners
}

/// A server that is away is asked again later.
fn complain_of_server(why: &str) {
    warn!(event = "no_server", "{why}");
}

/// What is new about the machine, if anything is worth telling: how many jobs run at once stays as
/// it was at the start, and free space that went up or down by less than an eighth is no news.
fn news(old: &MinerCapabilities, mut new: MinerCapabilities) -> Option<MinerCapabilities> {
    new.concurrency = old.concurrency;
    new.slots = old.slots;
    if let (Some(before), Some(now)) = (old.limits.disk_mb, new.limits.disk_mb)
        && before.abs_diff(now) < before / 8
    {
        new.limits.disk_mb = Some(before);
    }
    (new != *old).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(disk_mb: u32, ram_mb: u32) -> MinerCapabilities {
        serde_json::from_value(serde_json::json!({
            "miner_id": "m", "mode": "cpu", "gpu": false, "concurrency": 2,
            "limits": {"disk_mb": disk_mb, "ram_mb": ram_mb},
        }))
        .unwrap()
    }

    #[test]
    fn a_machine_that_changed_is_news_and_a_little_disk_is_not() {
        let old = capabilities(8000, 1000);
        assert_eq!(news(&old, capabilities(8000, 1000)), None);
        assert_eq!(news(&old, capabilities(7001, 1000)), None);
        assert_eq!(news(&old, capabilities(6000, 1000)), Some(capabilities(6000, 1000)));
        assert_eq!(news(&old, capabilities(8000, 2000)), Some(capabilities(8000, 2000)));
        let mut more = capabilities(8000, 1000);
        more.concurrency = 3;
        assert_eq!(news(&old, more), None);
    }
}
