//! Events: the append-only history of every job, and whoever follows it.
//!
//! A job's log is part of its history, save for its text: that stays in `job_logs`, where it can be
//! deleted, and an event says which piece of which chunk it is. Until an attempt is paid only the
//! first bytes of its log become events; the rest does when its proof is accepted.

pub mod follow;
pub mod routes;
pub mod store;

use protocol::event::Happening;
use protocol::{JobId, JobState, Timestamp};
use serde_json::{Value, json};

/// How much of an attempt's log is shown before it is paid, in bytes: nobody gets results for
/// nothing.
pub const UNPAID_LOG_BYTES: usize = 4096;

/// One event of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The job.
    pub job_id: JobId,
    /// Its number within the job, from 1, assigned under the lock of the job's row.
    pub seq: i32,
    /// When.
    pub at: Timestamp,
    /// What kind: `state`, `progress` or `log`.
    pub kind: &'static str,
    /// What happened.
    pub data: Value,
}

/// A piece of a log: which bytes of which chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// By which lease.
    pub fence: i64,
    /// The miner's number of the chunk.
    pub chunk: i64,
    /// Its first bytes that belong to the event, up to here.
    pub to: usize,
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

    /// How far a job is.
    pub fn progress(
        job_id: JobId,
        seq: i32,
        at: Timestamp,
        (pct, note): (Option<i16>, Option<&str>),
    ) -> Self {
        let data = json!({ "pct": pct, "note": note });
        Self { job_id, seq, at, kind: "progress", data }
    }

    /// The beginning of a chunk of a job's log.
    pub fn log(job_id: JobId, seq: i32, at: Timestamp, stream: &str, piece: Piece) -> Self {
        let Piece { fence, chunk, to } = piece;
        let data = json!({ "fence": fence, "stream": stream, "chunk": chunk, "from": 0, "to": to });
        Self { job_id, seq, at, kind: "log", data }
    }
}

/// What is told of a stored event; `body` is the text of the chunk that it is about, as long as
/// there is one.
///
/// # Errors
/// Where it was not stored by this module.
pub fn told(
    kind: &str,
    mut data: Value,
    body: Option<&str>,
) -> Result<Happening, serde_json::Error> {
    if let Some(fields) = data.as_object_mut() {
        let mut place =
            |name| fields.remove(name).and_then(|at| usize::try_from(at.as_u64()?).ok());
        if kind == "log" {
            let (from, to) = (place("from"), place("to"));
            fields.remove("chunk");
            let text = body.zip(from.zip(to)).and_then(|(body, (from, to))| body.get(from..to));
            fields.insert("text".to_owned(), text.into());
        }
        fields.insert("kind".to_owned(), kind.into());
        fields.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(data)
}

/// How much of a chunk may become an event at once: all of it, or its first bytes up to a border
/// of characters where the attempt is about to have shown what it may.
pub fn showable(text: &str, shown: usize, withheld: bool) -> usize {
    // Behind a gap nothing is shown: a log is read in order.
    let room = if withheld { 0 } else { UNPAID_LOG_BYTES.saturating_sub(shown) };
    text.floor_char_boundary(room.min(text.len()))
}

#[cfg(test)]
mod tests {
    use protocol::miner::LogStream;

    use super::*;

    fn id() -> JobId {
        JobId::from_u128(7)
    }

    #[test]
    fn what_is_stored_is_told() {
        let now = Timestamp::from_micros(0);
        let more = json!({ "attempt": 1, "error": null });
        let state = Event::state(id(), 1, now, JobState::Assigned, more);
        let happening = told(state.kind, state.data, None).unwrap();
        assert_eq!(
            serde_json::to_value(happening).unwrap(),
            json!({"kind": "state", "state": "ASSIGNED", "attempt": 1})
        );
        let progress = Event::progress(id(), 2, now, (Some(10), None));
        let happening = told(progress.kind, progress.data, None).unwrap();
        assert_eq!(happening, Happening::Progress { pct: Some(10), note: None });
        let piece = Piece { fence: 3, chunk: 0, to: 5 };
        let log = Event::log(id(), 3, now, "stdout", piece);
        let expected = |text: Option<&str>| Happening::Log {
            fence: 3,
            stream: LogStream::Stdout,
            text: text.map(str::to_owned),
        };
        let told_of = |body| told(log.kind, log.data.clone(), body).unwrap();
        assert_eq!(told_of(Some("hello world")), expected(Some("hello")));
        assert_eq!(told_of(None), expected(None));
        assert_eq!(told_of(Some("")), expected(None));
    }

    #[test]
    fn an_unpaid_log_is_shown_up_to_its_limit_and_not_beyond_a_gap() {
        let long = "x".repeat(5000);
        assert_eq!(showable("hello", 0, false), 5);
        assert_eq!(showable(&long, 0, false), UNPAID_LOG_BYTES);
        assert_eq!(showable(&long, 4000, false), 96);
        assert_eq!(showable("x", UNPAID_LOG_BYTES, false), 0);
        assert_eq!(showable("é", UNPAID_LOG_BYTES - 1, false), 0);
        assert_eq!(showable("x", 10, true), 0);
    }
}
