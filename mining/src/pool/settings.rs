//! Which pools, and as whom.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;

use crate::algorithm::Algorithm;

/// The longest host name of DNS.
const LONGEST_HOST: usize = 253;

/// One pool, or one daemon to mine alone with.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// The login: at most pools a wallet, where one mines alone the address that is paid.
    pub user: String,
    /// What pools call a password; few check it.
    pub password: String,
    /// What this machine is called in the pool's statistics.
    pub rig_id: Option<String>,
    /// What is computed; `None` for whatever a Monero-style pool's jobs say.
    pub algorithm: Option<Algorithm>,
    /// How the pool speaks; `None` for what is usual with the algorithm. Daemons have their own.
    pub dialect: Option<Dialect>,
    /// The only certificate that is believed; `None` for those that the system's authorities, or
    /// `authorities`, vouch for.
    pub fingerprint: Option<Fingerprint>,
    /// Certificates, in DER, of further authorities.
    pub authorities: Vec<Vec<u8>>,
    /// Whether an idle connection is kept alive although the pool has not said that it understands
    /// that.
    pub keep_alive: bool,
    /// Whether the pool is a proxy that keeps the uppermost byte of the nonce to itself; those that
    /// say so, or hand out such a nonce, are known without this.
    pub nicehash: bool,
}

impl Settings {
    /// A pool with the password `x`, as most pools want it.
    pub fn new(address: Address, user: impl Into<String>) -> Self {
        Self {
            address,
            user: user.into(),
            password: "x".to_owned(),
            rig_id: None,
            algorithm: None,
            dialect: None,
            fingerprint: None,
            authorities: Vec::new(),
            keep_alive: false,
            nicehash: false,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect.unwrap_or(match self.algorithm {
            None | Some(Algorithm::RandomX) => Dialect::Monero,
            Some(Algorithm::GhostRider) => Dialect::Bitcoin,
        })
    }
}

impl fmt::Debug for Settings {
    /// Without login and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address)
            .field("algorithm", &self.algorithm)
            .field("dialect", &self.dialect)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// How a pool speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `login`, `job`, `submit`.
    Monero,
    /// `mining.subscribe`, `mining.notify`, `mining.submit`.
    Bitcoin,
}

/// What carries the lines or calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A pool's lines, in the clear.
    StratumTcp,
    /// A pool's lines in TLS.
    StratumSsl,
    /// A daemon's calls, in the clear.
    DaemonHttp,
    /// A daemon's calls in TLS.
    DaemonHttps,
}

impl Scheme {
    const ALL: [Self; 4] =
        [Self::StratumTcp, Self::StratumSsl, Self::DaemonHttp, Self::DaemonHttps];

    const fn as_str(self) -> &'static str {
        match self {
            Self::StratumTcp => "stratum+tcp",
            Self::StratumSsl => "stratum+ssl",
            Self::DaemonHttp => "daemon+http",
            Self::DaemonHttps => "daemon+https",
        }
    }

    /// Whether it is TLS.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::StratumSsl | Self::DaemonHttps)
    }

    /// Whether a daemon is called rather than a pool.
    pub const fn is_daemon(self) -> bool {
        matches!(self, Self::DaemonHttp | Self::DaemonHttps)
    }
}

/// Where a pool is: `stratum+tcp://HOST:PORT`, `stratum+ssl://`, `daemon+http://` or
/// `daemon+https://`. It has no room for secrets, so it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What carries it.
    pub scheme: Scheme,
    /// A name or an address; one of version 6 without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why something is no address of a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no URL.
    #[error("no URL: {0}; it looks like stratum+ssl://pool.example:443")]
    NoUrl(String),
    /// It has another scheme.
    #[error("{0:?} is none of stratum+tcp, stratum+ssl, daemon+http, daemon+https")]
    Scheme(String),
    /// It lacks a host.
    #[error("it names no host")]
    Host,
    /// It lacks a port, and pools have no usual one.
    #[error("it names no port")]
    Port,
    /// It has more: a login, a path. Logins have settings of their own, because addresses are
    /// shown.
    #[error("after scheme, host and port comes nothing; a login is a setting of its own")]
    More,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let url = Url::parse(text).map_err(|error| BadAddress::NoUrl(error.to_string()))?;
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == url.scheme());
        let scheme =
            scheme.ok_or_else(|| BadAddress::Scheme(url.scheme().chars().take(32).collect()))?;
        let plain = url.username().is_empty() && url.password().is_none();
        let ends = matches!(url.path(), "" | "/") && url.query().is_none();
        if !plain || !ends || url.fragment().is_some() {
            return Err(BadAddress::More);
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = url.port().filter(|port| *port != 0).ok_or(BadAddress::Port)?;
        Self::new(scheme, host, port)
    }
}

impl Address {
    /// An address of its parts.
    ///
    /// # Errors
    /// A host that is none.
    pub fn new(scheme: Scheme, host: &str, port: u16) -> Result<Self, BadAddress> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || host.len() > LONGEST_HOST || !host.bytes().all(plain) {
            return Err(BadAddress::Host);
        }
        if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(BadAddress::Host);
        }
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// `HOST:PORT`, an address of version 6 in brackets.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    /// Digits as XMRig has them, or with colons between bytes as OpenSSL prints them.
    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits: String = text.chars().filter(|letter| *letter != ':').take(65).collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| BadFingerprint)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until a question is answered; then the connection is held for dead.
    pub answer: Duration,
    /// Until the first job has come.
    pub first_job: Duration,
    /// Until the next pool is tried beside one that has not given work yet.
    pub beside: Duration,
    /// After how long without a word an idle pool is asked whether it is there.
    pub idle: Duration,
    /// After how long without a word a connection is held for dead.
    pub silence: Duration,
    /// The pause after the first failure; each one after it is twice as long.
    pub retry: Duration,
    /// The longest of these pauses.
    pub longest_retry: Duration,
    /// The pause after a pool has banned us.
    pub banned: Duration,
    /// How long a connection must have stood for its failures to be forgotten.
    pub stable: Duration,
    /// How often a daemon is asked for its height.
    pub poll: Duration,
    /// How often a daemon is asked for a new template, whatever its height.
    pub refresh: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            connect: secs(10),
            // As XMRig has it.
            answer: secs(20),
            first_job: secs(60),
            beside: secs(5),
            idle: secs(60),
            silence: secs(600),
            retry: secs(5),
            longest_retry: secs(300),
            banned: secs(900),
            stable: secs(60),
            poll: secs(1),
            refresh: secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_scheme_host_and_port() {
        for text in [
            "stratum+tcp://pool.example:3333",
            "stratum+ssl://10.0.0.1:443",
            "daemon+http://[::1]:18081",
            "daemon+https://node.example:18089",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let address: Address = "stratum+ssl://[2001:db8::1]:443/".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("2001:db8::1", 443));
        assert!(address.scheme.is_secure() && !address.scheme.is_daemon());
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("pool.example:3333", "\"pool.example\" is none of"),
            ("http://pool.example:3333", "\"http\" is none of"),
            ("stratum+tcp://pool.example", "names no port"),
            ("stratum+tcp://pool.example:0", "names no port"),
            ("stratum+tcp://:3333", "no URL"),
            ("stratum+tcp://wallet@pool.example:3333", "a login is a setting"),
            ("stratum+tcp://pool.example:3333/x", "a login is a setting"),
            ("stratum+tcp://pool%20x:3333", "names no host"),
            ("pool.example", "no URL"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_fingerprint_has_two_spellings() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>(), colons.parse());
        assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain);
        for wrong in [String::new(), "ab".repeat(31), "ab".repeat(33), "xy".repeat(32)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(BadFingerprint));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let address = "stratum+tcp://pool.example:3333".parse().unwrap();
        let settings = Settings { password: "hidden".into(), ..Settings::new(address, "wallet") };
        let shown = format!("{settings:?}");
        assert!(shown.contains("pool.example"), "{shown}");
        assert!(!shown.contains("wallet") && !shown.contains("hidden"), "{shown}");
    }
}
