//! The algorithms, under the names that pools use for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::work::{HEADER_NONCE_AT, MONERO_NONCE_AT};

/// An algorithm that this build can compute.
///
/// Which one is to be computed comes with a pool's job, never from a constant: Monero's `rx/2`
/// follows `rx/0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RandomX with Monero's parameters.
    RandomX,
    /// GhostRider, of Raptoreum.
    GhostRider,
}

/// A name that no algorithm of this build has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm {0:?}; this build has: {names}", names = Algorithm::names())]
pub struct UnknownAlgorithm(pub String);

impl Algorithm {
    /// All of them.
    pub const ALL: &[Self] = &[Self::RandomX, Self::GhostRider];

    /// The name on the wire, as XMRig and the pools spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RandomX => "rx/0",
            Self::GhostRider => "gr",
        }
    }

    /// Other names for it, as XMRig and some pools write it.
    const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::RandomX => &[],
            Self::GhostRider => &["ghostrider", "ghostrider/rtm"],
        }
    }

    /// Where the nonce lies in what is hashed, in bytes from its beginning.
    pub const fn nonce_at(self) -> usize {
        match self {
            Self::RandomX => MONERO_NONCE_AT,
            Self::GhostRider => HEADER_NONCE_AT,
        }
    }

    fn names() -> String {
        Self::ALL.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let named = |algorithm: &&Self| {
            let mut names = algorithm.aliases().iter().copied().chain([algorithm.as_str()]);
            names.any(|name| name.eq_ignore_ascii_case(text))
        };
        let found = Self::ALL.iter().find(named);
        found.copied().ok_or_else(|| UnknownAlgorithm(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(*algorithm));
        }
        let error = "cn/r".parse::<Algorithm>().unwrap_err();
        assert_eq!(error.to_string(), "unknown algorithm \"cn/r\"; this build has: rx/0, gr");
        assert_eq!("GhostRider".parse(), Ok(Algorithm::GhostRider));
    }
}
