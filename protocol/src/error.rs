//! Error codes: the ones an HTTP reply carries, and the ones with which a miner ends a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident, $what:literal { $(#[doc = $meaning:literal] $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)*
        }

        impl $name {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl $name {
            /// What it means, in the words of the documentation.
            pub fn meaning(self) -> &'static str {
                let text = match self {
                    $(Self::$variant => $meaning,)*
                };
                // The number in front is the status, which `status` has, too.
                let text = text.trim_start();
                text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | ' '))
                    .trim_end_matches('.')
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let codes: Vec<_> = Self::ALL.iter().map(|code| code.as_str()).collect();
                schemars::json_schema!({
                    "description": concat!("An ", $what, "."),
                    "type": "string",
                    "enum": codes
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownCode($what)),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// A code that this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownCode(&'static str);

codes! {
    /// The `error.code` of a non-2xx reply.
    ErrorCode, "error code" {
        /// 400: the body is no JSON.
        InvalidJson = "INVALID_JSON",
        /// 400: a query, path or header value is malformed.
        InvalidParam = "INVALID_PARAM",
        /// 400: `Idempotency-Key` is not a version 4 UUID.
        InvalidIdempotencyKey = "INVALID_IDEMPOTENCY_KEY",
        /// 401: the key is missing, unknown or revoked.
        UnauthorizedKey = "UNAUTHORIZED_KEY",
        /// 402: a prepaid client cannot cover the hold.
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        /// 403: the key's scope does not cover this call.
        ForbiddenScope = "FORBIDDEN_SCOPE",
        /// 403: the miner or job belongs to another key.
        MinerMismatch = "MINER_MISMATCH",
        /// 403: the wallet belongs to another key.
        WalletMismatch = "WALLET_MISMATCH",
        /// 403: the operator has banned this client; the message says why.
        Banned = "BANNED",
        /// 404: no such job, or another client's.
        JobNotFound = "JOB_NOT_FOUND",
        /// 404: the miner neither registered nor sent a heartbeat.
        MinerNotRegistered = "MINER_NOT_REGISTERED",
        /// 404: no such wallet.
        WalletNotFound = "WALLET_NOT_FOUND",
        /// 404: the job has no receipt (yet).
        ReceiptNotFound = "RECEIPT_NOT_FOUND",
        /// 404: no such artifact.
        ArtifactNotFound = "ARTIFACT_NOT_FOUND",
        /// 404: no such input.
        InputNotFound = "INPUT_NOT_FOUND",
        /// 404: no such key.
        KeyNotFound = "KEY_NOT_FOUND",
        /// 404: no such route.
        NotFound = "NOT_FOUND",
        /// 405: the route exists, the method does not.
        MethodNotAllowed = "METHOD_NOT_ALLOWED",
        /// 408: the request did not arrive or finish in time.
        RequestTimeout = "REQUEST_TIMEOUT",
        /// 409: the job's state does not allow this.
        ConflictState = "CONFLICT_STATE",
        /// 409: the lease is no longer held.
        LeaseLost = "LEASE_LOST",
        /// 409: the job has a proof with another hash.
        DuplicateProof = "DUPLICATE_PROOF",
        /// 409: the first request with this key is still running.
        IdempotencyInFlight = "IDEMPOTENCY_IN_FLIGHT",
        /// 413: the body is larger than allowed.
        PayloadTooLarge = "PAYLOAD_TOO_LARGE",
        /// 415: the body's content type is not the one expected.
        UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
        /// 416: the file is shorter than the range that was asked for.
        RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE",
        /// 422: a field is missing, malformed or out of range; `details.field` names it.
        InvalidPayload = "INVALID_PAYLOAD",
        /// 422: bytes do not have the hash that was stated.
        HashMismatch = "HASH_MISMATCH",
        /// 422: the receipt does not verify, or states something else than the job.
        BadSignature = "BAD_SIGNATURE",
        /// 422: more units claimed than the coordinator can vouch for; `details.max_units`.
        UnitsExceeded = "UNITS_EXCEEDED",
        /// 422: the key was used with another body.
        IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
        /// 425: the job has not ended.
        JobNotReady = "JOB_NOT_READY",
        /// 426: the node's protocol version is no longer served.
        UpgradeRequired = "UPGRADE_REQUIRED",
        /// 429: too many requests; `Retry-After` says when to come back.
        RateLimited = "RATE_LIMITED",
        /// 429: the client has as many jobs as the operator allows; `details.quota` names the limit.
        QuotaExceeded = "QUOTA_EXCEEDED",
        /// 429: what may be issued today is spent or promised.
        DailyCapReached = "DAILY_CAP_REACHED",
        /// 500: a fault of the coordinator; the log has it.
        Internal = "INTERNAL",
        /// 503: the database cannot be reached.
        DbUnavailable = "DB_UNAVAILABLE",
        /// 503: `require_now` was asked and nobody can run the job now; `details.why` says why.
        NoEligibleMiner = "NO_ELIGIBLE_MINER",
        /// 503: the operator takes in no jobs for now.
        IntakePaused = "INTAKE_PAUSED",
        /// 503: too much is queued, or the coordinator is shutting down.
        Overloaded = "OVERLOADED",
    }
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidJson | Self::InvalidParam | Self::InvalidIdempotencyKey => 400,
            Self::UnauthorizedKey => 401,
            Self::InsufficientFunds => 402,
            Self::ForbiddenScope | Self::MinerMismatch | Self::WalletMismatch | Self::Banned => 403,
            Self::JobNotFound
            | Self::MinerNotRegistered
            | Self::WalletNotFound
            | Self::ReceiptNotFound
            | Self::ArtifactNotFound
            | Self::InputNotFound
            | Self::KeyNotFound
            | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::ConflictState
            | Self::LeaseLost
            | Self::DuplicateProof
            | Self::IdempotencyInFlight => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RangeNotSatisfiable => 416,
            Self::InvalidPayload
            | Self::HashMismatch
            | Self::BadSignature
            | Self::UnitsExceeded
            | Self::IdempotencyKeyReused => 422,
            Self::JobNotReady => 425,
            Self::UpgradeRequired => 426,
            Self::RateLimited | Self::QuotaExceeded | Self::DailyCapReached => 429,
            Self::Internal => 500,
            Self::DbUnavailable | Self::NoEligibleMiner | Self::IntakePaused | Self::Overloaded => {
                503
            }
        }
    }
}

codes! {
    /// With what a miner ends a job that it could not finish.
    FailureCode, "failure code" {
        /// The node's owner or allowlist does not permit the job.
        Deny = "E_DENY",
        /// The node has no runner for the workload.
        Unsupported = "E_UNSUPPORTED",
        /// An input is missing, too large or has another hash.
        Input = "E_INPUT",
        /// The manifest's signature does not verify.
        Signature = "E_SIGNATURE",
        /// The GPU that was advertised is not there.
        NoGpu = "E_NOGPU",
        /// Memory ran out.
        Oom = "E_OOM",
        /// A time limit ran out.
        Timeout = "E_TIMEOUT",
        /// The program ended with a non-zero code.
        Exit = "E_EXIT",
        /// The program was ended by a signal.
        Signal = "E_SIGNAL",
        /// Too much output, or a declared artifact is missing.
        Output = "E_OUTPUT",
        /// The job was canceled.
        Canceled = "E_CANCELED",
        /// The node or its program died; also what the coordinator writes when a lease expires.
        Crash = "E_CRASH",
        /// The results could not be uploaded.
        Upload = "E_UPLOAD",
        /// The network egress that the job was promised is not to be had, or the job used more traffic than the node gives.
        Egress = "E_EGRESS",
        /// A fault of the node.
        Internal = "E_INTERNAL",
    }
}

/// The body of every non-2xx reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ErrorDetail {
    /// The stable code; text, so that a client survives codes that are newer than itself.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// More, by name; always an object.
    #[serde(default)]
    pub details: Map<String, Value>,
}

impl ErrorDetail {
    /// The code, if this build knows it.
    pub fn known_code(&self) -> Option<ErrorCode> {
        self.code.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!((400..=599).contains(&code.status()));
        }
        for code in FailureCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(code.as_str().starts_with("E_"));
        }
        assert!("E_FOO".parse::<FailureCode>().is_err());
    }
}
