//! A job as it is handed to a miner, the parts that a client states too, and its states.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::hash::Sha256Hex;
use crate::id::{JobId, LeaseToken, Name, RelativePath};
use crate::time::Timestamp;

/// A job in the hands of a miner: the reply of `GET /v1/miner/next`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// What kind of work it is, for example `torch_bench`.
    pub workload: Name,
    /// Which runner the node has to use.
    pub runner: Runner,
    /// Parameters of the workload.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Program of a `cli` job: a name from the node's allowlist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments of a `cli` or `wasm` job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the job reads.
    #[serde(default)]
    pub input: Input,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What the node must have.
    #[serde(default)]
    pub requirements: Requirements,
    /// On which kind of slot it runs.
    pub slot: SlotKind,
    /// The files it must leave behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactRule>,
    /// What it pays.
    pub price: Price,
    /// How soon it left the queue, 0 to 9; a node's owner may have rules for it.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[cfg_attr(feature = "openapi", schemars(range(max = 9)))]
    pub priority: u8,
    /// Which chargeable try this is, from 1.
    pub attempt: u32,
    /// The right to work on it, and until when.
    pub lease: Lease,
    /// Who submitted it: the client's id, as receipts state it.
    pub client: Name,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When an unstarted job lapses.
    pub expires_at: Timestamp,
    /// The client's signature over the manifest, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sig: Option<ManifestSignature>,
}

/// Whether a priority is the one of jobs that say nothing.
const fn is_usual(priority: &u8) -> bool {
    *priority == 0
}

/// Which runner the node has to use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Runner {
    /// The kind of runner.
    pub kind: RunnerKind,
}

/// The kinds of runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    /// Work that the node itself knows (`hash`, `torch_bench`).
    Builtin,
    /// An allowlisted program.
    Cli,
    /// A trusted Python module.
    Python,
    /// A local inference server.
    Ollama,
    /// A container image.
    Container,
    /// A WebAssembly module.
    Wasm,
}

impl RunnerKind {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Cli => "cli",
            Self::Python => "python",
            Self::Ollama => "ollama",
            Self::Container => "container",
            Self::Wasm => "wasm",
        }
    }
}

impl fmt::Display for RunnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of slots of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// A share of the processor.
    Cpu,
    /// One GPU.
    Gpu,
}

impl SlotKind {
    /// The text on the wire; it is also the `mode` of a proof.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a job reads: values in the job itself, and files by hash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Small values, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inline: Map<String, Value>,
    /// Files, fetched by the node before the job starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
}

/// A file that the node fetches into the job's `input/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Its name in `input/`.
    pub name: RelativePath,
    /// Its content; without a `url` it is fetched from the coordinator's `/v1/inputs/{sha256}`.
    pub sha256: Sha256Hex,
    /// Another place to fetch it from, if the node's owner allows that host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its size in bytes, where the coordinator knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// What a job may use; an absent value leaves the node's own limit in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// GPU memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_mb: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_mb: Option<u32>,
    /// Processor time in seconds, over all threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_secs: Option<u32>,
    /// Wall-clock time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime_s: Option<u32>,
    /// Size of everything the job leaves behind, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_mb: Option<u32>,
    /// Scratch space in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
    /// Tokens that an inference may produce; also the ceiling of what it can be billed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Fuel of a deterministic WASM job; also the ceiling of what it can be billed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fuel: Option<u64>,
    /// Which network the job sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// Which network a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// None at all.
    None,
    /// The hosts that the node's owner allows, through a proxy.
    Egress,
}

/// What a node must have to be given the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Requirements {
    /// A GPU.
    #[serde(default)]
    pub gpu: bool,
    /// At least this much GPU memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_mb: Option<u32>,
    /// At least this much memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_mb: Option<u32>,
    /// At least this many processor threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_threads: Option<u32>,
    /// At least this CUDA version, as `major.minor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// All of these models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Name>,
    /// This WebAssembly engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Name>,
    /// This region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
}

/// A file that the job must leave in its work directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ArtifactRule {
    /// Where, relative to the work directory.
    pub path: RelativePath,
    /// Its media type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its largest size in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_mb: Option<u32>,
}

/// What a job pays: fixed at submit, from the coordinator's price table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Price {
    /// What is counted.
    pub unit_type: UnitType,
    /// What one unit pays, in AITBC.
    pub unit_price: Amount,
    /// The most that the client pays, in AITBC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Amount>,
}

/// What a price counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnitType {
    /// Seconds times GPUs.
    GpuSeconds,
    /// Seconds times requested processor threads.
    CpuSeconds,
    /// Generated tokens.
    Tokens,
    /// Units of WASM fuel.
    Fuel,
}

impl UnitType {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GpuSeconds => "gpu_seconds",
            Self::CpuSeconds => "cpu_seconds",
            Self::Tokens => "tokens",
            Self::Fuel => "fuel",
        }
    }
}

impl fmt::Display for UnitType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The right to work on a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Lease {
    /// Presented with every call about the job.
    pub token: LeaseToken,
    /// Which lease of the job this is; never used twice for one job.
    pub fence: i64,
    /// When the lease lapses unless a heartbeat renews it.
    pub expires_at: Timestamp,
    /// The moment past which it is not renewed any more.
    pub deadline: Timestamp,
}

/// A client's Ed25519 signature over the manifest of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ManifestSignature {
    /// Always `Ed25519`.
    pub alg: String,
    /// The signer's public key, base64url without padding.
    pub key_id: String,
    /// The signature, base64url without padding.
    pub sig: String,
}

/// The states of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Waits for a miner.
    Queued,
    /// Leased, not acknowledged yet.
    Assigned,
    /// Leased and acknowledged.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended without one.
    Failed,
    /// Canceled by its client.
    Canceled,
    /// Nobody took it in time.
    Expired,
}

impl JobState {
    /// Every state.
    pub const ALL: &[Self] = &[
        Self::Queued,
        Self::Assigned,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Expired,
    ];

    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Assigned => "ASSIGNED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether a job in this state never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::Expired)
    }

    /// Whether a miner holds the job.
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }

    /// Whether the state machine has a transition from here to `next`.
    pub const fn can_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(
                next,
                Self::Assigned | Self::Completed | Self::Failed | Self::Canceled | Self::Expired
            ),
            Self::Assigned => matches!(
                next,
                Self::Running | Self::Queued | Self::Completed | Self::Failed | Self::Canceled
            ),
            Self::Running => {
                matches!(next, Self::Queued | Self::Completed | Self::Failed | Self::Canceled)
            }
            Self::Completed | Self::Failed | Self::Canceled | Self::Expired => false,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a job state")]
pub struct UnknownState;

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.iter().copied().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}
