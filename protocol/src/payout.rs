//! What a coordinator owes its miners over a period, as a signed file: the door to whatever pays
//! them out in the end.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::amount::Amount;
use crate::canonical;
use crate::hash::Sha256Hex;
use crate::id::Name;
use crate::signing::{Signature, SignatureError};
use crate::time::Timestamp;

/// How the id of each file begins.
pub const ID_PREFIX: &str = "payout-";

/// Reply of `GET /v1/admin/payouts/export`: balances and receipts of a period.
///
/// The signature is Ed25519 by the coordinator's key over the canonical bytes of everything else,
/// as in receipts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PayoutFile {
    /// Always `1.0`.
    pub version: String,
    /// Its own id; marking it as paid twice is recognised by it.
    pub export_id: String,
    /// From when, inclusive.
    pub since: Timestamp,
    /// Until when, exclusive.
    pub until: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// What each wallet is owed, in the order of the wallets.
    pub items: Vec<PayoutLine>,
    /// The sum of all amounts.
    pub total: Amount,
    /// The coordinator's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// The only version of the file.
pub const VERSION: &str = "1.0";

/// Why a file is not one that a coordinator made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayoutError {
    /// Made by another version.
    #[error("payout file version {0:?} is not known")]
    Version(String),
    /// Its id is not the one that its content gives.
    #[error("export_id is not that of this content")]
    Id,
    /// The lines do not add up, or one is not above zero, or a wallet comes twice.
    #[error("the items do not add up to the total")]
    Sum,
    /// Nobody signed it.
    #[error("the file carries no signature")]
    Unsigned,
    /// The signature is wrong.
    #[error("signature: {0}")]
    Signature(SignatureError),
}

impl PayoutFile {
    /// A file of these lines, with the id that they give: the same lines of the same period are
    /// the same file. `None` where they do not add up.
    pub fn new(
        since: Timestamp,
        until: Timestamp,
        created_at: Timestamp,
        items: Vec<PayoutLine>,
    ) -> Option<Self> {
        let version = VERSION.to_owned();
        let total = sum(&items)?;
        let export_id = String::new();
        let signature = None;
        let file = Self { version, export_id, since, until, created_at, items, total, signature };
        Some(Self { export_id: file.id(), ..file })
    }

    /// The id that the content gives.
    fn id(&self) -> String {
        let content = serde_json::json!([self.since, self.until, self.items]);
        let hash = Sha256Hex::of(canonical::to_string(&content).as_bytes()).to_string();
        format!("{ID_PREFIX}{}", &hash[..32])
    }

    /// The bytes that are signed.
    fn canonical(&self) -> String {
        let bare = Self { signature: None, ..self.clone() };
        canonical::to_string(&serde_json::to_value(bare).unwrap_or(Value::Null))
    }

    /// The lines as CSV (RFC 4180): wallet, amount, receipts.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("wallet,amount,receipts\r\n");
        for PayoutLine { wallet, amount, receipts } in &self.items {
            let receipts: Vec<&str> = receipts.iter().map(Name::as_str).collect();
            // A name has no quotes in it.
            text.push_str(&format!("\"{wallet}\",{amount},\"{}\"\r\n", receipts.join(" ")));
        }
        text
    }

    /// Signs as the coordinator.
    #[must_use]
    pub fn signed(mut self, key: &SigningKey) -> Self {
        self.signature = Some(Signature::make(key, self.canonical().as_bytes()));
        self
    }

    /// Checks form, sums, id and signature. Whose key it is, the caller must know.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), PayoutError> {
        if self.version != VERSION {
            return Err(PayoutError::Version(self.version.clone()));
        }
        let rising = self.items.is_sorted_by(|a, b| a.wallet < b.wallet);
        let paid = self.items.iter().all(|line| line.amount > Amount::ZERO);
        if !rising || !paid || sum(&self.items) != Some(self.total) {
            return Err(PayoutError::Sum);
        }
        if self.export_id != self.id() {
            return Err(PayoutError::Id);
        }
        let signature = self.signature.as_ref().ok_or(PayoutError::Unsigned)?;
        signature.verify(self.canonical().as_bytes()).map_err(PayoutError::Signature)
    }
}

fn sum(items: &[PayoutLine]) -> Option<Amount> {
    items.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.amount))
}

/// Reply of `POST /v1/admin/payouts`: the file is marked as paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PaidOut {
    /// The file.
    pub export_id: String,
    /// The ledger transfer that took it from the wallets.
    pub transfer_id: String,
    /// How many wallets.
    pub wallets: u64,
    /// How much, in AITBC.
    pub total: Amount,
    /// When it was marked.
    pub paid_at: Timestamp,
}

/// What one wallet is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PayoutLine {
    /// The wallet: opaque here, an address of some chain or an account of some bank elsewhere.
    pub wallet: Name,
    /// How much, in AITBC: what it held at `until`, less what was paid out since.
    pub amount: Amount,
    /// The receipts of the period that credited it.
    pub receipts: Vec<Name>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_breaks_it() {
        let line = |wallet: &str, nanos| PayoutLine {
            wallet: wallet.parse().unwrap(),
            amount: Amount::from_nanos(nanos),
            receipts: Vec::new(),
        };
        let (since, until) = (Timestamp::from_micros(0), Timestamp::from_micros(9));
        let key = SigningKey::from_bytes(&[7; 32]);
        let file = PayoutFile::new(since, until, until, vec![line("a", 1), line("b", 2)]).unwrap();
        assert_eq!(file.verify(), Err(PayoutError::Unsigned));
        let file = file.signed(&key);
        assert_eq!((file.verify(), file.total.nanos()), (Ok(()), 3));
        type Change = fn(&mut PayoutFile);
        let changes: [(Change, PayoutError); 5] = [
            (|f| f.version.clear(), PayoutError::Version(String::new())),
            (|f| f.items[0].amount = Amount::from_nanos(2), PayoutError::Sum),
            (|f| f.items.reverse(), PayoutError::Sum),
            (|f| f.items[0].wallet = "aa".parse().unwrap(), PayoutError::Id),
            (|f| f.created_at = Timestamp::from_micros(1), {
                PayoutError::Signature(SignatureError::Mismatch)
            }),
        ];
        for (change, error) in changes {
            let mut changed = file.clone();
            change(&mut changed);
            assert_eq!(changed.verify(), Err(error));
        }
    }
}
