//! What can go wrong with a call, and what is to be done about it.

use std::time::Duration;

use protocol::{ErrorBody, ErrorCode, Units};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::{Map, Value};

/// The longest pause that a server can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or none to the end.
    #[error("coordinator cannot be reached: {0}")]
    Unreachable(String),
    /// The coordinator answered something else than success.
    #[error("coordinator answered {status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of the error body; empty where there was none.
        code: String,
        /// The sentence of the error body.
        message: String,
        /// The details of the error body.
        details: Map<String, Value>,
        /// For how long to stay away.
        retry_after: Option<Duration>,
    },
    /// The reply was not what the protocol says.
    #[error("coordinator's reply makes no sense: {0}")]
    Nonsense(String),
    /// A host of inputs, which is not the coordinator, did not give one; for how long to leave it
    /// alone.
    #[error("the host of an input does not give it")]
    Foreign(Option<Duration>),
    /// The request could not be made.
    #[error("request cannot be made: {0}")]
    Local(String),
}

/// What is to be done about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Call again after a pause, at least this long.
    Retry(Option<Duration>),
    /// The key is not (or no longer) good, or this version is not served: only the owner can help.
    Owner,
    /// The coordinator does not know this miner (any more): register.
    Register,
    /// The job is not ours any more: drop it.
    Drop,
    /// Claim no more than this.
    Lower(Units),
    /// This request will never succeed.
    GiveUp,
}

impl CallError {
    pub(super) fn local(error: impl std::fmt::Display) -> Self {
        Self::Local(error.to_string())
    }

    pub(crate) fn refused(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let (code, message, details) = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => (body.error.code, body.error.message, body.error.details),
            Err(_) => (String::new(), "no explanation".to_owned(), Map::new()),
        };
        Self::Refused { status, code, message, details, retry_after }
    }

    /// The code of the coordinator's answer, if this build knows it.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => code.parse().ok(),
            _ => None,
        }
    }

    /// What is to be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable(_) | Self::Nonsense(_) => Remedy::Retry(None),
            Self::Foreign(pause) => Remedy::Retry(*pause),
            Self::Local(_) => Remedy::GiveUp,
            Self::Refused { status, details, retry_after, .. } => match (self.code(), status) {
                (Some(ErrorCode::UnitsExceeded), _) => max_units(details),
                (Some(ErrorCode::MinerNotRegistered), _) => Remedy::Register,
                (Some(ErrorCode::IdempotencyInFlight), _) => Remedy::Retry(*retry_after),
                (
                    Some(
                        ErrorCode::LeaseLost
                        | ErrorCode::ConflictState
                        | ErrorCode::DuplicateProof
                        | ErrorCode::JobNotFound,
                    ),
                    _,
                ) => Remedy::Drop,
                (_, 401 | 403 | 426) => Remedy::Owner,
                // Only the coordinator itself, in words that this build knows, can end a matter.
                // Everything else (a redirect, a gateway's page, a code of the future) may pass.
                (Some(_), 400..=499) if !matches!(status, 408 | 425 | 429) => Remedy::GiveUp,
                _ => Remedy::Retry(*retry_after),
            },
        }
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        // The URL may carry a lease token.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        if error.is_builder() { Self::Local(text) } else { Self::Unreachable(text) }
    }
}

fn max_units(details: &Map<String, Value>) -> Remedy {
    let units =
        details.get("max_units").and_then(|units| serde_json::from_value(units.clone()).ok());
    units.map_or(Remedy::GiveUp, Remedy::Lower)
}

/// The pause that a reply asks for; only the form in seconds is used by coordinators.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let secs: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(secs).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, code: &str, details: Value) -> Remedy {
        let body = json!({"error": {"code": code, "message": "m", "details": details}});
        CallError::refused(status, Some(Duration::from_secs(7)), body.to_string().as_bytes())
            .remedy()
    }

    #[test]
    fn each_answer_has_its_remedy() {
        let later = Remedy::Retry(Some(Duration::from_secs(7)));
        for (status, code, remedy) in [
            (500, "INTERNAL", later),
            (503, "DB_UNAVAILABLE", later),
            (503, "SOMETHING_NEW", later),
            (429, "RATE_LIMITED", later),
            (409, "IDEMPOTENCY_IN_FLIGHT", later),
            (401, "UNAUTHORIZED_KEY", Remedy::Owner),
            (403, "FORBIDDEN_SCOPE", Remedy::Owner),
            (426, "UPGRADE_REQUIRED", Remedy::Owner),
            (404, "MINER_NOT_REGISTERED", Remedy::Register),
            (404, "JOB_NOT_FOUND", Remedy::Drop),
            (409, "LEASE_LOST", Remedy::Drop),
            (409, "CONFLICT_STATE", Remedy::Drop),
            (409, "SOMETHING_NEW", later),
            (501, "INTERNAL", later),
            (429, "BAD_SIGNATURE", later),
            (422, "BAD_SIGNATURE", Remedy::GiveUp),
            (400, "INVALID_JSON", Remedy::GiveUp),
        ] {
            assert_eq!(answer(status, code, json!({})), remedy, "{code}");
        }
    }

    #[test]
    fn the_ceiling_comes_with_the_refusal() {
        let units: Units = "3.5".parse().unwrap();
        let remedy = answer(422, "UNITS_EXCEEDED", json!({"max_units": "3.5"}));
        assert_eq!(remedy, Remedy::Lower(units));
        assert_eq!(answer(422, "UNITS_EXCEEDED", json!({})), Remedy::GiveUp);
    }

    #[test]
    fn a_proxy_in_between_is_not_the_coordinator() {
        let page = b"<html>not here</html>";
        for status in [301, 302, 307, 400, 404, 405, 413, 415, 422, 499, 501, 502, 504, 520, 524] {
            let error = CallError::refused(status, None, page);
            assert_eq!(error.remedy(), Remedy::Retry(None), "{status}");
            assert_eq!(error.code(), None);
        }
        assert_eq!(CallError::refused(403, None, page).remedy(), Remedy::Owner);
    }
}
