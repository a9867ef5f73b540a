//! The isolation that is in force, part by part, and its one canonical text: capabilities and
//! receipts carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is in force besides bubblewrap's namespaces, without which nothing is run.
///
/// Its text names the parts with `+` between them, such as `bwrap+seccomp+cgroup2+own-uid`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Whether system calls are filtered.
    pub filtered: bool,
    /// What holds a job to its limits.
    pub keeper: Keeper,
    /// Whether each job has a user id to itself.
    pub own_user: bool,
}

/// What holds a job to its limits and counts what it uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keeper {
    /// The kernel per process, and a look at the whole tree now and then.
    #[default]
    Rlimits,
    /// Control groups, version 1, for the whole tree.
    Cgroup1,
    /// Control groups, version 2, for the whole tree.
    Cgroup2,
}

/// A part of the isolation that an owner can insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// A filter for system calls.
    Seccomp,
    /// Control groups, of either version.
    Cgroup,
    /// A user id for each job.
    OwnUid,
}

impl Piece {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Seccomp, Self::Cgroup, Self::OwnUid];
}

impl Isolation {
    /// Whether `piece` is in force.
    pub const fn has(&self, piece: Piece) -> bool {
        match piece {
            Piece::Seccomp => self.filtered,
            Piece::Cgroup => !matches!(self.keeper, Keeper::Rlimits),
            Piece::OwnUid => self.own_user,
        }
    }

    /// Which of `pieces` are not in force.
    pub fn lacks(&self, pieces: &[Piece]) -> Vec<Piece> {
        pieces.iter().copied().filter(|piece| !self.has(*piece)).collect()
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = if self.filtered { "+seccomp" } else { "" };
        let user = if self.own_user { "own-uid" } else { "shared-uid" };
        write!(text, "bwrap{filter}+{}+{user}", self.keeper)
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(match self {
            Self::Rlimits => "rlimits",
            Self::Cgroup1 => "cgroup1",
            Self::Cgroup2 => "cgroup2",
        })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(match self {
            Self::Seccomp => "seccomp",
            Self::Cgroup => "cgroup",
            Self::OwnUid => "own-uid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_there_is() {
        let all = Isolation { filtered: true, keeper: Keeper::Cgroup2, own_user: true };
        assert_eq!(all.to_string(), "bwrap+seccomp+cgroup2+own-uid");
        assert_eq!(Isolation::default().to_string(), "bwrap+rlimits+shared-uid");
    }

    #[test]
    fn what_an_owner_insists_on_has_to_be_there() {
        let pieces = [Piece::Seccomp, Piece::Cgroup, Piece::OwnUid];
        assert_eq!(Isolation::default().lacks(&pieces), pieces);
        let some = Isolation { keeper: Keeper::Cgroup1, ..Isolation::default() };
        assert_eq!(some.lacks(&pieces), [Piece::Seccomp, Piece::OwnUid]);
        assert_eq!(some.lacks(&[]), []);
    }
}
