//! Idempotency keys: what identifies a repeated request, and what it is answered.
//!
//! The keys are stored by `accounts::store`, in the transaction of the effect that they guard.

use protocol::{ErrorBody, ErrorCode, Sha256Hex};
use serde::Serialize;
use serde_json::Value;
use uuid::{Uuid, Variant};

use crate::error::ApiError;

/// The header in which a client states the key.
pub const HEADER: &str = "idempotency-key";

/// The header that marks a stored reply.
pub const REPLAYED_HEADER: &str = "idempotent-replayed";

/// One request that must take effect once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Whose: another caller's keys are other keys.
    pub key_id: String,
    /// Method and real path, for example `POST /v1/jobs/01J.../cancel`.
    pub route: String,
    /// What the client sent in the header.
    pub key: Uuid,
    /// Hash of the body: a repeat must have the same.
    pub body: Sha256Hex,
}

/// A reply that was given before.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReply {
    /// Its HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Value,
}

/// What a guarded operation answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    /// It took effect now.
    Fresh(T),
    /// It had taken effect before.
    Replayed(StoredReply),
}

impl IdempotencyKey {
    /// Parses the header's value: a version 4 UUID.
    ///
    /// # Errors
    /// `INVALID_IDEMPOTENCY_KEY`.
    pub fn parse(text: &str) -> Result<Uuid, ApiError> {
        Uuid::try_parse(text)
            .ok()
            .filter(|key| key.get_version_num() == 4 && key.get_variant() == Variant::RFC4122)
            .ok_or_else(|| {
                let message = "Idempotency-Key must be a version 4 UUID";
                ApiError::new(ErrorCode::InvalidIdempotencyKey, message)
            })
    }

    /// The number of the advisory lock that stands for this key.
    pub(super) fn lock_number(&self) -> i64 {
        let text = format!("{}\n{}\n{}", self.key_id, self.route, self.key);
        let [a, b, c, d, e, f, g, h, ..] = *Sha256Hex::of(text.as_bytes()).as_bytes();
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl StoredReply {
    /// The reply to an outcome: `status` and the value, or the error's own.
    pub fn of<T: Serialize>(status: u16, outcome: &Result<T, ApiError>) -> Self {
        match outcome {
            Ok(value) => Self { status, body: serde_json::to_value(value).unwrap_or_default() },
            Err(error) => Self {
                status: error.code.status(),
                body: serde_json::to_value(ErrorBody { error: error.detail() }).unwrap_or_default(),
            },
        }
    }

    /// Whether a repeat may be answered with this: not with what may be different next time.
    pub const fn may_be_kept(&self) -> bool {
        !matches!(self.status, 401 | 403 | 429 | 500..)
    }
}

/// `IDEMPOTENCY_IN_FLIGHT`: the first request with this key has not ended.
pub(super) fn in_flight() -> ApiError {
    let message = "the first request with this Idempotency-Key is still running";
    ApiError::new(ErrorCode::IdempotencyInFlight, message).with("retry_after_secs", 1)
}

/// `IDEMPOTENCY_KEY_REUSED`: the key came with another body before.
pub(super) fn reused() -> ApiError {
    let message = "this Idempotency-Key was used with another body";
    ApiError::new(ErrorCode::IdempotencyKeyReused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_4_is_a_key() {
        assert!(IdempotencyKey::parse("8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11").is_ok());
        for bad in [
            "",
            "1",
            "8b7f6c9e-0d7a-1e1f-9a57-2f6b6f0f7f11",
            "8b7f6c9e-0d7a-4e1f-0a57-2f6b6f0f7f11",
        ] {
            let code = IdempotencyKey::parse(bad).err().map(|error| error.code);
            assert_eq!(code, Some(ErrorCode::InvalidIdempotencyKey), "{bad}");
        }
    }

    #[test]
    fn what_may_change_is_not_kept() {
        let kept = |status| StoredReply { status, body: Value::Null }.may_be_kept();
        for status in [200, 201, 400, 404, 409, 422] {
            assert!(kept(status), "{status}");
        }
        for status in [401, 403, 429, 500, 503] {
            assert!(!kept(status), "{status}");
        }
    }
}
