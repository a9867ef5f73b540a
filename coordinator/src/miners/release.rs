//! A name taken from the miner that has it: for one that a stranger took first. Pure.
//!
//! What the stranger did keeps its number and goes on under another name: receipts and attempts are
//! history.

use protocol::{ErrorCode, Name};

use super::Miner;
use crate::error::ApiError;

/// The miner under its new name, drained.
///
/// # Errors
/// `CONFLICT_STATE` where it holds jobs.
pub fn release(miner: &Miner, inflight: u64) -> Result<Miner, ApiError> {
    if inflight > 0 {
        let message = "this miner holds jobs: drain it, or wait until they end";
        return Err(ApiError::new(ErrorCode::ConflictState, message).with("inflight", inflight));
    }
    Ok(Miner { id: renamed(miner)?, drain: true, ..miner.clone() })
}

/// Its number makes the name unique; a long name is cut for it.
fn renamed(miner: &Miner) -> Result<Name, ApiError> {
    let suffix = format!("~{}", miner.no);
    let name = miner.id.as_str();
    let keep = name.len().min(Name::MAX_BYTES.saturating_sub(suffix.len()));
    format!("{}{suffix}", &name[..keep]).parse().map_err(|_| ApiError::internal())
}
