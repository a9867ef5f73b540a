//! What an event carries, collected from it and from the spans around it.

use std::fmt;

use protocol::Timestamp;
use serde_json::{Map, Value};
use tracing::Level;
use tracing::field::{Field, Visit};

/// Fields by name; an inner one replaces an outer one.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.set(field, text.into());
    }
}

/// Everything that a line can say.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    pub(super) message: String,
    /// The event's stable name, where it has one.
    pub(super) event: Option<String>,
    pub(super) job_id: Option<String>,
    pub(super) attrs: Map<String, Value>,
}

impl Line {
    pub(super) fn new(at: Timestamp, level: Level, mut fields: Fields) -> Self {
        Self {
            at,
            level,
            message: fields.take_text("message").unwrap_or_default(),
            event: fields.take_text("event"),
            job_id: fields.take_text("job_id"),
            attrs: fields.0,
        }
    }
}
