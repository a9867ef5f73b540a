//! The history of a job, as `GET /v1/jobs/{id}/events` streams it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::JobState;
use crate::miner::LogStream;
use crate::time::Timestamp;

/// One event. As a server-sent event, `id` is its `seq`, `event` its kind and `data` all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobEvent {
    /// Its number within the job, from 1, without gaps; `Last-Event-ID` resumes after it.
    pub seq: u32,
    /// When, by the coordinator's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Happening {
    /// Its state changed; the stream ends after a terminal one.
    State {
        /// The new state.
        state: JobState,
        /// Who, why, which attempt: what belongs to this state.
        #[serde(flatten)]
        more: Map<String, Value>,
    },
    /// The node said how far it is.
    Progress {
        /// Per cent done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pct: Option<u8>,
        /// What it is doing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A piece of its log.
    Log {
        /// Which lease's program wrote it.
        fence: i64,
        /// Which stream.
        stream: LogStream,
        /// The text, at most 64 KiB, not necessarily whole lines; absent once it was deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}

impl Happening {
    /// The name of its kind: the `event` field of the stream.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::State { .. } => "state",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
        }
    }

    /// Whether nothing comes after it.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::State { state, .. } if state.is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_flat_objects() {
        let cases = [
            json!({"seq": 1, "at": "2026-01-24T00:00:00Z", "kind": "state", "state": "QUEUED"}),
            json!({"seq": 2, "at": "2026-01-24T00:00:01Z", "kind": "state", "state": "ASSIGNED", "miner_id": "m1"}),
            json!({"seq": 3, "at": "2026-01-24T00:00:02Z", "kind": "progress", "pct": 10}),
            json!({"seq": 4, "at": "2026-01-24T00:00:02Z", "kind": "log", "fence": 1, "stream": "stdout", "text": "hello\n"}),
        ];
        for case in cases {
            let event: JobEvent = serde_json::from_value(case.clone()).unwrap();
            assert_eq!(event.what.kind(), case["kind"]);
            assert_eq!(serde_json::to_value(&event).unwrap(), case);
        }
    }
}
