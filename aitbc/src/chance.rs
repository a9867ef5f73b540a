//! The one source of randomness: idempotency keys and the jitter of pauses.

use rand::RngExt as _;
use uuid::Uuid;

/// A key under which the coordinator recognises the repetition of a call.
pub fn idempotency_key() -> Uuid {
    uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid()
}

/// Any number.
pub fn random_u32() -> u32 {
    rand::rng().random()
}
