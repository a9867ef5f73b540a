//! What an owner may want to prove later, one JSON object per line in `audit.jsonl` of the state
//! directory: starts, with what was configured, and jobs that were denied. Only ever appended to.
//!
//! Not a log: levels and formats do not touch it. Nothing secret is in it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use protocol::{Job, Sha256Hex, Timestamp};
use serde_json::{Value, json};
use tracing::warn;

use crate::config::Config;
use crate::identity::Identity;
use crate::private;
use crate::runners::Refusal;

/// The file.
const FILE: &str = "audit.jsonl";

/// Where the earlier lines go when the file is full: denied jobs must not fill the disk.
const EARLIER: &str = "audit.1.jsonl";

/// How large a file may grow, in bytes.
const FULL: u64 = 8 << 20;

/// The record.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    /// One line at a time.
    writing: Mutex<()>,
}

impl Audit {
    /// In the state directory, which exists.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), writing: Mutex::default() }
    }

    /// The node starts, with this configuration.
    pub fn started(&self, at: Timestamp, config: &Config, identity: &Identity) {
        // Secrets are shown as such, so the hash says nothing about them.
        let shown = serde_json::to_vec(config).unwrap_or_default();
        let data = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pubkey": identity.pubkey(),
            "config_sha256": Sha256Hex::of(&shown),
            "accept": config.accept,
            "allowlist_dir": config.runners.cli.allowlist_dir,
        });
        self.note(at, "node.start", identity.node_id.as_str(), &data);
    }

    /// A job was not run, because of what the owner or the allowlist permits.
    pub fn denied(&self, at: Timestamp, job: &Job, refusal: &Refusal) {
        let data = json!({
            "workload": job.workload, "command": job.command, "reason": refusal.message,
        });
        self.note(at, "job.deny", &job.id.to_string(), &data);
    }

    fn note(&self, at: Timestamp, action: &str, subject: &str, data: &Value) {
        let line = json!({ "at": at, "action": action, "subject": subject, "data": data });
        if let Err(error) = self.append(&format!("{line}\n")) {
            warn!(event = "audit", %error, "{FILE} cannot be written; {action} of {subject} is not in it");
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.directory.join(FILE);
        if fs::symlink_metadata(&path).is_ok_and(|file| file.len() >= FULL) {
            fs::rename(&path, self.directory.join(EARLIER))?;
        }
        private::file().append(true).create(true).open(&path)?.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_appended_and_a_full_file_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path());
        let at = Timestamp::from_micros(0);
        let path = dir.path().join(FILE);
        for subject in ["a", "b"] {
            audit.note(at, "job.deny", subject, &json!({"reason": "a \"reason\"\nin lines"}));
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!([&lines[0]["subject"], &lines[1]["subject"]], ["a", "b"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::File::options().write(true).open(&path).unwrap().set_len(FULL).unwrap();
        audit.note(at, "job.deny", "c", &Value::Null);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::metadata(dir.path().join(EARLIER)).unwrap().len(), FULL);
    }

    #[test]
    fn what_cannot_be_written_stops_nobody() {
        Audit::new(Path::new("/nowhere")).note(Timestamp::from_micros(0), "a", "b", &Value::Null);
    }
}
