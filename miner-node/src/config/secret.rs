//! A text that must not be shown. Where it comes from and where it is sent lives elsewhere.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in for a secret wherever one would be printed.
pub const REDACTED: &str = "***";

/// No secret in a file is longer.
const MAX_BYTES: u64 = 4096;

/// A text that prints and serializes as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What the file at `path` holds, without the blanks around it.
    ///
    /// # Errors
    /// Where it cannot be read, or holds nothing or too much.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        match text.trim() {
            "" => Err(io::Error::other("it is empty")),
            _ if text.len() as u64 > MAX_BYTES => Err(io::Error::other("it is too long for a key")),
            text => Ok(Self::new(text)),
        }
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the placeholders that sample files carry.
    pub fn is_placeholder(&self) -> bool {
        self.0.starts_with("REPLACE_") || self.0 == "CHANGE_ME"
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("k1.very-secret");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "k1.very-secret");
    }

    #[test]
    fn a_file_holds_one_line_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, " k1.very-secret\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().expose(), "k1.very-secret");
        for text in [" \n".to_owned(), "x".repeat(5000)] {
            std::fs::write(&path, text).unwrap();
            assert!(Secret::read(&path).is_err());
        }
    }

    #[test]
    fn placeholders_are_known() {
        assert!(Secret::new("REPLACE_WITH_WALLET_API_KEY").is_placeholder());
        assert!(Secret::new("CHANGE_ME").is_placeholder());
        assert!(!Secret::new("k1.secret").is_placeholder());
    }
}
