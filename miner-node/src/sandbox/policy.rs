//! What the owner decided about all jobs alike: whom they give way to, as whom they run, and
//! without which part of the isolation none is run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::isolation::Piece;

/// Where distributions mount the hierarchies of control groups.
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// The owner's decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Niceness, 0 to 19; the node's own where that is higher.
    pub nice: u8,
    /// When the disk serves them.
    pub disk_turn: DiskTurn,
    /// The processors that they may use, by number; empty: all.
    pub processors: Vec<usize>,
    /// Where user ids for them come from; absent: they run as the node's user.
    pub users: Option<UserRange>,
    /// Where those other users have to come by; absent paths are passed over.
    pub reached: Vec<PathBuf>,
    /// The parts of the isolation without which no job is run.
    pub required: Vec<Piece>,
    /// Where the kernel's control groups are.
    pub hierarchies: PathBuf,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            nice: 0,
            disk_turn: DiskTurn::BestEffort,
            processors: Vec::new(),
            users: None,
            reached: Vec::new(),
            required: Vec::new(),
            hierarchies: PathBuf::from(HIERARCHIES),
        }
    }
}

/// When the disk serves jobs; matters to I/O schedulers that know classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskTurn {
    /// Best effort, level 6 of 0 to 7: after most others.
    #[default]
    BestEffort,
    /// When nobody else wants it.
    Idle,
}

/// User ids that belong to nobody; each running job has one to itself, and the group of the same
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A user, and the group of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Of both.
    pub id: u32,
}
