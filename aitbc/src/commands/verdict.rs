//! Whether a receipt is good: pure, for the command that asks.

use protocol::Receipt;
use protocol::receipt::ReceiptError;
use protocol::wallet::CURRENCY;

/// Whose signatures a receipt must carry.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    /// It must be attested by one of these.
    pub coordinator: Vec<String>,
    /// It must be signed by this miner.
    pub miner: Option<String>,
    /// It must be about this job.
    pub job: Option<String>,
}

/// Why a receipt is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its form, its content or a signature is wrong.
    #[error("{0}")]
    Content(ReceiptError),
    /// It is about another job.
    #[error("it is about job {0}")]
    Job(String),
    /// The coordinator did not confirm it.
    #[error("it is not attested by {wanted}, but by {found}")]
    Attestor {
        /// Who should have.
        wanted: String,
        /// Who did.
        found: String,
    },
    /// Another miner signed it, or none.
    #[error("it is not signed by the miner key {wanted}, but by {found}")]
    Miner {
        /// Who should have.
        wanted: String,
        /// Who did.
        found: String,
    },
}

/// The receipt of a text, if it is good.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn judge(text: &str, signers: &Signers) -> Result<Receipt, Fault> {
    let receipt = Receipt::from_text(text).map_err(Fault::Content)?;
    receipt.verify().map_err(Fault::Content)?;
    if signers.job.as_ref().is_some_and(|job| *job != receipt.job_id) {
        return Err(Fault::Job(receipt.job_id));
    }
    check_signers(&receipt, signers)?;
    Ok(receipt)
}

fn check_signers(receipt: &Receipt, signers: &Signers) -> Result<(), Fault> {
    let or_nobody =
        |keys: Vec<&str>| if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") };
    let attestors: Vec<_> = receipt.attestations.iter().map(|by| by.key_id.as_str()).collect();
    if !signers.coordinator.iter().any(|key| attestors.contains(&key.as_str())) {
        let wanted = or_nobody(signers.coordinator.iter().map(String::as_str).collect());
        return Err(Fault::Attestor { wanted, found: or_nobody(attestors) });
    }
    let signer = receipt.signature.as_ref().map(|by| by.key_id.as_str());
    match &signers.miner {
        Some(wanted) if signer != Some(wanted) => {
            let found = or_nobody(signer.into_iter().collect());
            Err(Fault::Miner { wanted: wanted.clone(), found })
        }
        _ => Ok(()),
    }
}

/// What a good receipt says, in pairs.
pub fn summary(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let signer = match &receipt.signature {
        Some(by) => by.key_id.clone(),
        None => "nobody; the coordinator alone attests it".to_owned(),
    };
    let attestors: Vec<_> = receipt.attestations.iter().map(|by| by.key_id.as_str()).collect();
    vec![
        ("valid", receipt.receipt_id.to_string()),
        ("job", receipt.job_id.clone()),
        ("miner", receipt.provider.to_string()),
        ("client", receipt.client.to_string()),
        ("wallet", receipt.wallet.to_string()),
        (
            "price",
            format!(
                "{} {} x {} = {} {CURRENCY}",
                receipt.units, receipt.unit_type, receipt.unit_price, receipt.price
            ),
        ),
        ("times", format!("{} to {}", receipt.started_at, receipt.completed_at)),
        ("signed by", signer),
        ("attested by", attestors.join(", ")),
        ("sha256", receipt.hash().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = include_str!("../../../protocol/vectors/receipt.json");
    const MINER: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const COORDINATOR: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

    fn signers(coordinator: &str) -> Signers {
        Signers { coordinator: vec![coordinator.to_owned()], ..Signers::default() }
    }

    fn fault(text: &str, signers: &Signers) -> String {
        judge(text, signers).unwrap_err().to_string()
    }

    #[test]
    fn the_published_vector_is_good() {
        let wanted = Signers { miner: Some(MINER.to_owned()), ..signers(COORDINATOR) };
        let receipt = judge(VECTOR, &wanted).unwrap();
        let price = summary(&receipt).into_iter().find(|(name, _)| *name == "price").unwrap().1;
        assert_eq!(price, "11.846 gpu_seconds x 0.02 = 0.23692 AITBC");
    }

    #[test]
    fn each_fault_has_its_words() {
        let good = signers(COORDINATOR);
        for (text, words) in [
            ("{", "it is no receipt"),
            (&VECTOR.replacen('{', "{\"tip\": \"5\",", 1), "fields or spellings"),
            (&VECTOR.replace("0.23692", "0.3"), "price 0.3 is not floor"),
            (&VECTOR.replace("wallet_demo", "wallet_thief"), "miner signature"),
        ] {
            assert!(fault(text, &good).contains(words), "{words}");
        }
        assert_eq!(
            fault(VECTOR, &signers(MINER)),
            format!("it is not attested by {MINER}, but by {COORDINATOR}")
        );
        let other = Signers { miner: Some(COORDINATOR.to_owned()), ..good.clone() };
        assert!(fault(VECTOR, &other).contains(&format!("but by {MINER}")));
        let other = Signers { job: Some("job-2".to_owned()), ..good };
        assert_eq!(fault(VECTOR, &other), "it is about job job-vector-1");
        // Nobody's word is no word.
        assert!(fault(VECTOR, &Signers::default()).contains("not attested by nobody"));
    }
}
