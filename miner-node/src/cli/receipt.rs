//! `receipt verify`: checks a receipt offline and says what was checked.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use protocol::receipt::Receipt as Document;
use protocol::signing;

use super::{FAILED, answer, complain};

/// No receipt is longer.
const MAX_BYTES: u64 = 1 << 20;

/// What can be done with receipts.
#[derive(Debug, Subcommand)]
pub(super) enum Receipt {
    /// Check form, arithmetic and signatures without asking anybody
    Verify(Verify),
}

/// Checks a receipt.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The receipt, as JSON; `-` is standard input
    file: PathBuf,
    /// The public key that must have signed as the miner
    // base64url: one key in 64 begins with a hyphen.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    miner_key: Option<String>,
    /// The public key that must have attested as the coordinator (see its /v1/keys)
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    coordinator_key: Option<String>,
}

impl Receipt {
    pub(super) fn main(&self) -> ExitCode {
        let Self::Verify(verify) = self;
        match read(&verify.file).and_then(|text| verify.check(&text)) {
            Ok(checked) => answer(&format!("{}\n", checked.join("\n"))),
            Err(why) => complain(&format!("receipt is NOT valid: {why}"), FAILED),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    Ok(text)
}

impl Verify {
    /// What was checked, or the first thing that is wrong.
    fn check(&self, text: &str) -> Result<Vec<String>, String> {
        let receipt = Document::from_text(text).map_err(|error| error.to_string())?;
        receipt.verify().map_err(|error| error.to_string())?;
        let mut lines = content_lines(&receipt);
        lines.push(self.miner_line(&receipt)?);
        lines.extend(self.coordinator_lines(&receipt)?);
        lines.push(format!("valid {} sha256:{}", receipt.receipt_id, receipt.hash()));
        Ok(lines)
    }

    fn miner_line(&self, receipt: &Document) -> Result<String, String> {
        let signer = receipt.signature.as_ref().map(|signature| signature.key_id.as_str());
        match (pinned(self.miner_key.as_deref())?, signer) {
            (Some(_), None) => Err("it has no miner signature".to_owned()),
            (Some(wanted), Some(key)) if key != wanted => {
                Err(format!("signed by {key}, not by the miner key {wanted}"))
            }
            (Some(wanted), Some(_)) => {
                Ok(format!("ok    miner signature by {wanted}, the key given"))
            }
            (None, Some(key)) => Ok(format!(
                "ok    miner signature by {key}, the key it names (pin with --miner-key)"
            )),
            (None, None) => {
                Ok("note  no miner signature: attested by the coordinator alone".to_owned())
            }
        }
    }

    fn coordinator_lines(&self, receipt: &Document) -> Result<Vec<String>, String> {
        let keys = || receipt.attestations.iter().map(|attestation| attestation.key_id.as_str());
        match pinned(self.coordinator_key.as_deref())? {
            Some(wanted) if keys().any(|key| key == wanted) => {
                Ok(vec![format!("ok    coordinator attestation by {wanted}, the key given")])
            }
            Some(wanted) => Err(format!("not attested by the coordinator key {wanted}")),
            None if receipt.attestations.is_empty() => {
                Ok(vec!["note  no attestation: the coordinator has not confirmed it".to_owned()])
            }
            None => Ok(keys()
                .map(|key| {
                    format!(
                        "ok    attestation by {key}, the key it names (pin with --coordinator-key)"
                    )
                })
                .collect()),
        }
    }
}

/// A key that was given must be one: a slip must not read as "signed by somebody else".
fn pinned(key: Option<&str>) -> Result<Option<&str>, String> {
    match key {
        Some(text) => match signing::parse_key(text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(format!("{text:?}: {error}")),
        },
        None => Ok(None),
    }
}

fn content_lines(receipt: &Document) -> Vec<String> {
    vec![
        format!(
            "ok    form: version {}, {}, job {}",
            receipt.version, receipt.status, receipt.job_id
        ),
        format!("ok    times: {} to {}", receipt.started_at, receipt.completed_at),
        format!(
            "ok    price: {} {} x {} = {} {}, from {} to wallet {}",
            receipt.units,
            receipt.unit_type,
            receipt.unit_price,
            receipt.price,
            protocol::wallet::CURRENCY,
            receipt.client,
            receipt.wallet
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = include_str!("../../../protocol/vectors/receipt.json");
    const MINER: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const COORDINATOR: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

    fn check(
        text: &str,
        miner: Option<&str>,
        coordinator: Option<&str>,
    ) -> Result<Vec<String>, String> {
        let owned = |key: Option<&str>| key.map(str::to_owned);
        let file = PathBuf::from("-");
        Verify { file, miner_key: owned(miner), coordinator_key: owned(coordinator) }.check(text)
    }

    #[test]
    fn the_published_vector_is_valid() {
        assert_eq!(check(VECTOR, None, None).unwrap().len(), 6);
        assert_eq!(check(VECTOR, Some(MINER), Some(COORDINATOR)).unwrap().len(), 6);
    }

    #[test]
    fn every_changed_digit_or_letter_of_its_content_is_noticed() {
        let content = |c: char| c.is_ascii_alphanumeric();
        let places: Vec<_> = VECTOR.char_indices().filter(|(_, c)| content(*c)).collect();
        assert!(places.len() > 500);
        for (at, c) in places {
            let other = if c == 'x' { 'y' } else { 'x' };
            let changed = format!("{}{other}{}", &VECTOR[..at], &VECTOR[at + 1..]);
            assert!(check(&changed, None, None).is_err(), "byte {at}: {c} -> {other}");
        }
    }

    #[test]
    fn additions_are_refused() {
        let added = VECTOR.replacen('{', "{\"tip\": \"5\",", 1);
        assert!(check(&added, None, None).unwrap_err().contains("fields"));
        let twice = VECTOR.replacen('{', "{\"wallet\": \"thief\",", 1);
        assert!(check(&twice, None, None).is_err());
    }

    #[test]
    fn pinned_keys_must_be_the_ones() {
        assert!(
            check(VECTOR, Some(COORDINATOR), None).unwrap_err().contains("not by the miner key")
        );
        assert!(check(VECTOR, None, Some(MINER)).unwrap_err().contains("not attested"));
        assert!(check(VECTOR, Some("nonsense"), None).unwrap_err().contains("public key"));
    }
}
