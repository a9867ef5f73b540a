//! The verdict: (lease, job, proof, uploads, now) to what is paid, or why not. Pure.
//!
//! The miner is a stranger: its numbers are evidence. The price is the job's, the units at most
//! what the coordinator can vouch for itself.

use std::collections::HashMap;
use std::time::Duration;

use protocol::id::RelativePath;
use protocol::job::UnitType;
use protocol::proof::artifacts_root;
use protocol::{Amount, ErrorCode, Name, Proof, Receipt, Sha256Hex, Timestamp, Units, canonical};
use serde_json::{Map, Value};

use crate::dispatch::store::{Holder, LeaseRow};
use crate::error::ApiError;
use crate::jobs::Spec;

/// How far a miner's clock may be ahead of ours, in seconds.
const CLOCK_SKEW_SECS: i64 = 300;

/// What there is to judge.
#[derive(Debug)]
pub struct Case<'a> {
    /// The job in the queue.
    pub row: &'a LeaseRow,
    /// Whose lease it is.
    pub holder: &'a Holder,
    /// The job.
    pub spec: &'a Spec,
    /// What was set aside of a prepaid client's funds.
    pub hold: Option<Amount>,
    /// What was uploaded under this lease.
    pub uploads: &'a HashMap<RelativePath, Upload>,
    /// What the miner says.
    pub proof: &'a Proof,
    /// The coordinator's clock.
    pub now: Timestamp,
}

/// An uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Its hash, as the coordinator computed it.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
}

/// What is paid: for how much, and at what price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How much was done.
    pub units: Units,
    /// What it pays, in AITBC.
    pub price: Amount,
}

/// Judges a proof whose receipt, if any, already verified.
///
/// # Errors
/// The first reason not to pay.
pub fn judge(case: &Case<'_>) -> Result<Verdict, ApiError> {
    check_result(case.proof)?;
    check_artifacts(case)?;
    let ceiling = ceiling(case)?;
    let units = match &case.proof.receipt {
        Some(receipt) => {
            check_receipt(case, receipt)?;
            if receipt.units > ceiling {
                let message =
                    format!("{} units claimed, at most {ceiling} accepted", receipt.units);
                return Err(ApiError::new(ErrorCode::UnitsExceeded, message)
                    .with("max_units", ceiling.to_string()));
            }
            receipt.units
        }
        None => metric(&case.proof.metrics, case.spec.price.unit_type.as_str())
            .filter(|units| !units.is_negative())
            .unwrap_or(match case.spec.price.unit_type {
                UnitType::GpuSeconds | UnitType::CpuSeconds => ceiling,
                // What nobody counted is not paid.
                UnitType::Tokens | UnitType::Fuel => Units::ZERO,
            })
            .min(ceiling),
    };
    let price = units
        .price(case.spec.price.unit_price)
        .ok_or_else(|| ApiError::field("receipt.units", "is out of range"))?;
    Ok(Verdict { units, price })
}

/// The receipt that the coordinator writes where the miner signed none.
pub fn receipt(case: &Case<'_>, verdict: Verdict, receipt_id: Name, nonce: String) -> Receipt {
    let spec = case.spec;
    let mut metadata = Map::new();
    metadata.insert("mode".to_owned(), case.proof.mode.as_str().into());
    metadata.insert("workload".to_owned(), spec.workload.as_str().into());
    Receipt {
        version: protocol::receipt::VERSION.to_owned(),
        receipt_id,
        job_id: case.row.job_id.to_string(),
        provider: case.holder.miner_id.clone(),
        client: spec.client.clone(),
        wallet: case.holder.wallet.clone(),
        status: "COMPLETED".to_owned(),
        units: verdict.units,
        unit_type: spec.price.unit_type,
        unit_price: spec.price.unit_price,
        price: verdict.price,
        model: None,
        prompt_hash: None,
        started_at: case.holder.leased_at,
        completed_at: case.now.max(case.holder.leased_at),
        duration_ms: None,
        artifact_hash: Some(format!("sha256:{}", case.proof.output_sha)),
        artifacts_root: root(case.proof),
        fence: Some(case.row.fence),
        isolation: None,
        energy_j: None,
        coordinator_id: None,
        nonce,
        chain_id: None,
        metadata,
        signature: None,
        attestations: Vec::new(),
    }
}

fn root(proof: &Proof) -> Option<String> {
    let some = !proof.artifacts.is_empty();
    some.then(|| format!("sha256:{}", artifacts_root(&proof.artifacts)))
}

/// An output that came along must have the hash that is stated: text as it is, anything else in
/// canonical form.
fn check_result(proof: &Proof) -> Result<(), ApiError> {
    let hash = match &proof.result {
        None => return Ok(()),
        Some(Value::String(text)) => Sha256Hex::of(text.as_bytes()),
        Some(value) => Sha256Hex::of(canonical::to_string(value).as_bytes()),
    };
    if hash == proof.output_sha {
        return Ok(());
    }
    let message = "output_sha is not the hash of result";
    Err(ApiError::new(ErrorCode::HashMismatch, message).with("actual", hash.to_string()))
}

/// Every file of the proof was uploaded under this lease and is what it was; every file that the
/// job declared is there.
fn check_artifacts(case: &Case<'_>) -> Result<(), ApiError> {
    for stated in &case.proof.artifacts {
        let upload = case.uploads.get(&stated.path).ok_or_else(|| {
            ApiError::field("artifacts", format!("{} was not uploaded", stated.path))
        })?;
        if upload.sha256 != stated.sha256 || upload.bytes != stated.bytes {
            let message = format!("{} was uploaded with another content", stated.path);
            return Err(ApiError::new(ErrorCode::HashMismatch, message)
                .with("actual", upload.sha256.to_string()));
        }
    }
    let has = |path: &RelativePath| case.proof.artifacts.iter().any(|stated| stated.path == *path);
    match case.spec.artifacts.iter().find(|rule| !has(&rule.path)) {
        None => Ok(()),
        Some(rule) => {
            let message = format!("{}, which the job declares, is missing", rule.path);
            Err(ApiError::field("artifacts", message))
        }
    }
}

/// The most that the coordinator can vouch for: by its own clock for seconds, by the job's limits
/// for what it cannot see; and never beyond the client's `max_price`.
fn ceiling(case: &Case<'_>) -> Result<Units, ApiError> {
    let spec = case.spec;
    let limits = &spec.limits;
    let seen = match spec.price.unit_type {
        UnitType::GpuSeconds | UnitType::CpuSeconds => {
            // A result may come late; the work took no longer than the job may run.
            let runtime = u64::from(limits.max_runtime_s.unwrap_or(u32::MAX));
            let elapsed = case.now.since(case.holder.leased_at).min(Duration::from_secs(runtime));
            i64::try_from(elapsed.as_micros())
                .ok()
                .and_then(Units::from_micros)
                .and_then(|units| units.checked_times(spec.devices()))
        }
        UnitType::Tokens => Units::from_whole(i64::from(limits.max_tokens.unwrap_or(0))),
        UnitType::Fuel => {
            i64::try_from(limits.max_fuel.unwrap_or(0)).ok().and_then(Units::from_whole)
        }
    };
    let seen = seen.unwrap_or(Units::MAX);
    let most = match (spec.price.max_price, case.hold) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Ok(most.and_then(|most| affordable(most, spec.price.unit_price)).map_or(seen, |u| u.min(seen)))
}

/// The most units whose price is at most `most`; `None` where any number is.
fn affordable(most: Amount, unit_price: Amount) -> Option<Units> {
    if unit_price.nanos() <= 0 {
        return None;
    }
    // floor(units x price / 10^9) <= most  <=>  units < (most + 1) x 10^9 / price
    let bound = (i128::from(most.nanos()) + 1) * 1_000_000_000 - 1;
    i64::try_from(bound / i128::from(unit_price.nanos())).ok().map(Units::from_nanos)
}

/// One of the metrics; digits as they stand, no arithmetic. `None` where it is no plain number.
pub fn metric(metrics: &Map<String, Value>, name: &str) -> Option<Units> {
    match metrics.get(name)? {
        Value::Number(number) => {
            let text = number.to_string();
            // An exponent is written below 10^-5, where nothing was done, and above 10^16.
            if let Some((_, exponent)) = text.split_once('e') {
                return exponent.starts_with('-').then_some(Units::ZERO);
            }
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
            // More than nine digits of a measurement are cut, not refused.
            let fraction = &fraction[..fraction.len().min(9)];
            format!("{whole}.{fraction}").parse().ok()
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The receipt must be the registered miner's own, and state this job and its price.
fn check_receipt(case: &Case<'_>, receipt: &Receipt) -> Result<(), ApiError> {
    let spec = case.spec;
    let bad = |message: String| Err(ApiError::new(ErrorCode::BadSignature, message));
    let signer = receipt.signature.as_ref().map(|signature| signature.key_id.as_str());
    if case.holder.pubkey.is_none() {
        return bad("the miner has no registered key".to_owned());
    }
    if signer != case.holder.pubkey.as_deref() {
        return bad("the receipt is not signed with the miner's registered key".to_owned());
    }
    if !receipt.attestations.is_empty() {
        return bad("a miner's receipt carries no attestation".to_owned());
    }
    let output = format!("sha256:{}", case.proof.output_sha);
    let facts = [
        ("job_id", receipt.job_id == case.row.job_id.to_string()),
        ("provider", receipt.provider == case.holder.miner_id),
        ("client", receipt.client == spec.client),
        ("wallet", receipt.wallet == case.holder.wallet),
        ("unit_type", receipt.unit_type == spec.price.unit_type),
        ("unit_price", receipt.unit_price == spec.price.unit_price),
        ("fence", receipt.fence.is_none_or(|fence| fence == case.row.fence)),
        ("artifact_hash", receipt.artifact_hash.as_ref().is_none_or(|hash| *hash == output)),
        ("artifacts_root", receipt.artifacts_root == root(case.proof)),
        ("completed_at", receipt.completed_at <= case.now.plus_secs(CLOCK_SKEW_SECS)),
    ];
    match facts.into_iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((field, _)) => Err(ApiError::new(
            ErrorCode::BadSignature,
            format!("the receipt's {field} is not this job's"),
        )
        .with("field", format!("receipt.{field}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_measurement_is_its_digits() {
        for (metrics, units) in [
            (json!({"cpu_seconds": 11.846}), Some("11.846")),
            (json!({"cpu_seconds": 3}), Some("3")),
            (json!({"cpu_seconds": "0.5"}), Some("0.5")),
            (json!({"cpu_seconds": 1.234_567_891_2}), Some("1.234567891")),
            (json!({"cpu_seconds": 1e-7}), Some("0")),
            (json!({"cpu_seconds": 1.123_456_789_1e-7}), Some("0")),
            (json!({"cpu_seconds": 1.123_456_789_1e300}), None),
            (json!({"cpu_seconds": true}), None),
            (json!({}), None),
        ] {
            let expected = units.map(|units| units.parse().unwrap());
            let metrics = metrics.as_object().unwrap();
            assert_eq!(metric(metrics, "cpu_seconds"), expected, "{metrics:?}");
        }
    }
}
