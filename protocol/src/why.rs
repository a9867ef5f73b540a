//! Why a job waits, why a miner idles, why a payout is missing: the answers, with numbers.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{JobId, Name};
use crate::job::JobState;

/// What stands between jobs and miners, one reason per kind of requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Reason {
    /// Which requirement: `workload`, `runner`, `command`, `slot`, `gpu`, `vram_mb`, `ram_mb`,
    /// `disk_mb`, `cpu_threads`, `max_runtime_s`, `cuda`, `model`, `region`, `network`, `price`;
    /// or what else is in the way: `offline`, `drain`, `busy`, `excluded`, `paused`, `retry`.
    pub requirement: String,
    /// How many it stops first: miners where a job asks, jobs where a miner asks.
    pub count: u64,
    /// What is needed, in the requirement's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// The nearest to it that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
    /// A sentence for people, with these numbers.
    pub message: String,
}

/// Who could run a job, and what keeps the others from it. Every miner online is either `free` or
/// counted by one reason other than `offline`; those that are `able` and not `free` are counted by
/// `busy`, `retry` or `paused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Reach {
    /// Miners that were heard of lately.
    pub online: u64,
    /// Those of them that can run the job.
    pub able: u64,
    /// Those of them that could start it now.
    pub free: u64,
    /// What keeps the others from it, by how many it keeps, most first.
    pub reasons: Vec<Reason>,
}

/// Reply of `GET /v1/jobs/{id}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobWhy {
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The answer in a sentence.
    pub summary: String,
    /// How many jobs leave the queue before it, of those that its miners can run; while it waits.
    /// Counted up to 100,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// Who could run it; while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// What became of each attempt and its pay: for a miner its own, for others all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptWhy>,
}

/// What became of one attempt, and why it was paid or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AttemptWhy {
    /// The lease's number.
    pub fence: i64,
    /// Who had it.
    pub miner_id: Name,
    /// Whether it was paid.
    pub paid: bool,
    /// What its wallet was credited, in AITBC: the price less the operator's fee, and the bonus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<Name>,
    /// The failure code with which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// A sentence for people.
    pub message: String,
}

/// Reply of `GET /v1/miners/{id}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MinerWhy {
    /// The miner.
    pub miner_id: Name,
    /// The answer in a sentence.
    pub summary: String,
    /// Jobs in the queue that nobody holds.
    pub queued: u64,
    /// Those of them that it could run.
    pub able: u64,
    /// Jobs that it holds.
    pub inflight: u64,
    /// What keeps it from the others, by how many jobs it keeps, most first. `busy`, `offline` and
    /// `paused` count jobs that it could run.
    pub reasons: Vec<Reason>,
}
