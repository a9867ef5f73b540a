//! Ids and names: what identifies a job, a lease, a miner, a wallet, a file inside a job.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

use crate::time::Timestamp;

/// Why an id or a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a ULID of 26 upper-case characters.
    #[error("not a job id (26 characters of Crockford base 32)")]
    Job,
    /// Not 22 characters of base64url.
    #[error("not a lease token")]
    LeaseToken,
    /// Empty, longer than 128 characters, or with characters outside printable ASCII.
    #[error("must be 1 to 128 printable ASCII characters without blanks, quotes, '/' or '\\'")]
    Name,
    /// A path that is absolute, has `.`/`..`/empty parts, or characters that no file should have.
    #[error(
        "must be a relative path without '.', '..', empty parts, control characters or '\\', at most 255 bytes"
    )]
    RelativePath,
}

macro_rules! text_serde {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// The id of a job: a ULID, so that ids sort by the time of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Ulid);

impl JobId {
    /// From the time of submission and 80 random bits (the rest of `random` is ignored).
    pub fn from_parts(created_at: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(created_at.millis(), random))
    }

    /// When the job was submitted, to the millisecond.
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_micros(i64::try_from(self.0.timestamp_ms()).unwrap_or(0) * 1000)
    }

    /// From the 128 bits that a database stores.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Ulid(bits))
    }

    /// The 128 bits that a database stores.
    pub const fn as_u128(self) -> u128 {
        self.0.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = Ulid::from_string(text).map_err(|_| IdError::Job)?;
        // One spelling per id: the decoder also takes lower case.
        if id.to_string() == text { Ok(Self(id)) } else { Err(IdError::Job) }
    }
}

text_serde!(JobId);

/// The secret that comes with a lease: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken([u8; 16]);

impl LeaseToken {
    /// From 128 random bits.
    pub const fn from_u128(random: u128) -> Self {
        Self(random.to_be_bytes())
    }

    /// The bits, for storage.
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(..)")
    }
}

impl FromStr for LeaseToken {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| IdError::LeaseToken)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::LeaseToken)?))
    }
}

text_serde!(LeaseToken);

/// A name that a person chose: of a miner, a wallet, a client, a workload, a region.
///
/// 1 to 128 printable ASCII characters, without blanks, quotes and path separators, so that it can
/// stand in a log line, a query string or a receipt as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The longest name.
    pub const MAX_BYTES: usize = 128;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain =
            |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'/' | b'\\' | b'`');
        if (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Name)
        }
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

text_serde!(Name);

/// A path inside a job's own directory: relative, no way out, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// The text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for RelativePath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        let clean = !text.chars().any(|c| c.is_control() || c == '\\');
        if text.len() <= 255 && clean && text.split('/').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::RelativePath)
        }
    }
}

text_serde!(RelativePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_sort_by_time_and_have_one_spelling() {
        let early = JobId::from_parts(Timestamp::from_micros(1_000_000), u128::MAX);
        let late = JobId::from_parts(Timestamp::from_micros(2_000_000), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early.to_string().to_lowercase().parse::<JobId>().is_err());
        for text in ["", "nope", "../x", "01J", "01ARZ3NDEKTSV4RRFFQ69G5FA/"] {
            assert_eq!(text.parse::<JobId>(), Err(IdError::Job), "{text}");
        }
    }

    #[test]
    fn lease_tokens_never_show_in_debug() {
        let token = LeaseToken::from_u128(7);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!(format!("{token:?}"), "LeaseToken(..)");
    }

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "a/b.txt", "out put", "é.bin"] {
            assert!(good.parse::<RelativePath>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\nb", "a\\b"] {
            assert_eq!(bad.parse::<RelativePath>(), Err(IdError::RelativePath), "{bad:?}");
        }
    }

    #[test]
    fn names_are_plain() {
        for good in ["host1-gpu0", "wallet_demo", "llama3.2:latest", "$(hostname)-gpu0"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a\u{0}", "é", "\"x\""] {
            assert_eq!(bad.parse::<Name>(), Err(IdError::Name), "{bad:?}");
        }
    }
}
