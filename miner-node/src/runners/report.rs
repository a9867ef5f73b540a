//! What a program of the node's own says, from inside the sandbox, about the job that it ran: one
//! line at the very end of standard error. Python's driver and the WebAssembly engine do so.
//!
//! Whatever the job itself printed stands before it, and a log that was cut off is no success: a
//! line that counts was written by our program, after the job had ended.

use std::path::Path;

use protocol::FailureCode;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::output;

/// What the line begins with.
const MARK: &str = "aitbc-run: ";

/// The exit code of a program whose report says why the job failed. WASI knows codes up to 125.
pub const REPORTED: i32 = 126;

/// The longest line, in bytes: a sentence in which every character is escaped.
const LONGEST: u64 = 8192;

/// The longest sentence, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Failures that a report may state: nothing else can be known in there.
const KNOWN: [FailureCode; 9] = [
    FailureCode::Deny,
    FailureCode::Exit,
    FailureCode::Input,
    FailureCode::NoGpu,
    FailureCode::Oom,
    FailureCode::Output,
    FailureCode::Signal,
    FailureCode::Timeout,
    FailureCode::Unsupported,
];

/// The line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Fuel that was burnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Why the job failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Report {
    /// The one at the end of the log `stderr`; an empty one where there is none.
    pub fn read(stderr: &Path) -> Self {
        let text = output::tail(stderr, LONGEST);
        let line = text.lines().next_back().and_then(|line| line.strip_prefix(MARK));
        line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    /// The line itself. It begins anew, wherever the job left off.
    pub fn line(&self) -> String {
        let message = self.message.as_deref().map(shortened);
        let short = Self { message, ..self.clone() };
        format!("\n{MARK}{}\n", serde_json::to_string(&short).unwrap_or_default())
    }

    /// The failure that it states.
    pub fn refusal(&self) -> Option<Refusal> {
        let code = self.code.filter(|code| KNOWN.contains(code))?;
        let message = self.message.as_deref().unwrap_or_default();
        Some(Refusal::new(code, shortened(message)))
    }
}

fn shortened(message: &str) -> String {
    message.chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Report {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stderr.log");
        std::fs::write(&path, text).unwrap();
        Report::read(&path)
    }

    #[test]
    fn the_last_line_counts_and_no_other() {
        let burnt = Report { fuel: Some(7), ..Report::default() };
        assert_eq!(read(&format!("no newline{}", burnt.line())), burnt);
        assert_eq!(read(&format!("aitbc-run: {{\"fuel\":9}}{}", burnt.line())), burnt);
        for text in ["", "aitbc-run: {\"fuel\":9}\nmore\n", "aitbc-run: {", "x aitbc-run: {}"] {
            assert_eq!(read(text), Report::default(), "{text}");
        }
        assert_eq!(read(&"x".repeat(1 << 20)), Report::default());
        let long = Report { message: Some("\u{1}".repeat(10_000)), ..burnt };
        assert_eq!(read(&long.line()).fuel, Some(7));
    }

    #[test]
    fn only_what_can_be_known_in_there_is_passed_on() {
        let oom = read("aitbc-run: {\"code\":\"E_OOM\",\"message\":\"too much\"}\n");
        assert_eq!(oom.refusal(), Some(Refusal::new(FailureCode::Oom, "too much")));
        assert_eq!(read("aitbc-run: {\"code\":\"E_CANCELED\"}\n").refusal(), None);
        assert_eq!(read("aitbc-run: {\"code\":\"E_MADE_UP\"}\n").refusal(), None);
        assert_eq!(read("aitbc-run: {\"fuel\":1}\n").refusal(), None);
    }
}
