//! What the owner lets jobs reach: `host:port`, or `*.domain:port` for every name below a domain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, by RFC 1035.
const LONGEST_NAME: usize = 253;

/// Longest part of a name between two points, by RFC 1035.
const LONGEST_LABEL: usize = 63;

/// Whom to connect to: a name in small letters or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, in small letters, without a point at its end.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// One rule of the owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    target: Target,
    /// Whether the names below that domain are meant, and not itself.
    below: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules(Vec<Rule>);

/// Why a text is no target or rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not host:port or *.domain:port")]
pub struct InvalidTarget {
    text: String,
}

impl Rules {
    /// These.
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Whether they let nothing out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them lets a job reach `target`.
    pub fn allow(&self, target: &Target) -> bool {
        self.0.iter().any(|rule| rule.allows(target))
    }
}

impl Rule {
    fn allows(&self, target: &Target) -> bool {
        if self.target.port != target.port {
            return false;
        }
        match (&self.target.host, &target.host) {
            (Host::Name(domain), Host::Name(name)) if self.below => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (one, other) => one == other,
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget { text: text.chars().take(80).collect() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(invalid)?;
        Ok(Self { host: host_of(host).ok_or_else(invalid)?, port })
    }
}

fn host_of(text: &str) -> Option<Host> {
    if let Some(text) = text.strip_prefix('[') {
        let address = text.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Address(IpAddr::V6(address)));
    }
    if let Ok(address) = text.parse() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let good = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last part that begins with a digit is some spelling of an address: 127.1, 0x7f000001.
    let last = name.rsplit('.').next()?;
    let is_name = name.len() <= LONGEST_NAME
        && name.split('.').all(good)
        && !last.starts_with(|first: char| first.is_ascii_digit());
    is_name.then_some(Host::Name(name))
}

impl FromStr for Rule {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let Some(domain) = text.strip_prefix("*.") else {
            return Ok(Self { target: text.parse()?, below: false });
        };
        let target: Target = domain.parse()?;
        match target.host {
            Host::Name(_) => Ok(Self { target, below: true }),
            Host::Address(_) => Err(InvalidTarget { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{}{}", if self.below { "*." } else { "" }, self.target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(text, "{name}:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(text, "{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(text, "[{address}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn only_what_is_named_is_allowed() {
        let rules = rules(&["Example.org:443", "*.data.example:443", "[2606:4700::1]:8443"]);
        for good in [
            "example.org:443",
            "EXAMPLE.org.:443",
            "a.data.example:443",
            "a.b.data.example:443",
            "[2606:4700:0::1]:8443",
        ] {
            assert!(rules.allow(&good.parse().unwrap()), "{good}");
        }
        for bad in [
            "example.org:80",
            "www.example.org:443",
            "data.example:443",
            "evildata.example:443",
            "data.example.evil:443",
            "93.184.216.34:443",
            "[2606:4700::1]:443",
        ] {
            assert!(!rules.allow(&bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for bad in [
            "",
            ":443",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:x",
            "a b:1",
            "a..b:1",
            ".a:1",
            "-a:1",
            "a-:1",
            "é.org:1",
            "a/b:1",
            "u@a:1",
            "127.1:80",
            "2130706433:80",
            "0x7f.1:80",
            "[::1:80",
            "[127.0.0.1]:80",
            "::1:80",
            "a:1:2",
            "[fe80::1%eth0]:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert!(format!("{}:1", "a".repeat(64)).parse::<Target>().is_err());
        assert!("*.1.2.3.4:80".parse::<Rule>().is_err());
        assert!("a.*.b:80".parse::<Rule>().is_err());
        assert!("*:80".parse::<Rule>().is_err());
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["example.org:443", "*.example.org:443", "1.2.3.4:5", "[2606:4700::1]:1"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }
}
