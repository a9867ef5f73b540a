//! Where a value comes from, in words that lead an owner to the place.

use std::fmt;
use std::path::PathBuf;

use super::keys::Key;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is built in.
    Default,
    /// A file, and the line in it where that is known.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl Origin {
    /// How `key` is called there: files of two kinds and the environment name it differently.
    pub fn name_of(&self, key: &Key) -> String {
        match self {
            Self::Environment(name) => name.clone(),
            Self::Flag(flag) => (*flag).to_owned(),
            Self::File { line: Some(_), .. } => {
                key.names.first().map_or_else(|| key.long_name(), |name| (*name).to_owned())
            }
            Self::File { line: None, .. } | Self::Default => key.path.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}
