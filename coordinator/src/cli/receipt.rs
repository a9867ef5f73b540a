//! `coordinator receipt`: anybody can check one, without settings and without a network.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::Receipt;

use super::{Failure, failed, read, say, say_json};

/// The largest receipt that is read.
const MAX_RECEIPT_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a receipt's form, arithmetic and signatures; exit code 1 if it is not good
    Verify {
        /// The receipt (JSON); `-` reads standard input
        file: PathBuf,
        /// The coordinator's public key, as /v1/keys states it: it must have attested the receipt
        // base64url: one key in 64 begins with a hyphen.
        #[arg(long, value_name = "KEY_ID", allow_hyphen_values = true)]
        coordinator_key: Option<String>,
    },
}

impl Command {
    pub(super) fn run(self, json: bool) -> Result<(), Failure> {
        let Self::Verify { file, coordinator_key } = self;
        verify(&file, coordinator_key.as_deref(), json)
    }
}

fn verify(file: &Path, coordinator_key: Option<&str>, json: bool) -> Result<(), Failure> {
    let receipt = Receipt::from_text(&read(file, MAX_RECEIPT_BYTES)?)
        .map_err(|error| failed(format!("{}: {error}", file.display())))?;
    receipt.verify().map_err(failed)?;
    if let Some(key) = coordinator_key
        && !receipt.attestations.iter().any(|attestation| attestation.key_id == key)
    {
        return Err(failed("no attestation is by that coordinator key"));
    }
    if json {
        let signed_by = receipt.signature.as_ref().map(|signature| signature.key_id.as_str());
        return say_json(&serde_json::json!({
            "valid": true,
            "receipt_id": receipt.receipt_id,
            "receipt_sha256": receipt.hash(),
            "signed_by": signed_by,
            "attested_by": receipt.attestations.iter().map(|by| &by.key_id).collect::<Vec<_>>(),
        }));
    }
    say(&format!("valid: {} of job {}", receipt.receipt_id, receipt.job_id));
    say(&format!(
        "{} {} x {} = {} AITBC to {}",
        receipt.units, receipt.unit_type, receipt.unit_price, receipt.price, receipt.wallet
    ));
    match &receipt.signature {
        Some(signature) => say(&format!("signed by {} ({})", receipt.provider, signature.key_id)),
        None => say("not signed by the miner"),
    }
    for attestation in &receipt.attestations {
        say(&format!("attested by {}", attestation.key_id));
    }
    Ok(())
}
