//! Receipts: who did what for whom and at what price, signed so that anybody can check it offline.
//!
//! Source: the receipt specification 1.0 of the AITBC repository, as restated in `docs/protocol.md`.
//! The signature is Ed25519 over the canonical bytes themselves (not over their hash).

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::{Amount, Units};
use crate::canonical;
use crate::hash::Sha256Hex;
use crate::id::Name;
use crate::job::UnitType;
use crate::signing::{Signature, SignatureError};
use crate::time::Timestamp;

/// The version of this format.
pub const VERSION: &str = "1.0";

/// A receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// Always [`VERSION`].
    pub version: String,
    /// Its own id, chosen by the signer.
    pub receipt_id: Name,
    /// The job.
    pub job_id: String,
    /// The miner that did the work.
    pub provider: Name,
    /// The client that asked for it.
    pub client: Name,
    /// The wallet that is credited.
    pub wallet: Name,
    /// Always `COMPLETED`: only finished work has a receipt.
    pub status: String,
    /// How much was done.
    pub units: Units,
    /// Of what.
    pub unit_type: UnitType,
    /// What one unit pays, in AITBC.
    pub unit_price: Amount,
    /// `floor(units x unit_price)`, in AITBC.
    pub price: Amount,
    /// The model that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Hash of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_hash: Option<String>,
    /// When work started.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Timestamp,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `sha256:` and the hash of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_hash: Option<String>,
    /// [`crate::proof::artifacts_root`] of the uploaded files, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts_root: Option<String>,
    /// Which lease of the job this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// The sandbox level that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Energy used, in joules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<u64>,
    /// The coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator_id: Option<String>,
    /// Makes two receipts of equal content differ.
    pub nonce: String,
    /// The chain, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// More: integers and ASCII strings only.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The miner's signature; absent from a receipt that the coordinator attests alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Countersignatures; the first is the coordinator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Signature>,
}

/// Why a receipt is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It does not parse.
    #[error("it is no receipt: {0}")]
    Form(String),
    /// Something stands in it that no signature covers.
    #[error("it holds fields or spellings that receipts do not have")]
    Additions,
    /// `version` is another one.
    #[error("unknown receipt version {0:?}")]
    Version(String),
    /// `status` is not `COMPLETED`.
    #[error("receipt status {0:?} is not COMPLETED")]
    Status(String),
    /// Characters outside ASCII, or a metadata value that is neither integer nor string.
    #[error("receipts hold ASCII strings and integers only")]
    Content,
    /// It ended before it started.
    #[error("completed_at is before started_at")]
    Times,
    /// Negative units or prices.
    #[error("units and prices must not be negative")]
    Negative,
    /// The price is not the product.
    #[error("price {stated} is not floor(units x unit_price) = {expected}")]
    Price {
        /// What the receipt states.
        stated: Amount,
        /// What the rule gives.
        expected: Amount,
    },
    /// Nobody signed it.
    #[error("receipt carries no signature")]
    Unsigned,
    /// The miner's signature is wrong.
    #[error("miner signature: {0}")]
    Signature(SignatureError),
    /// A countersignature is wrong.
    #[error("attestation {index}: {error}")]
    Attestation {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: SignatureError,
    },
}

impl Receipt {
    /// The receipt of a text that holds nothing else: what no signature covers must not stand in a
    /// file that is called verified. Signatures are not checked here, see [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`ReceiptError::Form`] and [`ReceiptError::Additions`].
    pub fn from_text(text: &str) -> Result<Self, ReceiptError> {
        let form = |error: serde_json::Error| ReceiptError::Form(error.to_string());
        let receipt: Self = serde_json::from_str(text).map_err(form)?;
        let stated: Value = serde_json::from_str(text).map_err(form)?;
        let understood = serde_json::to_value(&receipt).map_err(form)?;
        if canonical::to_string(&stated) != canonical::to_string(&understood) {
            return Err(ReceiptError::Additions);
        }
        Ok(receipt)
    }

    /// The bytes that are signed: everything but the signatures, in canonical form.
    pub fn canonical(&self) -> String {
        // A struct of strings, integers and maps with string keys always becomes a value.
        let mut value = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("signature");
            fields.remove("attestations");
        }
        canonical::to_string(&value)
    }

    /// SHA-256 of the canonical bytes: no two credits share one.
    pub fn hash(&self) -> Sha256Hex {
        Sha256Hex::of(self.canonical().as_bytes())
    }

    /// Signs as the miner.
    #[must_use]
    pub fn signed(mut self, key: &SigningKey) -> Self {
        self.signature = Some(Signature::make(key, self.canonical().as_bytes()));
        self
    }

    /// Adds a countersignature over the same bytes.
    #[must_use]
    pub fn attested(self, key: &SigningKey) -> Self {
        let canonical = self.canonical();
        self.attested_over(&canonical, key)
    }

    /// The same, for whoever has the canonical bytes already.
    #[must_use]
    pub fn attested_over(mut self, canonical: &str, key: &SigningKey) -> Self {
        self.attestations.push(Signature::make(key, canonical.as_bytes()));
        self
    }

    /// Checks everything that the receipt alone can show: form, arithmetic, and each signature
    /// against the key that it names. Whose keys these are, the caller must know.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), ReceiptError> {
        self.verified().map(drop)
    }

    /// The same; returns the bytes that the signatures cover.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verified(&self) -> Result<String, ReceiptError> {
        let canonical = self.canonical();
        self.check_content_of(&canonical)?;
        if self.signature.is_none() && self.attestations.is_empty() {
            return Err(ReceiptError::Unsigned);
        }
        if let Some(signature) = &self.signature {
            signature.verify(canonical.as_bytes()).map_err(ReceiptError::Signature)?;
        }
        for (index, attestation) in self.attestations.iter().enumerate() {
            attestation
                .verify(canonical.as_bytes())
                .map_err(|error| ReceiptError::Attestation { index, error })?;
        }
        Ok(canonical)
    }

    /// Checks form and arithmetic, but no signature.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_content(&self) -> Result<(), ReceiptError> {
        self.check_content_of(&self.canonical())
    }

    fn check_content_of(&self, canonical: &str) -> Result<(), ReceiptError> {
        if self.version != VERSION {
            return Err(ReceiptError::Version(self.version.clone()));
        }
        if self.status != "COMPLETED" {
            return Err(ReceiptError::Status(self.status.clone()));
        }
        let plain = |value: &Value| value.is_i64() || value.is_u64() || value.is_string();
        if !self.metadata.values().all(plain) || !canonical.is_ascii() {
            return Err(ReceiptError::Content);
        }
        if self.completed_at < self.started_at {
            return Err(ReceiptError::Times);
        }
        let expected = self.units.price(self.unit_price).ok_or(ReceiptError::Negative)?;
        if self.price != expected {
            return Err(ReceiptError::Price { stated: self.price, expected });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::parse_secret;

    /// The published vector: RFC 8032 test keys 1 (miner) and 2 (coordinator).
    const CANONICAL: &str = include_str!("../vectors/receipt.canonical.json");
    const SIGNED: &str = include_str!("../vectors/receipt.json");
    const MINER: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const COORDINATOR: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";

    fn vector() -> Receipt {
        serde_json::from_str(SIGNED).unwrap()
    }

    #[test]
    fn receipt_vector_verifies() {
        let receipt = vector();
        assert_eq!(receipt.canonical(), CANONICAL.trim_end());
        assert_eq!(
            receipt.hash().to_string(),
            "671a6909817a4a05e42e884971dd5e1c71b261371e289439613d4f048eb3c5da"
        );
        assert_eq!(receipt.verify(), Ok(()));
    }

    #[test]
    fn receipt_vector_is_what_we_sign() {
        let unsigned: Receipt = serde_json::from_str(CANONICAL).unwrap();
        let signed = unsigned
            .signed(&parse_secret(MINER).unwrap())
            .attested(&parse_secret(COORDINATOR).unwrap());
        assert_eq!(signed, vector());
    }

    #[test]
    fn a_text_holds_a_receipt_and_nothing_else() {
        let text = serde_json::to_string_pretty(&vector()).unwrap();
        assert_eq!(Receipt::from_text(&text), Ok(vector()));
        for (beside, with) in [
            ("{", "{\"tip\": \"5\","),
            ("\"signature\": {", "\"signature\": {\"note\": \"x\","),
            ("\"price\": \"0.23692\"", "\"price\": \"0.236920\""),
        ] {
            let changed = text.replacen(beside, with, 1);
            assert_ne!(changed, text, "{beside}");
            assert_eq!(Receipt::from_text(&changed), Err(ReceiptError::Additions), "{with}");
        }
        for text in ["", "{", "{}", "[]"] {
            assert!(matches!(Receipt::from_text(text), Err(ReceiptError::Form(_))), "{text:?}");
        }
    }

    #[test]
    fn any_change_breaks_it() {
        type Change = fn(&mut Receipt);
        let changes: [Change; 5] = [
            |r| r.wallet = "wallet_thief".parse().unwrap(),
            |r| r.nonce = "2".to_owned(),
            |r| r.client = "other".parse().unwrap(),
            |r| r.fence = Some(1),
            |r| drop(r.metadata.insert("mode".to_owned(), "cpu".into())),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut receipt = vector();
            change(&mut receipt);
            assert!(matches!(receipt.verify(), Err(ReceiptError::Signature(_))), "change {i}");
        }
    }

    #[test]
    fn content_is_checked_before_signatures() {
        let mut receipt = vector();
        receipt.price = Amount::from_nanos(1);
        assert!(matches!(receipt.verify(), Err(ReceiptError::Price { .. })));
        let mut receipt = vector();
        receipt.completed_at = Timestamp::from_micros(0);
        assert_eq!(receipt.verify(), Err(ReceiptError::Times));
        let mut receipt = vector();
        receipt.metadata.insert("x".to_owned(), serde_json::json!(0.5));
        assert_eq!(receipt.verify(), Err(ReceiptError::Content));
        let mut receipt = vector();
        receipt.model = Some("modèle".to_owned());
        assert_eq!(receipt.verify(), Err(ReceiptError::Content));
        let mut receipt = vector();
        receipt.signature = None;
        receipt.attestations.clear();
        assert_eq!(receipt.verify(), Err(ReceiptError::Unsigned));
    }
}
