//! What the node's owner decides, as one value: [`Config`], with a default for every key.
//!
//! Where the values come from, and in which order they win, is in [`load()`]; the list of all keys
//! with their other names is in [`keys`].

use std::path::PathBuf;

use protocol::{Amount, Name};
use serde::{Deserialize, Serialize};

use crate::egress::Rule;

pub mod base_url;
mod check;
pub mod environment;
pub mod error;
pub mod grammar;
pub mod keys;
pub mod load;
pub mod origin;
pub mod runners;
pub mod sandbox;
pub mod secret;
pub mod selection;
pub mod setting;
pub mod show;
pub mod sources;
#[cfg(test)]
mod tests;
pub mod token;

pub use base_url::BaseUrl;
pub use environment::Environment;
pub use error::ConfigError;
pub use load::{Loaded, Places, load};
pub use runners::{ContainerRunner, LlmApi, LlmRunner, SdRunner};
pub use sandbox::Sandbox;
pub use secret::Secret;
pub use selection::Selection;

/// Everything that can be set, each value being the one that counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's stable label; absent: the one that is kept in `state_dir`, made at first run.
    pub node_id: Option<Name>,
    /// The wallet that is credited; absent: the one that the API key belongs to.
    pub wallet: Option<Name>,
    /// Where the node stands, in the owner's words; jobs may ask for a region.
    pub region: Option<Name>,
    /// Where the signing key and the node's id are kept; absent: in `workspace.root`.
    pub state_dir: Option<PathBuf>,
    /// Whether GPUs are used.
    pub accel_mode: AccelMode,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Asking for work.
    pub poll: Poll,
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// What runs jobs.
    pub runners: Runners,
    /// How much of the machine jobs may take.
    pub resources: Resources,
    /// How they are isolated.
    pub sandbox: Sandbox,
    /// Where jobs live on disk, and for how long.
    pub workspace: Workspace,
    /// Ending the node.
    pub shutdown: Shutdown,
    /// What the node says about itself.
    pub logging: Logging,
    /// What jobs may reach.
    pub egress: Egress,
    /// Which jobs the owner consents to.
    pub accept: Accept,
}

/// Whether GPUs are used (`ACCEL_MODE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelMode {
    /// GPUs where there are any.
    #[default]
    Auto,
    /// The same; their absence is worth a warning.
    Gpu,
    /// Never.
    Cpu,
}

/// The coordinator, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coordinator {
    /// Where it is (`COORD_URL`); a path prefix is kept.
    pub base_url: BaseUrl,
    /// The API key (`API_KEY`), already read from its file or variable.
    pub auth_token: Option<Secret>,
    /// A file that holds the API key (`API_KEY_FILE`).
    pub auth_token_file: Option<PathBuf>,
    /// A PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the node's own certificate and its key.
    pub client_cert_file: Option<PathBuf>,
    /// Permits plain HTTP to other machines (`ALLOW_INSECURE`).
    pub allow_insecure: bool,
    /// Longest wait for a connection, in seconds.
    pub connect_timeout_s: u32,
    /// Longest wait for a reply, in seconds (a long-poll's wait comes on top).
    pub timeout_s: u32,
}

/// Asking for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// Pause between two questions where the coordinator does not hold them, in seconds
    /// (`JOB_POLL_SECS`).
    pub interval_s: u32,
    /// How long the coordinator may hold a question, in seconds, at most 30; 0: not at all.
    pub wait_s: u32,
}

/// Signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Pause between two, in seconds, until the coordinator names another (`HEARTBEAT_SECS`).
    pub interval_s: u32,
    /// By how many per cent a pause varies, so that a fleet does not beat as one.
    pub jitter_pct: u8,
    /// Pauses after failed calls; they grow twofold.
    pub backoff: Backoff,
}

/// Pauses after failed calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first, in seconds.
    pub min_s: u32,
    /// The longest, in seconds.
    pub max_s: u32,
}

/// What runs jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runners {
    /// Work that the node itself knows (`hash`, `torch_bench`).
    pub builtin: BuiltinRunner,
    /// Allowlisted programs.
    pub cli: CliRunner,
    /// The owner's Python modules.
    pub python: PythonRunner,
    /// WebAssembly modules that jobs bring.
    pub wasm: WasmRunner,
    /// A server that generates text.
    pub llm: LlmRunner,
    /// A server that paints.
    pub sd: SdRunner,
    /// Images in the owner's podman or docker.
    pub container: ContainerRunner,
}

/// Work that the node itself knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuiltinRunner {
    /// Whether it is offered.
    pub enable: bool,
}

/// Allowlisted programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CliRunner {
    /// Whether it is offered.
    pub enable: bool,
    /// The directory of the allowlist: one YAML file per program; empty: nothing may run.
    pub allowlist_dir: PathBuf,
}

/// The owner's Python modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PythonRunner {
    /// Whether they are offered.
    pub enable: bool,
    /// The virtual environment that runs them; absent: the system's Python.
    pub venv: Option<PathBuf>,
    /// The directories of the modules that jobs may name; none: none may run.
    pub task_paths: Vec<PathBuf>,
}

/// WebAssembly modules that jobs bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WasmRunner {
    /// Whether it is offered.
    pub enable: bool,
}

/// How much of the machine jobs may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Jobs at once, of all kinds (`MAX_CONCURRENCY`); absent: as many as there are slots.
    pub max_concurrency: Option<u32>,
    /// CPU slots; absent: `max_concurrency`, or 1.
    pub max_concurrent_cpu: Option<u32>,
    /// GPU slots, at most one per GPU; absent: one per GPU.
    pub max_concurrent_gpu: Option<u32>,
    /// Niceness of jobs, 0 to 19.
    pub cpu_nice: u8,
    /// Memory that the largest job may ask for, in MiB; absent: all that the machine has.
    pub max_ram_mb: Option<u32>,
    /// Processor threads that a job may ask for and keep busy; absent: all that the machine has.
    pub max_cpu_threads: Option<u32>,
    /// Scratch space that the largest job may ask for, in MiB; absent: all that is free.
    pub max_disk_mb: Option<u32>,
    /// The largest input that is fetched, in MiB.
    pub max_input_mb: u32,
    /// The largest output that is kept, in MiB, where a job does not set a lower limit.
    pub max_output_mb: u32,
}

/// Where jobs live on disk, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workspace {
    /// The directory (`WORK_DIR`); jobs are in `jobs/` below it.
    pub root: PathBuf,
    /// With less free space than this, in MiB, no job is taken; 0: never mind.
    pub min_free_mb: u32,
    /// The most that is kept of input files for the next job that needs them, in MiB; 0: nothing.
    pub input_cache_mb: u32,
    /// How long a finished job's files are kept, in hours.
    pub keep_success_h: u32,
    /// How long a failed job's files are kept, in hours.
    pub keep_failed_h: u32,
}

/// Ending the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long running jobs may go on after the first signal, in seconds.
    pub grace_s: u32,
}

/// What the node says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
    /// A file to append to; absent: standard output.
    pub path: Option<PathBuf>,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Debug,
    /// What an owner wants to see.
    #[default]
    Info,
    /// What an owner should look at.
    Warn,
    /// What stops work.
    Error,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time and the seed's words.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What jobs may reach that ask for network access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// `host:port` or `*.domain:port`; empty: nothing, and jobs that ask for it are refused.
    pub allow: Vec<Rule>,
    /// The most traffic of a job, both ways together, in MiB.
    pub max_mb: u32,
}

impl Default for Egress {
    fn default() -> Self {
        Self { allow: Vec::new(), max_mb: 1024 }
    }
}

/// Which jobs the owner consents to; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accept {
    /// Workloads.
    pub workloads: Selection,
    /// Clients.
    pub clients: Selection,
    /// The least unit price, in AITBC.
    pub min_price: Amount,
    /// The longest run time that a job may ask for, in seconds.
    pub max_runtime_s: u32,
    /// Hosts, besides the coordinator, from which a job's input may be fetched.
    pub input_hosts: Vec<String>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            base_url: BaseUrl::default(),
            auth_token: None,
            auth_token_file: None,
            ca_file: None,
            client_cert_file: None,
            allow_insecure: false,
            connect_timeout_s: 5,
            timeout_s: 30,
        }
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self { interval_s: 3, wait_s: 25 }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_s: 20, jitter_pct: 10, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min_s: 1, max_s: 60 }
    }
}

impl Default for BuiltinRunner {
    fn default() -> Self {
        Self { enable: true }
    }
}

impl Default for CliRunner {
    fn default() -> Self {
        Self { enable: true, allowlist_dir: PathBuf::from("/etc/aitbc/miner/allowlist.d") }
    }
}

impl Default for PythonRunner {
    fn default() -> Self {
        Self { enable: true, venv: None, task_paths: Vec::new() }
    }
}

impl Default for WasmRunner {
    fn default() -> Self {
        Self { enable: true }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            max_concurrency: None,
            max_concurrent_cpu: None,
            max_concurrent_gpu: None,
            cpu_nice: 10,
            max_ram_mb: None,
            max_cpu_threads: None,
            max_disk_mb: None,
            max_input_mb: 1024,
            max_output_mb: 1024,
        }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/aitbc/miner"),
            min_free_mb: 1024,
            input_cache_mb: 4096,
            keep_success_h: 24,
            keep_failed_h: 168,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_s: 60 }
    }
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            workloads: Selection::Any,
            clients: Selection::Any,
            min_price: Amount::ZERO,
            max_runtime_s: 3600,
            input_hosts: Vec::new(),
        }
    }
}

impl Config {
    /// Where the signing key and the node's id are kept.
    pub fn state_dir(&self) -> &std::path::Path {
        self.state_dir.as_deref().unwrap_or(&self.workspace.root)
    }

    /// What the owner decided about how jobs run.
    pub fn sandbox_policy(&self) -> crate::sandbox::Policy {
        let Sandbox { uid_base, uid_count, .. } = self.sandbox;
        crate::sandbox::Policy {
            nice: self.resources.cpu_nice,
            disk_turn: self.sandbox.ionice,
            processors: self
                .sandbox
                .cpu_affinity
                .as_ref()
                .map_or_else(Vec::new, |list| list.numbers().to_vec()),
            users: (uid_count > 0)
                .then_some(crate::sandbox::UserRange { first: uid_base, count: uid_count }),
            reached: self
                .workspace
                .root
                .parent()
                .map(std::path::Path::to_owned)
                .into_iter()
                .collect(),
            required: self.sandbox.require.clone(),
            ..crate::sandbox::Policy::default()
        }
    }
}

impl Resources {
    /// How many jobs run at once on a machine with `gpus` usable GPUs.
    pub fn slots(&self, gpus: u32) -> SlotPlan {
        let most = self.max_concurrency.unwrap_or(u32::MAX);
        let gpu = gpus.min(self.max_concurrent_gpu.unwrap_or(gpus)).min(most);
        let cpu = self.max_concurrent_cpu.or(self.max_concurrency).unwrap_or(1).min(most);
        SlotPlan { cpu, gpu, total: cpu.saturating_add(gpu).min(most) }
    }
}

/// How many jobs run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotPlan {
    /// Jobs on the processor.
    pub cpu: u32,
    /// Jobs on GPUs.
    pub gpu: u32,
    /// Jobs of both kinds together; may be less than their sum.
    pub total: u32,
}
