//! How a miner becomes known: by registering, or by its heartbeat alone.

use protocol::miner::{Heartbeat, MinerStatus};
use protocol::{ErrorCode, MinerCapabilities, Name, Timestamp, signing};
use serde_json::{Value, json};

use super::{Miner, check, store, unregistered};
use crate::accounts::{Binding, Caller};
use crate::db::{Tx, storable};
use crate::error::ApiError;

/// A report larger than this is no heartbeat, in bytes.
const MAX_REPORT: usize = 16 * 1024;

/// More than any miner holds.
const MAX_ACTIVE: usize = 256;

/// What a miner says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Introduction {
    /// Its label.
    pub id: Name,
    /// The wallet that it names.
    pub wallet: Option<Name>,
    /// The key that it says signs its receipts.
    pub pubkey: Option<String>,
    /// What it offers, if it says so; without wallet and key.
    pub capabilities: MinerCapabilities,
    /// Whether it said what it offers, or that was made up for it.
    pub stated: bool,
    /// Whether it registers.
    pub registers: bool,
}

impl Introduction {
    /// A registration.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`, naming the field.
    pub fn register(mut capabilities: MinerCapabilities) -> Result<Self, ApiError> {
        check(&capabilities)?;
        let pubkey = capabilities.pubkey.take();
        if pubkey.as_deref().is_some_and(|key| signing::parse_key(key).is_err()) {
            return Err(ApiError::field("pubkey", "must be base64url of an Ed25519 public key"));
        }
        let (id, wallet) = (capabilities.miner_id.clone(), capabilities.wallet.take());
        Ok(Self { id, wallet, pubkey, capabilities, stated: true, registers: true })
    }

    /// What a heartbeat says about its sender.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`, naming the field.
    pub fn heartbeat(heartbeat: &Heartbeat) -> Result<Self, ApiError> {
        if heartbeat.active_jobs.len() > MAX_ACTIVE {
            let message = format!("must have at most {MAX_ACTIVE} entries");
            return Err(ApiError::field("active_jobs", message));
        }
        let id = heartbeat.miner_id.clone();
        let Some(capabilities) = heartbeat.capabilities.as_deref() else {
            return Ok(Self {
                capabilities: unregistered(id.clone(), heartbeat.mode, heartbeat.gpu),
                id,
                wallet: heartbeat.wallet.clone(),
                pubkey: None,
                stated: false,
                registers: false,
            });
        };
        if capabilities.miner_id != id {
            return Err(ApiError::field("capabilities.miner_id", "must be the sender's"));
        }
        let stated = Self::register(capabilities.clone())?;
        let wallet = heartbeat.wallet.clone().or(stated.wallet);
        Ok(Self { wallet, registers: false, ..stated })
    }

    /// The wallet that is credited if this caller introduces the miner for the first time.
    ///
    /// # Errors
    /// `WALLET_MISMATCH`, `MINER_MISMATCH` or `FORBIDDEN_SCOPE`.
    pub fn wallet_for(&self, caller: &Caller) -> Result<Name, ApiError> {
        let own = caller.wallet()?;
        if matches!(caller.binding, Binding::Open { .. }) {
            return Ok(self.wallet.clone().unwrap_or_else(|| own.clone()));
        }
        if self.wallet.as_ref().is_some_and(|named| named != own) {
            let message = "this key does not belong to that wallet";
            return Err(ApiError::new(ErrorCode::WalletMismatch, message));
        }
        caller.may_act_for(&self.id, own)?;
        Ok(own.clone())
    }

    /// The miner as it is after this introduction.
    ///
    /// # Errors
    /// `MINER_MISMATCH` where it belongs to another wallet, `BAD_SIGNATURE` where it has another
    /// key.
    pub fn merged(&self, known: &Miner, caller: &Caller) -> Result<Miner, ApiError> {
        caller.may_act_for(&known.id, &known.wallet)?;
        if let (Some(stated), Some(stored)) = (&self.pubkey, &known.pubkey)
            && stated != stored
        {
            let message = "this miner has another key; replace it with POST /v1/miner/key";
            return Err(
                ApiError::new(ErrorCode::BadSignature, message).with("pubkey", stored.as_str())
            );
        }
        let renewed = self.stated || !known.registered;
        let capabilities = if renewed { &self.capabilities } else { &known.capabilities };
        let changed = *capabilities != known.capabilities;
        Ok(Miner {
            // Only an open coordinator gets here with another wallet.
            wallet: self.wallet.clone().unwrap_or_else(|| known.wallet.clone()),
            registered: known.registered || self.registers,
            pubkey: self.pubkey.clone().or_else(|| known.pubkey.clone()),
            gpu_lost: known.gpu_lost && !changed && !self.registers,
            capabilities: capabilities.clone(),
            ..known.clone()
        })
    }

    /// Writes the introduction down; returns the miner and whether it registered for the first
    /// time. No wallet gets more than `per_wallet` miners.
    ///
    /// # Errors
    /// As [`Self::wallet_for`] and [`Self::merged`], `INVALID_PAYLOAD` where the wallet has its
    /// miners already, or where the database fails.
    pub async fn record(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        caller: &Caller,
        per_wallet: u32,
    ) -> Result<(Miner, bool), ApiError> {
        if let Some(known) = store::lock(tx, &self.id).await? {
            return self.renew(tx, now, caller, &known).await;
        }
        let first = Miner {
            no: 0,
            id: self.id.clone(),
            wallet: self.wallet_for(caller)?,
            registered: self.registers,
            pubkey: self.pubkey.clone(),
            drain: false,
            gpu_lost: false,
            capabilities: self.capabilities.clone(),
        };
        if store::lock_wallet(tx, &first.wallet).await? >= u64::from(per_wallet) {
            let message = format!("the wallet has {per_wallet} miners, and may not have another");
            return Err(ApiError::field("miner_id", message).with("max_miners", per_wallet));
        }
        if let Some(no) = store::insert(tx, now, &first).await? {
            return Ok((Miner { no, ..first }, true));
        }
        // Introduced under another wallet since it was looked for.
        let Some(known) = store::lock(tx, &self.id).await? else {
            // Rows of miners are never deleted.
            tracing::error!(miner = %self.id, "a miner is neither there nor can it be added");
            return Err(ApiError::internal());
        };
        self.renew(tx, now, caller, &known).await
    }

    async fn renew(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        caller: &Caller,
        known: &Miner,
    ) -> Result<(Miner, bool), ApiError> {
        let merged = self.merged(known, caller)?;
        store::update(tx, now, &merged).await?;
        Ok((merged, !known.registered))
    }
}

/// What is kept of a heartbeat for the operator to see.
///
/// # Errors
/// `INVALID_PAYLOAD` where it is too large, or no database can hold it.
pub fn report(heartbeat: &Heartbeat) -> Result<Value, ApiError> {
    let report = json!({
        "status": heartbeat.status.unwrap_or(MinerStatus::Online),
        "inflight": heartbeat.inflight,
        "queue_len": heartbeat.queue_len,
        "metrics": heartbeat.metrics,
        "mining": heartbeat.mining,
    });
    if !storable(&report) {
        return Err(ApiError::field("metrics", "must not contain U+0000"));
    }
    if report.to_string().len() > MAX_REPORT {
        return Err(ApiError::field("metrics", format!("must be at most {MAX_REPORT} bytes")));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use protocol::job::SlotKind;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn caller(wallet: &str, miner: Option<&str>) -> Caller {
        let binding = Binding::Miner { wallet: name(wallet), miner_id: miner.map(name) };
        Caller { key_id: "k".to_owned(), binding }
    }

    fn heartbeat(wallet: Option<&str>) -> Introduction {
        Introduction {
            id: name("m1"),
            wallet: wallet.map(name),
            pubkey: None,
            capabilities: unregistered(name("m1"), SlotKind::Cpu, false),
            stated: false,
            registers: false,
        }
    }

    fn known(registered: bool) -> Miner {
        Miner {
            no: 1,
            id: name("m1"),
            wallet: name("w1"),
            registered,
            pubkey: None,
            drain: true,
            gpu_lost: true,
            capabilities: unregistered(name("m1"), SlotKind::Gpu, true),
        }
    }

    #[test]
    fn a_key_speaks_for_its_wallet_and_its_miner_only() {
        let code = |intro: &Introduction, caller| intro.wallet_for(&caller).map_err(|e| e.code);
        assert_eq!(code(&heartbeat(None), caller("w1", None)), Ok(name("w1")));
        assert_eq!(code(&heartbeat(Some("w1")), caller("w1", Some("m1"))), Ok(name("w1")));
        let wallet = Err(ErrorCode::WalletMismatch);
        assert_eq!(code(&heartbeat(Some("w2")), caller("w1", None)), wallet);
        let miner = Err(ErrorCode::MinerMismatch);
        assert_eq!(code(&heartbeat(None), caller("w1", Some("m2"))), miner);
        let merged = heartbeat(None).merged(&known(true), &caller("w2", None));
        assert_eq!(merged.map_err(|e| e.code), Err(ErrorCode::MinerMismatch));
    }

    #[test]
    fn a_bare_heartbeat_changes_only_what_nobody_stated() {
        let caller = caller("w1", None);
        assert_eq!(heartbeat(None).merged(&known(true), &caller).unwrap(), known(true));
        let script = heartbeat(None).merged(&known(false), &caller).unwrap();
        assert_eq!(script.capabilities.mode, SlotKind::Cpu);
        assert!(!script.registered && !script.gpu_lost && script.drain);
    }

    #[test]
    fn registering_brings_a_lost_gpu_back_but_no_other_key() {
        let caller = caller("w1", None);
        let mut known = known(true);
        known.pubkey = Some("old".to_owned());
        let intro = Introduction {
            capabilities: known.capabilities.clone(),
            stated: true,
            registers: true,
            ..heartbeat(None)
        };
        let again = intro.merged(&known, &caller).unwrap();
        assert!(!again.gpu_lost && again.pubkey.as_deref() == Some("old"));
        let swapped = Introduction { pubkey: Some("new".to_owned()), ..intro };
        let code = swapped.merged(&known, &caller).map_err(|e| e.code);
        assert_eq!(code, Err(ErrorCode::BadSignature));
    }
}
