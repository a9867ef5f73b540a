//! What an operator is shown: the state of the whole coordinator, its jobs and its miners.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::client::JobView;
use crate::control::ClientShare;
use crate::id::Name;
use crate::miner::{MinerCapabilities, Reputation};
use crate::time::Timestamp;

/// Reply of `GET /v1/admin/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Stats {
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// Jobs that have not ended, by state.
    pub live_jobs: BTreeMap<String, u64>,
    /// Jobs submitted in the last 24 hours, by how they ended; `LIVE` have not.
    pub last_day: BTreeMap<String, u64>,
    /// Miners.
    pub miners: MinerCounts,
    /// What was credited without being paid in, since the beginning, in AITBC.
    pub issued: Amount,
    /// What each client has in the queue and got lately: the 100 with most live jobs, or most
    /// starts.
    pub clients: Vec<ClientShare>,
}

/// How many miners there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MinerCounts {
    /// Known at all.
    pub known: u64,
    /// Heard of lately.
    pub online: u64,
    /// Of those known, the ones that get no more jobs.
    pub draining: u64,
}

/// A job as an operator sees it: with its client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AdminJob {
    /// Whose it is.
    pub client: Name,
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
}

/// A miner as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AdminMiner {
    /// Its label.
    pub miner_id: Name,
    /// The wallet that is credited.
    pub wallet: Name,
    /// What it is up to.
    pub status: Availability,
    /// False: known by its heartbeats only.
    pub registered: bool,
    /// Whether it gets no more jobs.
    pub drain: bool,
    /// It reported that its GPU is gone.
    pub gpu_lost: bool,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Timestamp>,
    /// What it last reported.
    pub report: Map<String, Value>,
    /// What it offers.
    pub capabilities: MinerCapabilities,
    /// Jobs that it holds.
    pub inflight: u64,
    /// Attempts that ended with an accepted proof.
    pub jobs_completed: u64,
    /// Attempts that failed, or whose lease lapsed.
    pub jobs_failed: u64,
    /// How it has done so far.
    pub reputation: Reputation,
    /// When it was first heard of.
    pub created_at: Timestamp,
}

/// Reply of `DELETE /v1/admin/miners/{id}`: the name is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Released {
    /// The name that is free.
    pub miner_id: Name,
    /// What whoever had it is called from now on.
    pub renamed: Name,
}

/// What a miner is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Availability {
    /// Silent.
    Offline,
    /// Gets no more jobs.
    Draining,
    /// Holds as many jobs as it runs at once.
    Busy,
    /// Takes jobs.
    Online,
}
