//! The host's programs that make up the sandbox, and why they cannot be had.

use std::path::{Path, PathBuf};

/// Where the programs are looked for. Not `PATH`: it belongs to whoever started the node.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"];

/// The programs that make up the sandbox.
#[derive(Debug, Clone)]
pub struct Tools {
    pub(super) bwrap: PathBuf,
    pub(super) ionice: PathBuf,
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
        Ok(Self { bwrap: find("bwrap", "bubblewrap")?, ionice: find("ionice", "util-linux")? })
    }
}

fn find(program: &'static str, package: &'static str) -> Result<PathBuf, Unavailable> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .ok_or(Unavailable::Missing { program, package })
}
