//! The host's programs that make up the sandbox, and why they cannot be had.

use std::path::{Path, PathBuf};

use super::Piece;

/// Where the programs are looked for. Not `PATH`: it belongs to whoever started the node.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"];

/// The programs that make up the sandbox.
#[derive(Debug, Clone)]
pub struct Tools {
    pub(super) bwrap: PathBuf,
    pub(super) ionice: PathBuf,
    /// For jobs of another user, where the node has no right to set that one's limits.
    pub(super) prlimit: PathBuf,
}

/// Why no job can be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A program is not installed.
    #[error("{program} is not installed (Debian: apt install {package})")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// The owner insists on a part of the isolation that cannot be had.
    #[error("sandbox.require names {piece}, which cannot be had: {why}")]
    Lacking {
        /// The part.
        piece: Piece,
        /// Why not, and what the owner can do about it.
        why: String,
    },
    /// The sandbox was tried and failed.
    #[error("{0}")]
    Refused(String),
}

impl Tools {
    /// Finds them.
    ///
    /// # Errors
    /// The first one that is missing.
    pub fn find() -> Result<Self, Unavailable> {
        Ok(Self {
            bwrap: find("bwrap", "bubblewrap")?,
            ionice: find("ionice", "util-linux")?,
            prlimit: find("prlimit", "util-linux")?,
        })
    }
}

fn find(program: &'static str, package: &'static str) -> Result<PathBuf, Unavailable> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .ok_or(Unavailable::Missing { program, package })
}
