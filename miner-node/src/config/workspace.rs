//! The section `workspace`: where jobs live on disk, and for how long.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where jobs live on disk, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workspace {
    /// The directory (`WORK_DIR`); jobs are in `jobs/` below it.
    pub root: PathBuf,
    /// With less free space than this, in MiB, no job is taken; 0: never mind.
    pub min_free_mb: u32,
    /// The most that is kept of input files for the next job that needs them, in MiB; 0: nothing.
    pub input_cache_mb: u32,
    /// How long a finished job's files are kept, in hours.
    pub keep_success_h: u32,
    /// How long a failed job's files are kept, in hours.
    pub keep_failed_h: u32,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/aitbc/miner"),
            min_free_mb: 1024,
            input_cache_mb: 4096,
            keep_success_h: 24,
            keep_failed_h: 168,
        }
    }
}
