//! The two forms of a line. Text keeps the words of the seed's script (`[BOOT]`, `[JOB]`, `[WARN]`).

use std::fmt::Write as _;

use protocol::Name;
use serde_json::{Value, json};
use tracing::Level;

use super::event::Line;

/// For people: `2026-01-24T00:00:30Z [JOB] start id=... mode=cpu type=hash`.
pub(super) fn text(line: &Line) -> String {
    let mut text = format!("{} ", line.at.whole_secs());
    // A message that begins with a tag already says all that its fields hold.
    let tagged = line.message.starts_with('[');
    if !tagged {
        let _ = write!(text, "[{}] ", tag(line.level));
    }
    push_plain(&mut text, &line.message);
    if tagged {
        return text;
    }
    if let Some(job) = &line.job_id {
        text.push_str(" id=");
        push_plain(&mut text, job);
    }
    for (name, value) in &line.attrs {
        let _ = write!(text, " {name}=");
        match value {
            Value::String(value) => push_plain(&mut text, value),
            other => push_plain(&mut text, &other.to_string()),
        }
    }
    text
}

/// For programs: one object with `ts`, `level`, `node_id`, `job_id`, `event`, `attrs`.
pub(super) fn json(line: &Line, node_id: Option<&Name>) -> String {
    let mut attrs = line.attrs.clone();
    if !line.message.is_empty() {
        attrs.insert("message".to_owned(), line.message.clone().into());
    }
    json!({
        "ts": line.at,
        "level": level(line.level),
        "node_id": node_id,
        "job_id": line.job_id,
        "event": line.event.as_deref().unwrap_or("log"),
        "attrs": attrs,
    })
    .to_string()
}

fn tag(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// What strangers wrote (a job's error, a file name) must not begin a line of its own.
fn push_plain(text: &mut String, value: &str) {
    for c in value.chars() {
        if c.is_control() {
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
}
