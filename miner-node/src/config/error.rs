//! What can be wrong with a configuration. Each message names the key and where it was set.

use std::path::PathBuf;

use super::grammar::GrammarError;
use super::origin::Origin;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), hint(error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is far larger than any configuration.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file is no YAML.
    #[error("{}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A line of `miner.conf` is no assignment.
    #[error("{}:{line}: {error}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        error: GrammarError,
    },
    /// A key that does not exist.
    #[error("unknown key {name} in {origin}{}", nearest.as_deref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// The key as written.
        name: String,
        /// Where.
        origin: Origin,
        /// The key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that does not fit its key.
    #[error("{key} in {origin}: {message}")]
    Value {
        /// The key as written there.
        key: String,
        /// Where.
        origin: Origin,
        /// What is wrong; never the value of a secret.
        message: String,
    },
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            " (run as its owner, or name another with --config)"
        }
        _ => "",
    }
}
