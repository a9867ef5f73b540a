//! What the fleet calls: the miners' half of the URL table.

use protocol::Name;

/// Submits jobs.
pub(super) const SUBMIT: &str = "/v1/jobs/batch";

/// Announces a miner.
pub(super) const REGISTER: &str = "/v1/miner/register";

/// Gives a sign of life.
pub(super) const HEARTBEAT: &str = "/v1/miner/heartbeat";

/// Proves a job.
pub(super) const PROOF: &str = "/v1/miner/proof";

/// Asks for a job for one slot, and waits for it.
pub(super) fn next(miner: &Name, wait_secs: u32) -> String {
    format!("/v1/miner/next?miner={miner}&slots=1&wait={wait_secs}")
}
