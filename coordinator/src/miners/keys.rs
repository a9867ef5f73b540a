//! The key that signs a miner's receipts, and how a new one takes over.

use std::time::Duration;

use protocol::miner::KeyRotation;
use protocol::signing::{self, ALGORITHM, Signature};
use protocol::{ErrorCode, Timestamp};

use super::Miner;
use crate::error::ApiError;

/// How far `signed_at` may be from the coordinator's clock.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// Whether a rotation may take effect. A key that is in force already may always be named again.
///
/// # Errors
/// `INVALID_PAYLOAD` for a malformed key or a stale signature, `BAD_SIGNATURE` for one that is not
/// the old key's; an admin needs none.
pub fn check_rotation(
    miner: &Miner,
    rotation: &KeyRotation,
    now: Timestamp,
    by_admin: bool,
) -> Result<(), ApiError> {
    if signing::parse_key(&rotation.pubkey).is_err() {
        return Err(ApiError::field("pubkey", "must be base64url of an Ed25519 public key"));
    }
    if miner.pubkey.as_deref() == Some(rotation.pubkey.as_str()) || by_admin {
        return Ok(());
    }
    let signed_at = rotation.signed_at;
    if now.since(signed_at) > MAX_SKEW || signed_at.since(now) > MAX_SKEW {
        return Err(ApiError::field("signed_at", "must be within five minutes of now"));
    }
    let Some(old) = &miner.pubkey else {
        let message = "this miner has no key yet: register it";
        return Err(ApiError::new(ErrorCode::BadSignature, message));
    };
    let signature = Signature {
        alg: ALGORITHM.to_owned(),
        key_id: old.clone(),
        sig: rotation.sig.clone().unwrap_or_default(),
    };
    let bytes = signing::key_rotation(&miner.id, &rotation.pubkey, signed_at);
    signature.verify(&bytes).map_err(|error| {
        ApiError::new(ErrorCode::BadSignature, format!("signature by the old key: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use protocol::Name;
    use protocol::job::SlotKind;

    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    fn key(byte: u8) -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[byte; 32]);
        let text = signing::key_id(&key.verifying_key());
        (key, text)
    }

    fn rotation(signer: &SigningKey, signed_at: Timestamp) -> (Miner, KeyRotation) {
        let id: Name = "m1".parse().unwrap();
        let new = key(2).1;
        let sig = Signature::make(signer, &signing::key_rotation(&id, &new, signed_at)).sig;
        let miner = Miner {
            no: 1,
            id: id.clone(),
            wallet: "w".parse().unwrap(),
            registered: true,
            pubkey: Some(key(1).1),
            drain: false,
            gpu_lost: false,
            capabilities: crate::miners::unregistered(id.clone(), SlotKind::Cpu, false),
        };
        (miner, KeyRotation { miner_id: id, pubkey: new, signed_at, sig: Some(sig) })
    }

    fn code(miner: &Miner, rotation: &KeyRotation, by_admin: bool) -> Result<(), ErrorCode> {
        check_rotation(miner, rotation, Timestamp::from_micros(NOW), by_admin)
            .map_err(|error| error.code)
    }

    #[test]
    fn the_old_key_hands_over() {
        let now = Timestamp::from_micros(NOW);
        let (miner, good) = rotation(&key(1).0, now);
        assert_eq!(code(&miner, &good, false), Ok(()));
        let (_, foreign) = rotation(&key(3).0, now);
        assert_eq!(code(&miner, &foreign, false), Err(ErrorCode::BadSignature));
        let unsigned = KeyRotation { sig: None, ..good.clone() };
        assert_eq!(code(&miner, &unsigned, false), Err(ErrorCode::BadSignature));
        assert_eq!(code(&miner, &unsigned, true), Ok(()));
        let keyless = Miner { pubkey: None, ..miner.clone() };
        assert_eq!(code(&keyless, &good, false), Err(ErrorCode::BadSignature));
        let in_force = Miner { pubkey: Some(good.pubkey.clone()), ..miner };
        assert_eq!(code(&in_force, &unsigned, false), Ok(()));
    }

    #[test]
    fn old_signatures_and_broken_keys_are_refused() {
        let now = Timestamp::from_micros(NOW);
        for signed_at in [now.plus_secs(-301), now.plus_secs(301)] {
            let (miner, stale) = rotation(&key(1).0, signed_at);
            assert_eq!(code(&miner, &stale, false), Err(ErrorCode::InvalidPayload));
        }
        let (miner, good) = rotation(&key(1).0, now);
        let broken = KeyRotation { pubkey: "x".to_owned(), ..good };
        assert_eq!(code(&miner, &broken, true), Err(ErrorCode::InvalidPayload));
    }
}
