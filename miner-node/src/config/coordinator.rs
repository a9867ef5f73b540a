//! How the coordinator is spoken to: where it is, and the pace of questions and signs of life.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BaseUrl, Secret};

/// The coordinator, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coordinator {
    /// Where it is (`COORD_URL`); a path prefix is kept.
    pub base_url: BaseUrl,
    /// The API key (`API_KEY`), already read from its file or variable.
    pub auth_token: Option<Secret>,
    /// A file that holds the API key (`API_KEY_FILE`).
    pub auth_token_file: Option<PathBuf>,
    /// A PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the node's own certificate and its key.
    pub client_cert_file: Option<PathBuf>,
    /// Permits plain HTTP to other machines (`ALLOW_INSECURE`).
    pub allow_insecure: bool,
    /// Longest wait for a connection, in seconds.
    pub connect_timeout_s: u32,
    /// Longest wait for a reply, in seconds (a long-poll's wait comes on top).
    pub timeout_s: u32,
}

/// Asking for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// Pause between two questions where the coordinator does not hold them, in seconds
    /// (`JOB_POLL_SECS`).
    pub interval_s: u32,
    /// How long the coordinator may hold a question, in seconds, at most 30; 0: not at all.
    pub wait_s: u32,
}

/// Signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Pause between two, in seconds, until the coordinator names another (`HEARTBEAT_SECS`).
    pub interval_s: u32,
    /// By how many per cent a pause varies, so that a fleet does not beat as one.
    pub jitter_pct: u8,
    /// Pauses after failed calls; they grow twofold.
    pub backoff: Backoff,
}

/// Pauses after failed calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first, in seconds.
    pub min_s: u32,
    /// The longest, in seconds.
    pub max_s: u32,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            base_url: BaseUrl::default(),
            auth_token: None,
            auth_token_file: None,
            ca_file: None,
            client_cert_file: None,
            allow_insecure: false,
            connect_timeout_s: 5,
            timeout_s: 30,
        }
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self { interval_s: 3, wait_s: 25 }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_s: 20, jitter_pct: 10, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min_s: 1, max_s: 60 }
    }
}
