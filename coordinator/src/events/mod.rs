//! Events: the append-only history of every job.

pub mod store;

use protocol::{JobId, JobState, Timestamp};
use serde_json::{Value, json};

/// One event of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The job.
    pub job_id: JobId,
    /// Its number within the job, from 1, assigned under the lock of the job's row.
    pub seq: i32,
    /// When.
    pub at: Timestamp,
    /// What kind: `state` for all that this room writes itself.
    pub kind: &'static str,
    /// What happened.
    pub data: Value,
}

impl Event {
    /// A change of state, with more to say about it.
    pub fn state(job_id: JobId, seq: i32, at: Timestamp, state: JobState, more: Value) -> Self {
        let mut data = json!({ "state": state });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        Self { job_id, seq, at, kind: "state", data }
    }
}
