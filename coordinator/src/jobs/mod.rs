//! Jobs: what is kept of one, and how it becomes the job that a miner gets.

pub mod admin_routes;
pub mod lease_routes;
pub mod listing;
pub mod routes;
pub mod store;

use protocol::job::{
    ArtifactRule, Input, Lease, Limits, ManifestSignature, Price, Requirements, Runner, SlotKind,
};
use protocol::{Job, JobId, Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The part of a job that never changes: what `job_specs` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What kind of work it is.
    pub workload: Name,
    /// Which runner.
    pub runner: Runner,
    /// Parameters of the workload.
    pub params: Map<String, Value>,
    /// Program of a `cli` job.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub input: Input,
    /// What it may use.
    pub limits: Limits,
    /// What the node must have.
    pub requirements: Requirements,
    /// On which kind of slot it runs.
    pub slot: SlotKind,
    /// The files it must leave behind.
    pub artifacts: Vec<ArtifactRule>,
    /// What it pays.
    pub price: Price,
    /// How soon it leaves the queue, 0 to 9.
    #[serde(default)]
    pub priority: u8,
    /// Who submitted it.
    pub client: Name,
    /// When.
    pub created_at: Timestamp,
    /// When it lapses if nobody takes it.
    pub expires_at: Timestamp,
    /// The client's signature.
    pub manifest_sig: Option<ManifestSignature>,
}

impl Spec {
    /// The job as it is handed out. Nothing internal leaves.
    pub fn into_job(self, id: JobId, attempt: u32, lease: Lease) -> Job {
        Job {
            id,
            workload: self.workload,
            runner: self.runner,
            params: self.params,
            command: self.command,
            args: self.args,
            input: self.input,
            limits: self.limits,
            requirements: self.requirements,
            slot: self.slot,
            artifacts: self.artifacts,
            price: self.price,
            priority: self.priority,
            attempt,
            lease,
            client: self.client,
            created_at: self.created_at,
            expires_at: self.expires_at,
            manifest_sig: self.manifest_sig,
        }
    }

    /// How many devices work at once: what a second of run time is multiplied by.
    pub fn devices(&self) -> u32 {
        match self.slot {
            SlotKind::Gpu => 1,
            SlotKind::Cpu => self.requirements.cpu_threads.unwrap_or(1).max(1),
        }
    }
}
