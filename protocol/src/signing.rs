//! Ed25519 keys and signatures, in the text form of the wire (base64url without padding).
//!
//! Receipts are signed over their canonical bytes alone, as their specification says. Everything
//! else that is signed carries a domain in front, so that no signature can stand for another thing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature as RawSignature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::time::Timestamp;

/// The only algorithm of version 1.
pub const ALGORITHM: &str = "Ed25519";

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `alg` is not `Ed25519`.
    #[error("unknown signature algorithm")]
    Algorithm,
    /// The key is not base64url of a valid public key.
    #[error("malformed public key")]
    Key,
    /// The signature is not base64url of 64 bytes.
    #[error("malformed signature")]
    Malformed,
    /// The signature does not belong to these bytes and this key.
    #[error("signature does not verify")]
    Mismatch,
}

/// A signature with the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Signature {
    /// Always `Ed25519`.
    pub alg: String,
    /// The public key.
    pub key_id: String,
    /// The signature.
    pub sig: String,
}

impl Signature {
    /// Signs `bytes`.
    pub fn make(key: &SigningKey, bytes: &[u8]) -> Self {
        Self {
            alg: ALGORITHM.to_owned(),
            key_id: key_id(&key.verifying_key()),
            sig: URL_SAFE_NO_PAD.encode(key.sign(bytes).to_bytes()),
        }
    }

    /// Verifies strictly (no small-order keys, no malleable signatures) with the key it names.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), SignatureError> {
        if self.alg != ALGORITHM {
            return Err(SignatureError::Algorithm);
        }
        let key = parse_key(&self.key_id)?;
        let raw = URL_SAFE_NO_PAD.decode(&self.sig).map_err(|_| SignatureError::Malformed)?;
        let raw = RawSignature::from_slice(&raw).map_err(|_| SignatureError::Malformed)?;
        key.verify_strict(bytes, &raw).map_err(|_| SignatureError::Mismatch)
    }
}

/// The text of a public key.
pub fn key_id(key: &VerifyingKey) -> String {
    URL_SAFE_NO_PAD.encode(key.as_bytes())
}

/// The public key of a text.
///
/// # Errors
/// [`SignatureError::Key`] where it is none, or a weak one.
pub fn parse_key(text: &str) -> Result<VerifyingKey, SignatureError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignatureError::Key)?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| SignatureError::Key)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| SignatureError::Key)?;
    if key.is_weak() { Err(SignatureError::Key) } else { Ok(key) }
}

/// A signing key from its 64 hex digits, as key files hold it.
pub fn parse_secret(text: &str) -> Option<SigningKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
    Some(SigningKey::from_bytes(&bytes))
}

/// The bytes by which a miner's old key hands over to a new one.
pub fn key_rotation(miner: &Name, new_key: &str, signed_at: Timestamp) -> Vec<u8> {
    domain_separated("key-rotation", &[miner.as_str(), new_key, &signed_at.to_string()])
}

/// `parts` under a domain: lengths in front, so that no two lists give the same bytes.
fn domain_separated(domain: &str, parts: &[&str]) -> Vec<u8> {
    let mut bytes = format!("aitbc/v1/{domain}").into_bytes();
    for part in parts {
        bytes.push(b'\n');
        bytes.extend_from_slice(part.len().to_string().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_key_other_bytes_other_algorithm_are_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let good = Signature::make(&key, b"bytes");
        assert_eq!(good.verify(b"bytes"), Ok(()));
        assert_eq!(good.verify(b"Bytes"), Err(SignatureError::Mismatch));
        let other = SigningKey::from_bytes(&[8; 32]);
        let swapped = Signature { key_id: key_id(&other.verifying_key()), ..good.clone() };
        assert_eq!(swapped.verify(b"bytes"), Err(SignatureError::Mismatch));
        let renamed = Signature { alg: "none".to_owned(), ..good.clone() };
        assert_eq!(renamed.verify(b"bytes"), Err(SignatureError::Algorithm));
        let cut = Signature { sig: good.sig[..20].to_owned(), ..good };
        assert_eq!(cut.verify(b"bytes"), Err(SignatureError::Malformed));
    }

    #[test]
    fn weak_keys_are_refused() {
        assert_eq!(parse_key(&URL_SAFE_NO_PAD.encode([0; 32])), Err(SignatureError::Key));
        assert_eq!(parse_key("short"), Err(SignatureError::Key));
    }

    #[test]
    fn rotation_bytes_are_fixed() {
        let bytes = key_rotation(&"host1-gpu0".parse().unwrap(), "KEY", Timestamp::from_micros(0));
        assert_eq!(bytes, b"aitbc/v1/key-rotation\n10:host1-gpu0\n3:KEY\n20:1970-01-01T00:00:00Z");
    }
}
