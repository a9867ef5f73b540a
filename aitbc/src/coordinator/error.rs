//! What can go wrong with a call, in words for people, and whether a second try makes sense.

use std::fmt;
use std::time::Duration;

use protocol::ErrorBody;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::{Map, Value};

use super::backoff::Repeat;
use crate::output::printable;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or none to the end.
    #[error("the coordinator cannot be reached: {0}")]
    Unreachable(String),
    /// The coordinator answered something else than success.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The reply was not what the protocol says.
    #[error("the coordinator's reply makes no sense: {0}")]
    Nonsense(String),
    /// The request could not be made.
    #[error("the request cannot be made: {0}")]
    Local(String),
    /// A file that is sent or received cannot be used.
    #[error("{0}")]
    File(String),
}

/// An answer that is no success.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code of the error body; empty where there was none.
    pub code: String,
    /// The sentence of the error body.
    pub message: String,
    /// The details of the error body.
    pub details: Map<String, Value>,
    /// Under which the coordinator's log has it.
    pub request_id: Option<String>,
    /// For how long to stay away.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads the answer `body`, which need not come from a coordinator.
    pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let bare = Self {
            status,
            request_id: header("x-request-id"),
            retry_after: retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs),
            ..Self::default()
        };
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => {
                Self { code: error.code, message: error.message, details: error.details, ..bare }
            }
            Err(_) => bare,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            return write!(f, "HTTP {} without an explanation", self.status);
        }
        write!(f, "{} ({}): {}", printable(&self.code), self.status, printable(&self.message))?;
        for (name, value) in &self.details {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(f, "\n  {}: {}", printable(name), printable(&value))?;
        }
        match &self.request_id {
            Some(id) => write!(f, "\n  request id: {}", printable(id)),
            None => Ok(()),
        }
    }
}

impl CallError {
    /// The code of the coordinator's answer.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            _ => "",
        }
    }

    /// The least pause before another try, where one makes sense.
    pub fn pause(&self, repeat: Repeat) -> Option<Duration> {
        match self {
            Self::Local(_) | Self::File(_) => None,
            Self::Unreachable(_) | Self::Nonsense(_) => {
                (repeat == Repeat::Safe).then_some(Duration::ZERO)
            }
            Self::Refused(refusal) => {
                let passes = match (refusal.code.as_str(), refusal.status) {
                    ("IDEMPOTENCY_IN_FLIGHT", _) => true,
                    // Waiting a few seconds changes none of these.
                    ("NO_ELIGIBLE_MINER" | "QUOTA_EXCEEDED" | "DAILY_CAP_REACHED", _) => false,
                    (_, 429) => true,
                    (_, 408 | 500 | 502 | 503 | 504) => repeat == Repeat::Safe,
                    _ => false,
                };
                passes.then(|| refusal.retry_after.unwrap_or_default())
            }
        }
    }

    /// Whether the coordinator may have done what was asked, for all that is known.
    pub fn may_have_worked(&self) -> bool {
        match self {
            Self::Local(_) | Self::File(_) => false,
            Self::Unreachable(_) | Self::Nonsense(_) => true,
            Self::Refused(refusal) => match (refusal.code.as_str(), refusal.status) {
                ("IDEMPOTENCY_IN_FLIGHT", _) => true,
                // Said instead of taking anything in.
                (
                    "INTAKE_PAUSED" | "QUOTA_EXCEEDED" | "DAILY_CAP_REACHED" | "NO_ELIGIBLE_MINER"
                    | "RATE_LIMITED",
                    _,
                ) => false,
                (_, status) => status == 408 || status >= 500,
            },
        }
    }

    /// What can be done about it.
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Refused(refusal) = self else {
            return match self {
                Self::Unreachable(_) => {
                    Some("is the address right (`aitbc config show`), and does it run?")
                }
                _ => None,
            };
        };
        Some(match (refusal.code.as_str(), refusal.status) {
            ("UNAUTHORIZED_KEY", _) => {
                "name a key: AITBC_KEY_FILE, --key-file, or a profile (`aitbc config show` says \
                 which one counts)"
            }
            ("FORBIDDEN_SCOPE", _) => "this needs a key of another scope; see --profile",
            ("JOB_NOT_FOUND", _) => "`aitbc jobs` lists your jobs",
            ("JOB_NOT_READY", _) => "`aitbc job wait ID` waits until it has ended",
            ("INSUFFICIENT_FUNDS", _) => "`aitbc wallet balance` says what there is",
            ("BANNED", _) => "only the operator can lift that; the reason is above",
            ("QUOTA_EXCEEDED", _) => {
                "wait until your jobs end, or the day (UTC) does; the operator sets the limit"
            }
            ("DAILY_CAP_REACHED", _) => "the market has paid what it may today (UTC); try tomorrow",
            ("INTAKE_PAUSED", _) => "the operator takes no jobs in now; those taken in go on",
            ("RANGE_NOT_SATISFIABLE", _) => {
                "what is there is no part of this file; remove the .part file and fetch it again"
            }
            ("NO_ELIGIBLE_MINER", _) => "without --require-now the job waits for a miner",
            ("IDEMPOTENCY_KEY_REUSED", _) => {
                "this key was used for something else; leave --idempotency-key out for a new one"
            }
            ("CONFLICT_STATE", _) => "look again at what there is, then decide anew",
            ("", 400..=499) => "this is no coordinator, or one without this endpoint; see --url",
            _ => return None,
        })
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_with_field_and_request() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "req-1".parse().unwrap());
        headers.insert("retry-after", "7".parse().unwrap());
        let body = br#"{"error":{"code":"INVALID_PAYLOAD","message":"priority: too high",
            "details":{"field":"priority","max":9}}}"#;
        let refusal = Refusal::read(422, &headers, body);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(
            refusal.to_string(),
            "INVALID_PAYLOAD (422): priority: too high\n  field: priority\n  max: 9\n  \
             request id: req-1"
        );
    }

    #[test]
    fn a_proxy_in_between_is_not_the_coordinator() {
        let refusal = Refusal::read(404, &HeaderMap::new(), b"<html>\x1b[2Jnot here</html>");
        assert_eq!(refusal.to_string(), "HTTP 404 without an explanation");
        let error = CallError::Refused(Box::new(refusal));
        assert!(error.advice().unwrap().contains("--url"));
    }
}
