//! A text that must not be shown. Where it comes from and where it is sent lives elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in for a secret wherever one would be printed.
pub const REDACTED: &str = "***";

/// A text that prints and serializes as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
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
    fn placeholders_are_known() {
        assert!(Secret::new("REPLACE_WITH_WALLET_API_KEY").is_placeholder());
        assert!(Secret::new("CHANGE_ME").is_placeholder());
        assert!(!Secret::new("k1.secret").is_placeholder());
    }
}
