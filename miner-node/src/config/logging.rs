//! The section `logging`: what the node says about itself, and where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the node says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
    /// A file to append to; absent: standard output.
    pub path: Option<PathBuf>,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Debug,
    /// What an owner wants to see.
    #[default]
    Info,
    /// What an owner should look at.
    Warn,
    /// What stops work.
    Error,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time and the seed's words.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}
