//! Who calls: what a key is bound to, and what that lets it touch.

use protocol::wallet::Scope;
use protocol::{ErrorCode, Name};

use crate::error::ApiError;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's id; `open` where no key is asked for.
    pub key_id: String,
    /// What the key may do.
    pub binding: Binding,
}

/// What a key is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Submits and follows jobs of one client.
    Client {
        /// The client.
        client: Name,
    },
    /// Works on jobs for one wallet.
    Miner {
        /// The wallet that is credited.
        wallet: Name,
        /// The only miner it may act for; `None`: any of the wallet's.
        miner_id: Option<Name>,
    },
    /// Operates the coordinator.
    Admin,
    /// Everything, without a key: the mock. Miners of any wallet, and this one client.
    Open {
        /// The client for whom jobs are submitted.
        client: Name,
        /// The wallet that is shown, and credited where a miner names none.
        wallet: Name,
    },
}

impl Caller {
    /// The scope of the key; `None` where any is allowed.
    pub const fn scope(&self) -> Option<Scope> {
        match self.binding {
            Binding::Client { .. } => Some(Scope::Client),
            Binding::Miner { .. } => Some(Scope::Miner),
            Binding::Admin => Some(Scope::Admin),
            Binding::Open { .. } => None,
        }
    }

    /// The client that this caller is.
    ///
    /// # Errors
    /// `FORBIDDEN_SCOPE` where it is none.
    pub fn client(&self) -> Result<&Name, ApiError> {
        match &self.binding {
            Binding::Client { client } | Binding::Open { client, .. } => Ok(client),
            Binding::Miner { .. } | Binding::Admin => Err(forbidden(Scope::Client)),
        }
    }

    /// The wallet whose miners this caller speaks for.
    ///
    /// # Errors
    /// `FORBIDDEN_SCOPE` where it speaks for none.
    pub fn wallet(&self) -> Result<&Name, ApiError> {
        match &self.binding {
            Binding::Miner { wallet, .. } | Binding::Open { wallet, .. } => Ok(wallet),
            Binding::Client { .. } | Binding::Admin => Err(forbidden(Scope::Miner)),
        }
    }

    /// Refuses callers that are no admin.
    ///
    /// # Errors
    /// `FORBIDDEN_SCOPE`.
    pub fn admin(&self) -> Result<(), ApiError> {
        match self.binding {
            Binding::Admin | Binding::Open { .. } => Ok(()),
            Binding::Client { .. } | Binding::Miner { .. } => Err(forbidden(Scope::Admin)),
        }
    }

    /// Whether this caller may act for a miner of this name and wallet.
    ///
    /// # Errors
    /// `MINER_MISMATCH`, or `FORBIDDEN_SCOPE` for a key without miner scope.
    pub fn may_act_for(&self, miner: &Name, miner_wallet: &Name) -> Result<(), ApiError> {
        match &self.binding {
            Binding::Open { .. } => Ok(()),
            Binding::Miner { wallet, miner_id } => {
                let named = miner_id.as_ref().is_none_or(|own| own == miner);
                if named && wallet == miner_wallet {
                    Ok(())
                } else {
                    Err(ApiError::new(
                        ErrorCode::MinerMismatch,
                        "this key does not belong to that miner",
                    ))
                }
            }
            Binding::Client { .. } | Binding::Admin => Err(forbidden(Scope::Miner)),
        }
    }
}

fn forbidden(needed: Scope) -> ApiError {
    ApiError::new(ErrorCode::ForbiddenScope, format!("this call needs a key of scope {needed}"))
        .with("needed_scope", needed.as_str())
}
