//! What a coordinator owes its miners over a period, as a signed file: the door to whatever pays
//! them out in the end.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::Name;
use crate::signing::Signature;
use crate::time::Timestamp;

/// Reply of `GET /v1/admin/payouts/export`: balances and receipts of a period.
///
/// The signature is Ed25519 by the coordinator's key over the canonical bytes of everything else,
/// as in receipts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What each wallet is owed, by wallet.
    pub items: Vec<PayoutLine>,
    /// The sum of all amounts.
    pub total: Amount,
    /// The coordinator's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// What one wallet is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutLine {
    /// The wallet: opaque here, an address of some chain or an account of some bank elsewhere.
    pub wallet: Name,
    /// How much, in AITBC.
    pub amount: Amount,
    /// The receipts of the period that credited it.
    pub receipts: Vec<Name>,
}
