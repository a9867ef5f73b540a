//! Making and signing the receipt of a finished job. Pure; the format is `protocol::receipt`.

use ed25519_dalek::SigningKey;
use protocol::job::UnitType;
use protocol::proof::artifacts_root;
use protocol::receipt::VERSION;
use protocol::{Job, Name, Receipt, Timestamp, Units};
use serde_json::Map;

use crate::workdir::RunRecord;

/// Who signs, and what makes this receipt differ from every other one.
#[derive(Debug)]
pub struct Signer<'a> {
    /// The miner.
    pub miner: &'a Name,
    /// The wallet that is credited.
    pub wallet: &'a Name,
    /// The miner's key.
    pub key: &'a SigningKey,
    /// Random bits.
    pub nonce: u128,
}

/// The receipt of `run`, signed; `None` where what the job is paid by was not counted or cannot be
/// stated. Such a proof goes without, and the coordinator attests alone.
pub fn receipt(job: &Job, run: &RunRecord, signer: &Signer<'_>) -> Option<Receipt> {
    let units = units(job, run)?;
    let price = units.price(job.price.unit_price)?;
    let metadata = Map::from_iter([
        ("mode".to_owned(), run.mode.as_str().into()),
        ("runner".to_owned(), job.runner.kind.as_str().into()),
        ("workload".to_owned(), job.workload.as_str().into()),
    ]);
    let receipt = Receipt {
        version: VERSION.to_owned(),
        receipt_id: format!("rcpt-{}-{}", job.id, job.lease.fence).parse().ok()?,
        job_id: job.id.to_string(),
        provider: signer.miner.clone(),
        client: job.client.clone(),
        wallet: signer.wallet.clone(),
        status: "COMPLETED".to_owned(),
        units,
        unit_type: job.price.unit_type,
        unit_price: job.price.unit_price,
        price,
        model: run.model.clone(),
        prompt_hash: None,
        started_at: run.started_at,
        completed_at: completed_at(run),
        duration_ms: Some(run.wall_micros / 1_000),
        artifact_hash: Some(format!("sha256:{}", run.output_sha)),
        artifacts_root: (!run.artifacts.is_empty())
            .then(|| format!("sha256:{}", artifacts_root(&run.artifacts))),
        fence: Some(job.lease.fence),
        isolation: Some(run.isolation.clone()),
        energy_j: run.joules.map(|joules| joules.max(0.0).round() as u64),
        coordinator_id: None,
        nonce: format!("{:032x}", signer.nonce),
        chain_id: None,
        metadata,
        signature: None,
        attestations: Vec::new(),
    };
    Some(receipt.signed(signer.key))
}

/// When the program ended.
pub fn completed_at(run: &RunRecord) -> Timestamp {
    run.started_at.plus(std::time::Duration::from_micros(run.wall_micros))
}

/// The same receipt over at most `most` units, signed again; `None` where it claims no more.
pub fn lowered(receipt: &Receipt, most: Units, key: &SigningKey) -> Option<Receipt> {
    if most >= receipt.units || most.is_negative() {
        return None;
    }
    let price = most.price(receipt.unit_price)?;
    let lowered = Receipt { units: most, price, signature: None, ..receipt.clone() };
    Some(lowered.signed(key))
}

/// Tokens; or seconds, to the millisecond, times the devices that the job asked for.
fn units(job: &Job, run: &RunRecord) -> Option<Units> {
    let devices = match job.price.unit_type {
        UnitType::GpuSeconds => 1,
        UnitType::CpuSeconds => job.requirements.cpu_threads.unwrap_or(1).max(1),
        UnitType::Tokens => {
            // The server counted; what the job did not ask for is not claimed.
            let most = u64::from(job.limits.max_tokens.unwrap_or(u32::MAX));
            return Units::from_whole(i64::try_from(run.tokens?.min(most)).ok()?);
        }
        UnitType::Fuel => return Units::from_whole(i64::try_from(run.fuel?).ok()?),
    };
    let whole_millis = run.wall_micros - run.wall_micros % 1_000;
    Units::from_micros(i64::try_from(whole_millis).ok()?)?.checked_times(devices)
}

#[cfg(test)]
mod tests {
    use protocol::job::SlotKind;
    use protocol::signing::key_id;
    use protocol::{Amount, Sha256Hex};

    use super::*;
    use crate::runners::tests::job;

    fn run() -> RunRecord {
        RunRecord {
            mode: SlotKind::Gpu,
            isolation: "bwrap".to_owned(),
            started_at: "2026-01-24T00:00:00Z".parse().unwrap(),
            wall_micros: 11_846_999,
            cpu_micros: 1,
            max_rss_bytes: 1,
            written_bytes: 0,
            vram_bytes: None,
            joules: Some(41.7),
            egress_bytes: None,
            output_sha: Sha256Hex::of(b"hello world\n"),
            artifacts: Vec::new(),
            fuel: Some(1_234_567_890),
            tokens: None,
            model: None,
            measured: Map::new(),
        }
    }

    fn sign(job: &Job) -> Receipt {
        let key = SigningKey::from_bytes(&[7; 32]);
        let (miner, wallet) = ("m".parse().unwrap(), "w".parse().unwrap());
        receipt(job, &run(), &Signer { miner: &miner, wallet: &wallet, key: &key, nonce: 5 })
            .unwrap()
    }

    #[test]
    fn the_published_example_is_paid_exactly() {
        let mut job = job("llm_gen");
        job.price.unit_type = UnitType::GpuSeconds;
        job.price.unit_price = "0.02".parse().unwrap();
        let receipt = sign(&job);
        assert_eq!(
            (receipt.units.to_string(), receipt.price.to_string()),
            ("11.846".into(), "0.23692".into())
        );
        assert_eq!((receipt.duration_ms, receipt.energy_j), (Some(11_846), Some(42)));
        assert_eq!(receipt.verify(), Ok(()));
        let key = SigningKey::from_bytes(&[7; 32]);
        assert_eq!(receipt.signature.unwrap().key_id, key_id(&key.verifying_key()));
    }

    #[test]
    fn processor_seconds_count_the_threads_asked_for() {
        let mut job = job("hash");
        job.requirements.cpu_threads = Some(4);
        assert_eq!(sign(&job).units.to_string(), "47.384");
    }

    #[test]
    fn a_lowered_claim_verifies_and_is_never_a_raised_one() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let receipt = sign(&job("hash"));
        let lower = lowered(&receipt, "3".parse().unwrap(), &key).unwrap();
        assert_eq!(lower.verify(), Ok(()));
        assert_eq!(lower.units.to_string(), "3");
        assert!(lower.price < receipt.price && lower.price > Amount::ZERO);
        assert!(lowered(&receipt, "12".parse().unwrap(), &key).is_none());
        assert!(lowered(&receipt, "-1".parse().unwrap(), &key).is_none());
    }

    #[test]
    fn fuel_is_paid_by_the_unit() {
        let mut job = job("wasm");
        job.price.unit_type = UnitType::Fuel;
        job.price.unit_price = "0.000000001".parse().unwrap();
        let receipt = sign(&job);
        assert_eq!(receipt.units.to_string(), "1234567890");
        assert_eq!(receipt.price.to_string(), "1.23456789");
        assert_eq!(units(&job, &RunRecord { fuel: None, ..run() }), None);
    }

    #[test]
    fn tokens_are_paid_up_to_what_was_asked_for() {
        let mut job = job("llm_gen");
        job.price.unit_type = UnitType::Tokens;
        let counted = RunRecord { tokens: Some(200), ..run() };
        assert_eq!(units(&job, &counted).unwrap().to_string(), "200");
        job.limits.max_tokens = Some(150);
        assert_eq!(units(&job, &counted).unwrap().to_string(), "150");
    }

    #[test]
    fn what_nobody_counted_has_no_receipt_of_ours() {
        let mut job = job("hash");
        job.price.unit_type = UnitType::Tokens;
        assert_eq!(units(&job, &run()), None);
    }
}
