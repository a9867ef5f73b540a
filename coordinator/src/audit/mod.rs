//! The audit log: who changed what, append-only, written in the transaction of the change. Rules only;
//! the SQL is in `store`, the HTTP in `routes`.
//!
//! What is refused is not in it: it changed nothing, anybody with a key could fill the table with it,
//! and the log and the metrics count it. Never a secret.

pub mod routes;
pub mod store;

use serde_json::Value;

/// The actor of the command line on the coordinator's machine.
pub const LOCAL: &str = "local";

/// A change to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// The id of the key that did it, or [`LOCAL`].
    pub actor: &'a str,
    /// What was done.
    pub action: Action,
    /// To whom or to what.
    pub subject: &'a str,
    /// What exactly.
    pub data: Value,
}

/// What can be done to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The controls were changed.
    PutControls,
    /// A key was made.
    CreateKey,
    /// A key was revoked.
    RevokeKey,
    /// An admin drained a miner, or let it work again.
    DrainMiner,
    /// An admin gave a miner another signing key.
    RotateMinerKey,
    /// A miner's name was taken from it.
    ReleaseMiner,
    /// A client paid in.
    Deposit,
    /// Wallets were paid out.
    PayOut,
}

impl Action {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PutControls => "controls.put",
            Self::CreateKey => "key.create",
            Self::RevokeKey => "key.revoke",
            Self::DrainMiner => "miner.drain",
            Self::RotateMinerKey => "miner.key",
            Self::ReleaseMiner => "miner.release",
            Self::Deposit => "wallet.deposit",
            Self::PayOut => "payout.mark",
        }
    }
}
