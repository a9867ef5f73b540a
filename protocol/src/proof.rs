//! Proof: what a miner says it did, and what it is credited.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::Amount;
use crate::hash::Sha256Hex;
use crate::id::{JobId, LeaseToken, RelativePath};
use crate::job::SlotKind;
use crate::receipt::Receipt;
use crate::time::Timestamp;

/// Body of `POST /v1/miner/proof`; the seed's script sends `id`, `mode`, `output_sha`, `metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Proof {
    /// The job; text, because the reply to an unknown id is 404 and not a complaint about its form.
    pub id: String,
    /// On what it really ran.
    pub mode: SlotKind,
    /// SHA-256 of the output.
    pub output_sha: Sha256Hex,
    /// Measurements, by name.
    #[serde(default)]
    pub metrics: Map<String, Value>,
    /// The lease; absent from nodes that never registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<LeaseToken>,
    /// When the program started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The output itself, where it is small text (at most 1 MiB); its hash must be `output_sha`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The files that were uploaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactProof>,
    /// The receipt, signed by the miner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// A file that belongs to the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ArtifactProof {
    /// Its path in the work directory.
    pub path: RelativePath,
    /// Its hash.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
}

/// Reply of `POST /v1/miner/proof`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Credited {
    /// Always `accepted`.
    pub status: String,
    /// The job.
    pub job_id: JobId,
    /// The receipt, attested by the coordinator.
    pub receipt: Receipt,
    /// What the wallet got, in AITBC: the receipt's price, less the fee, and the bonus.
    pub credited: Amount,
    /// What the operator kept of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Amount>,
    /// What the operator added for efficient work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bonus: Option<Amount>,
    /// The wallet's balance after it, in AITBC.
    pub balance: Amount,
    /// The ledger transfer that paid it.
    pub transfer_id: String,
}

/// The SHA-256 of the canonical list of artifacts: the `artifacts_root` of a receipt.
///
/// The list is sorted by path; each element is `{"bytes":..,"path":..,"sha256":..}`.
pub fn artifacts_root(artifacts: &[ArtifactProof]) -> Sha256Hex {
    let mut sorted: Vec<&ArtifactProof> = artifacts.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let list = sorted
        .into_iter()
        .map(|artifact| {
            serde_json::json!({
                "bytes": artifact.bytes,
                "path": artifact.path.as_str(),
                "sha256": artifact.sha256.to_string(),
            })
        })
        .collect();
    Sha256Hex::of(crate::canonical::to_string(&Value::Array(list)).as_bytes())
}
