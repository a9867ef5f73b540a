//! What a miner says about itself and its jobs, and what it is answered.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::amount::{Amount, Units};
use crate::error::FailureCode;
use crate::hash::Sha256Hex;
use crate::id::{JobId, LeaseToken, Name, RelativePath};
use crate::job::{JobState, Lease, RunnerKind, SlotKind};
use crate::time::Timestamp;

/// Accepts `true`, `false`, `1` and `0`: the seed's script sends a number.
fn bool_or_bit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("true, false, 1 or 0")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
            match value {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(E::invalid_value(de::Unexpected::Unsigned(other), &self)),
            }
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// What a node offers: the body of `POST /v1/miner/register`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MinerCapabilities {
    /// The node's stable label.
    pub miner_id: Name,
    /// Whether it works on GPUs or on the processor.
    pub mode: SlotKind,
    /// Whether a usable GPU is present.
    #[serde(deserialize_with = "bool_or_bit")]
    #[cfg_attr(feature = "openapi", schemars(schema_with = "crate::schema::bool_or_bit"))]
    pub gpu: bool,
    /// How many jobs it runs at once.
    pub concurrency: u32,
    /// The workloads it accepts.
    #[serde(default)]
    pub workloads: Vec<Name>,
    /// The largest job it takes.
    #[serde(default)]
    pub limits: CapabilityLimits,
    /// Its GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// The runners that passed their probe.
    #[serde(default)]
    pub runners: Vec<RunnerKind>,
    /// The allowlisted programs of its `cli` runner; absent: not stated, any may be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<String>>,
    /// How its `concurrency` divides over kinds of slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// Models at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Name>,
    /// The WebAssembly engines of its `wasm` runner, each with the release that decides on fuel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<Name>,
    /// Where it stands, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// The wallet that is credited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Name>,
    /// The Ed25519 key that signs its receipts, base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubkey: Option<String>,
    /// The strongest sandbox level that it can offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Algorithms it can mine when idle.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub mining: Map<String, Value>,
    /// The node's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The least unit price it works for, in AITBC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Amount>,
    /// Whether it lets jobs reach out to the network that ask for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub egress: bool,
}

/// The largest job that a node takes; an absent value means it did not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CapabilityLimits {
    /// GPU memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_mb: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_mb: Option<u32>,
    /// Wall-clock time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime_s: Option<u32>,
    /// Scratch space in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
    /// Processor threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Gpu {
    /// Its index on the node.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// Its memory in MiB.
    pub vram_mb: u32,
    /// Driver version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Newest CUDA version that the driver serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
}

/// Slots by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Slots {
    /// Processor slots.
    #[serde(default)]
    pub cpu: u32,
    /// GPU slots, at most one per GPU.
    #[serde(default)]
    pub gpu: u32,
}

/// Reply of `POST /v1/miner/register`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The node's label.
    pub miner_id: Name,
    /// `registered` the first time, `updated` after that.
    pub status: String,
    /// How often to send a heartbeat, in seconds.
    pub heartbeat_secs: u32,
    /// How often to ask for work without long-poll, in seconds.
    pub poll_secs: u32,
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// The key with which the coordinator attests receipts.
    pub receipt_pubkey: String,
}

/// Body of `POST /v1/miner/heartbeat`; the seed's script sends the first four fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// The node's label.
    pub miner_id: Name,
    /// The wallet that is credited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Name>,
    /// Whether it works on GPUs or on the processor.
    pub mode: SlotKind,
    /// Whether a usable GPU is present.
    #[serde(deserialize_with = "bool_or_bit")]
    #[cfg_attr(feature = "openapi", schemars(schema_with = "crate::schema::bool_or_bit"))]
    pub gpu: bool,
    /// What the node is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MinerStatus>,
    /// Jobs running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inflight: Option<u32>,
    /// Jobs accepted and waiting on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_len: Option<u32>,
    /// The jobs it holds; leases named here are renewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_jobs: Vec<ActiveJob>,
    /// Load of the machine, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// Idle mining, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub mining: Map<String, Value>,
    /// What changed since registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<MinerCapabilities>>,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum MinerStatus {
    /// Has free slots.
    Online,
    /// Has none.
    Busy,
    /// Finishes what it has and takes no more.
    Draining,
}

/// A job that the node holds: with its token, or bare from a node that has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ActiveJob {
    /// With the lease's token.
    Leased {
        /// The job.
        id: JobId,
        /// Its lease.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_token: Option<LeaseToken>,
    },
    /// The id alone.
    Bare(JobId),
}

impl ActiveJob {
    /// The job.
    pub const fn id(&self) -> JobId {
        match self {
            Self::Leased { id, .. } | Self::Bare(id) => *id,
        }
    }

    /// Its lease, if stated.
    pub const fn token(&self) -> Option<LeaseToken> {
        match self {
            Self::Leased { lease_token, .. } => *lease_token,
            Self::Bare(_) => None,
        }
    }
}

/// Reply of `POST /v1/miner/heartbeat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeartbeatReply {
    /// Always `ok`.
    pub status: String,
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// When to send the next heartbeat, in seconds from now.
    pub heartbeat_secs: u32,
    /// Whether the operator wants the node drained.
    pub drain: bool,
    /// Why it gets no more jobs, where the operator said why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Jobs to stop at once: canceled, ended, or leased to another node.
    pub cancel_jobs: Vec<JobId>,
    /// Jobs whose lease was renewed.
    pub renewed: Vec<JobId>,
}

/// Reply of `GET /v1/miner/reputation`: what a miner has done so far, by the coordinator's books and
/// clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Reputation {
    /// The miner.
    pub miner_id: Name,
    /// When it was first heard of.
    pub since: Timestamp,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Attempts that ended with an accepted proof.
    pub jobs_completed: u64,
    /// Attempts that failed, or whose lease lapsed; those that were called off do not count.
    pub jobs_failed: u64,
    /// From lease to accepted proof, all of them together, in hours.
    pub compute_hours: Units,
    /// Of the attempts that ended in the last 30 days, those that were accepted, in hundredths of a
    /// per cent; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_bp: Option<u16>,
    /// Of the last 30 days, or since it was first heard of, the time between heartbeats that came in
    /// time, in hundredths of a per cent.
    pub uptime_bp: u16,
}

/// Body of `POST /v1/miner/jobs/{id}/ack`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Ack {
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
}

/// Reply of `POST /v1/miner/jobs/{id}/ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Acked {
    /// `RUNNING`.
    pub state: JobState,
    /// The renewed lease.
    pub lease: Lease,
}

/// Body of `POST /v1/miner/jobs/{id}/progress`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Progress {
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
    /// Per cent done, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = 100)))]
    pub pct: Option<u8>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Measurements so far.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
}

/// Reply of `POST /v1/miner/jobs/{id}/progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ProgressReply {
    /// `false`: stop the job.
    #[serde(rename = "continue")]
    pub go_on: bool,
    /// The renewed lease, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// Body of `POST /v1/miner/jobs/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LogChunk {
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
    /// Which stream.
    pub stream: LogStream,
    /// Counts the chunks of this lease from 0; a repeat is ignored.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0)))]
    pub seq: i64,
    /// The text, at most 64 KiB.
    pub text: String,
}

/// The streams of a job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the node itself has to say.
    Node,
}

impl LogStream {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Node => "node",
        }
    }
}

/// Reply of `POST /v1/miner/jobs/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LogReply {
    /// `false`: the job's log is full, further chunks are dropped.
    pub accepted: bool,
}

/// Body of `POST /v1/miner/jobs/{id}/fail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Fail {
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
    /// What went wrong.
    pub error_code: FailureCode,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Measurements of the attempt.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// The end of the log; the coordinator keeps at most its last 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_tail: Option<String>,
}

/// Reply of `POST /v1/miner/jobs/{id}/fail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Failed {
    /// What became of the job.
    pub state: JobState,
    /// Its chargeable try, from 1.
    pub attempt: u32,
}

/// The `metadata` part of `POST /v1/miner/jobs/{id}/artifacts`, always the first part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct UploadMetadata {
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
    /// The hash that each file must have, by path; a file that is not named is taken as it comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Expected>,
}

/// The hash that a file of an upload must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Expected {
    /// Which file.
    pub path: RelativePath,
    /// Its hash.
    pub sha256: Sha256Hex,
}

/// Reply of `POST /v1/miner/jobs/{id}/artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Uploaded {
    /// What was stored.
    pub items: Vec<StoredArtifact>,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct StoredArtifact {
    /// Its number within the job, from 1: the `{n}` of `GET /v1/jobs/{id}/artifacts/{n}`.
    pub artifact_id: i64,
    /// Its path.
    pub path: RelativePath,
    /// Its hash.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
}

/// Body of `POST /v1/miner/drain` and `POST /v1/admin/miners/{id}/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Drain {
    /// Which miner; a key that is bound to one miner need not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miner_id: Option<Name>,
    /// Whether it shall get no more jobs.
    pub drain: bool,
}

/// Body of `POST /v1/miner/key`: replaces the key that signs receipts.
///
/// `sig` is by the old key, over [`crate::signing::key_rotation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeyRotation {
    /// Which miner.
    pub miner_id: Name,
    /// The new public key, base64url without padding.
    pub pubkey: String,
    /// When the rotation was signed; refused when over five minutes away from now.
    pub signed_at: Timestamp,
    /// The old key's signature; an admin may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

/// Reply of `POST /v1/miner/key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeyInForce {
    /// The miner.
    pub miner_id: Name,
    /// The key that now signs its receipts, base64url without padding.
    pub pubkey: String,
}

/// Reply of `POST /v1/miner/drain` and `POST /v1/admin/miners/{id}/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Drained {
    /// The miner.
    pub miner_id: Name,
    /// Whether it gets no more jobs.
    pub drain: bool,
}
