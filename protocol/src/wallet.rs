//! Balances and ledger entries, as their owner sees them.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{JobId, Name};
use crate::time::Timestamp;

/// The unit of every amount.
pub const CURRENCY: &str = "AITBC";

/// Reply of `GET /v1/wallet/balance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Balance {
    /// The wallet.
    pub wallet: Name,
    /// What it holds.
    pub balance: Amount,
    /// What is credited but not yet free to be paid out: always 0, a credit is free at once. An
    /// export of payouts moves nothing until it is marked as paid.
    pub pending: Amount,
    /// Always [`CURRENCY`].
    pub currency: String,
    /// The last change, or the wallet's creation.
    pub updated_at: Timestamp,
}

/// One line of a wallet's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LedgerLine {
    /// The transfer.
    pub id: String,
    /// Why: `credit`, `payout`, ...
    pub kind: String,
    /// What the wallet gained (or, negative, lost).
    pub amount: Amount,
    /// Of a credit, what the operator kept of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Amount>,
    /// Of a credit, what the operator added to it for efficient work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bonus: Option<Amount>,
    /// The job, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The receipt, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<Name>,
    /// When.
    pub created_at: Timestamp,
}

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(rename = "{T}Page"))]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /v1/admin/wallets/{wallet}/deposit`: funds of a prepaid client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// How much, in AITBC.
    pub amount: Amount,
    /// What it belongs to in the operator's books, 1 to 128 bytes; one deposit per reference.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 128)))]
    pub reference: String,
}

/// Reply of a deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Deposited {
    /// The client whose wallet this is.
    pub wallet: Name,
    /// Its balance after the deposit.
    pub balance: Amount,
    /// The ledger transfer.
    pub transfer_id: String,
}

/// Body of `POST /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What the key may do.
    pub scope: Scope,
    /// The client it acts for (scope `client`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Name>,
    /// The wallet that its miners credit (scope `miner`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Name>,
    /// The only miner that it may act for (scope `miner`); absent: any miner of its wallet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miner_id: Option<Name>,
    /// How the client pays (scope `client`); absent: `issuance`, or as it is for one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funding: Option<Funding>,
    /// The client's share of the queue (scope `client`); absent: 1, or as it is for one that is
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = MAX_WEIGHT)))]
    pub weight: Option<u16>,
}

/// The largest share of the queue that a client can have.
pub const MAX_WEIGHT: u16 = 1000;

/// How a client pays for its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Funding {
    /// Credits are issued when work is proven.
    Issuance,
    /// Out of deposits: the most that a job can cost is held when it is submitted.
    Prepaid,
}

impl Funding {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuance => "issuance",
            Self::Prepaid => "prepaid",
        }
    }
}

impl std::str::FromStr for Funding {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "issuance" => Ok(Self::Issuance),
            "prepaid" => Ok(Self::Prepaid),
            _ => Err("funding must be issuance or prepaid"),
        }
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Submit and follow jobs.
    Client,
    /// Work on jobs.
    Miner,
    /// Operate the coordinator.
    Admin,
}

impl Scope {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Miner => "miner",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "client" => Ok(Self::Client),
            "miner" => Ok(Self::Miner),
            "admin" => Ok(Self::Admin),
            _ => Err("scope must be client, miner or admin"),
        }
    }
}

/// Reply of `POST /v1/admin/keys`: the only time that the secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CreatedKey {
    /// The key's id: its part before the point.
    pub id: String,
    /// The whole key, `id.secret`.
    pub key: String,
    /// What it may do.
    pub scope: Scope,
}

/// A key as `GET /v1/admin/keys` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// What it may do.
    pub scope: Scope,
    /// The client it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Name>,
    /// The wallet that its miners credit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<Name>,
    /// The only miner that it may act for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miner_id: Option<Name>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}
