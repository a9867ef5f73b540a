//! The content of `state.json`: how far a job has come, and what its run came to.

use std::time::Duration;

use protocol::job::SlotKind;
use protocol::proof::ArtifactProof;
use protocol::{Job, Sha256Hex, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sandbox::Usage;

/// How far a job has come on this node. A job of which there is no directory is `IDLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Leased.
    Pulling,
    /// Leased and acknowledged.
    Acked,
    /// Its input is being fetched.
    Prep,
    /// Its program runs.
    Running,
    /// The program has ended well; its files are being uploaded.
    Uploading,
    /// Its proof or failure report is on disk and has to be delivered.
    RetryWait,
    /// Proven and credited.
    Done,
    /// Failed, canceled or lost.
    Failed,
}

impl Phase {
    /// Whether the node has nothing more to do for the job.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// The content of `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// How far the job has come.
    pub phase: Phase,
    /// Since when.
    pub updated_at: Timestamp,
    /// The job, with its lease.
    pub job: Job,
    /// The finished run, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a proof is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// On what it ran.
    pub mode: SlotKind,
    /// The sandbox level that was in force.
    pub isolation: String,
    /// When the program started.
    pub started_at: Timestamp,
    /// How long it ran, in microseconds.
    pub wall_micros: u64,
    /// Processor time of all its processes, in microseconds.
    pub cpu_micros: u64,
    /// The most memory that it held, in bytes.
    pub max_rss_bytes: u64,
    /// What it wrote, in bytes.
    #[serde(default)]
    pub written_bytes: u64,
    /// The most GPU memory that it held, in bytes; absent: not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_bytes: Option<u64>,
    /// Energy, in joules; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Carried to and from the network, in bytes; absent: it had no way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes: Option<u64>,
    /// SHA-256 of `out.txt`.
    pub output_sha: Sha256Hex,
    /// The declared files.
    pub artifacts: Vec<ArtifactProof>,
    /// Fuel that was burnt, where it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Tokens that were generated, where that is what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The model that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What else was measured, by the names of a proof's metrics.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub measured: Map<String, Value>,
}

impl RunRecord {
    /// What it used.
    pub const fn usage(&self) -> Usage {
        Usage {
            wall: Duration::from_micros(self.wall_micros),
            cpu: Duration::from_micros(self.cpu_micros),
            max_rss_bytes: self.max_rss_bytes,
            written_bytes: self.written_bytes,
            vram_bytes: self.vram_bytes,
            joules: self.joules,
            egress_bytes: self.egress_bytes,
        }
    }
}
