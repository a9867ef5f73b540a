//! What the owner consents to: which jobs, and what they may reach.

use protocol::Amount;
use serde::{Deserialize, Serialize};

use super::Selection;
use crate::egress::Rule;

/// Which jobs the owner consents to; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accept {
    /// Workloads.
    pub workloads: Selection,
    /// Clients.
    pub clients: Selection,
    /// The least unit price, in AITBC.
    pub min_price: Amount,
    /// The longest run time that a job may ask for, in seconds.
    pub max_runtime_s: u32,
    /// Hosts, besides the coordinator, from which a job's input may be fetched.
    pub input_hosts: Vec<String>,
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            workloads: Selection::Any,
            clients: Selection::Any,
            min_price: Amount::ZERO,
            max_runtime_s: 3600,
            input_hosts: Vec::new(),
        }
    }
}

/// What jobs may reach that ask for network access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// `host:port` or `*.domain:port`; empty: nothing, and jobs that ask for it are refused.
    pub allow: Vec<Rule>,
    /// The most traffic of a job, both ways together, in MiB.
    pub max_mb: u32,
}

impl Default for Egress {
    fn default() -> Self {
        Self { allow: Vec::new(), max_mb: 1024 }
    }
}
