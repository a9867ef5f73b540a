//! What a client says and is answered: submit, follow, result.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::error::ErrorDetail;
use crate::hash::Sha256Hex;
use crate::id::{JobId, Name, RelativePath};
use crate::job::{
    ArtifactRule, Input, JobState, Limits, ManifestSignature, Price, Runner, UnitType,
};
use crate::miner::StoredArtifact;
use crate::time::Timestamp;
use crate::why::Reach;

/// Body of `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// What kind of work it is, for example `torch_bench`; with a `command`, `cli` unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Name>,
    /// Which runner; with a `command` `cli`, else the workload's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
    /// Parameters of the workload.
    #[serde(default, alias = "payload", skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Program of a `cli` job: a name from the nodes' allowlists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the job reads; files by the hash under which they were uploaded.
    #[serde(default)]
    pub input: Input,
    /// The files that it must leave behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactRule>,
    /// Which nodes may take it.
    #[serde(default)]
    pub constraints: Constraints,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// 0 (default) to 9; higher leaves the queue first.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(range(max = 9)))]
    pub priority: u8,
    /// How long it may wait for a miner, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// How often it is tried, 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = 10)))]
    pub max_attempts: Option<u32>,
    /// Refuse with `NO_ELIGIBLE_MINER` rather than wait where nobody can run it now.
    #[serde(default)]
    pub require_now: bool,
    /// A signature over the manifest, for nodes that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sig: Option<ManifestSignature>,
}

/// Which nodes may take a job, and what it may cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// A GPU.
    #[serde(default)]
    pub gpu: bool,
    /// At least this CUDA version, as `major.minor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// At least this much GPU memory, in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_vram_gb: Option<u32>,
    /// At least this many processor threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_threads: Option<u32>,
    /// All of these models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Name>,
    /// This WebAssembly engine, for example `wasmtime-36`: fuel differs from one to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Name>,
    /// This region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// The most that the job may cost, in AITBC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Amount>,
}

/// A job as its client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobView {
    /// The job.
    pub job_id: JobId,
    /// What kind of work it is.
    pub workload: Name,
    /// Where it stands.
    pub state: JobState,
    /// Which chargeable try this is, from 1.
    pub attempt: u32,
    /// What the node last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// 0 to 9.
    pub priority: u8,
    /// What it pays.
    pub price: Price,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When the current or last attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When it lapses if nobody takes it.
    pub expires_at: Timestamp,
    /// Who works or worked on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miner_id: Option<Name>,
    /// Why it failed, or why its last attempt did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Whether `GET /v1/jobs/{id}/result` answers 200.
    pub result_available: bool,
    /// Its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<StoredArtifact>,
    /// Its receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<Name>,
}

/// Reply of `POST /v1/jobs/{id}/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Canceled {
    /// The job.
    pub job_id: JobId,
    /// `CANCELED`.
    pub state: JobState,
}

/// What a node last said about a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ProgressView {
    /// Per cent done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pct: Option<u8>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobError {
    /// A failure code (`E_*`).
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The end of the log, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_tail: Option<String>,
    /// What the attempt used, as its node measured it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
}

/// Reply of `GET /v1/jobs/{id}/result`, once the job has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobResult {
    /// The job.
    pub job_id: JobId,
    /// How it ended.
    pub state: JobState,
    /// SHA-256 of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha: Option<Sha256Hex>,
    /// The output itself, where the miner sent it inline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Exit code of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Measurements.
    #[serde(default)]
    pub metrics: Map<String, Value>,
    /// Files.
    #[serde(default)]
    pub artifacts: Vec<StoredArtifact>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Reply of `POST /v1/jobs?dry_run=true`: what the job would cost, nothing stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Quote {
    /// What is counted.
    pub unit_type: UnitType,
    /// What one unit costs, in AITBC.
    pub unit_price: Amount,
    /// What would be held of a prepaid client's funds, in AITBC: the most that it can cost.
    pub hold: Amount,
    /// Who could run it now, and what keeps the others from it.
    pub why: Reach,
}

/// The most jobs of one batch.
pub const MAX_BATCH: usize = 1000;

/// Body of `POST /v1/jobs/batch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewBatch {
    /// 1 to 1000 jobs; each is parsed by itself, so that a bad one does not fail its
    /// neighbours.
    #[serde(deserialize_with = "batch_of_jobs")]
    #[cfg_attr(feature = "openapi", schemars(with = "Vec<NewJob>", length(min = 1, max = MAX_BATCH)))]
    pub jobs: Vec<Box<RawValue>>,
}

/// Stops at the first job too many: what was sent says how many there are only at its end.
fn batch_of_jobs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Box<RawValue>>, D::Error> {
    struct Jobs;

    impl<'de> Visitor<'de> for Jobs {
        type Value = Vec<Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "1 to {MAX_BATCH} jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while let Some(job) = seq.next_element()? {
                if jobs.len() == MAX_BATCH {
                    return Err(de::Error::invalid_length(MAX_BATCH + 1, &self));
                }
                jobs.push(job);
            }
            if jobs.is_empty() {
                return Err(de::Error::invalid_length(0, &self));
            }
            Ok(jobs)
        }
    }

    deserializer.deserialize_seq(Jobs)
}

/// Reply of `POST /v1/jobs/batch`: one outcome per job, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct BatchReply {
    /// The outcomes.
    pub items: Vec<BatchItem>,
}

/// The outcome of one job of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct BatchItem {
    /// The HTTP status that the job alone would have got.
    pub status: u16,
    /// The job, where it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobView>,
    /// Why not, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// Reply of `POST /v1/inputs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct StoredInput {
    /// The content's hash: the `sha256` of `input.files`.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
}

/// Reply of `GET /v1/jobs/{id}/artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ArtifactList {
    /// The files.
    pub items: Vec<StoredArtifact>,
}

/// A name that is also the file name of a download.
pub fn download_name(path: &RelativePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or("artifact")
}

/// Reply of `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Health {
    /// `ok`, or `unavailable` while the database is away or the coordinator goes down.
    pub status: String,
    /// The coordinator's version.
    pub version: String,
    /// The protocol version that it speaks.
    pub protocol: u32,
    /// The oldest that it serves.
    pub oldest_protocol: u32,
    /// Its clock.
    pub server_time: Timestamp,
}

/// Reply of `GET /v1/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PublicKeys {
    /// The keys that attest receipts.
    pub keys: Vec<PublicKey>,
}

/// A public key of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PublicKey {
    /// The key, base64url without padding; also the `key_id` of its signatures.
    pub key_id: String,
    /// Always `Ed25519`.
    pub alg: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_not_read_beyond_its_last_job() {
        let batch = |jobs: usize, rest: &str| {
            let text = format!("{{\"jobs\":[{}{rest}", vec!["{\"x\": 1e16}"; jobs].join(","));
            serde_json::from_str::<NewBatch>(&text)
        };
        let full = batch(MAX_BATCH, "]}").unwrap();
        assert_eq!(full.jobs.len(), MAX_BATCH);
        assert_eq!(full.jobs[0].get(), "{\"x\": 1e16}");
        // What comes after one too many is never looked at.
        assert!(batch(MAX_BATCH + 1, "!").unwrap_err().is_data());
        assert!(batch(MAX_BATCH, "!").unwrap_err().is_syntax());
        assert!(batch(0, "]}").unwrap_err().is_data());
    }
}
