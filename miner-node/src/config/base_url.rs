//! The coordinator's address. Speaking to it lives in `coordinator.rs`.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a coordinator listens unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:8011";

/// An `http` or `https` address, perhaps with a path prefix, without a slash at its end.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// No URL at all.
    #[error("not a URL such as https://coordinator.example.net")]
    Syntax,
    /// Another scheme.
    #[error("must start with https:// (or http://)")]
    Scheme,
    /// A user or password in it would end up in logs.
    #[error("must not carry a user name or password; the API key belongs in API_KEY")]
    Credentials,
    /// A query or a fragment.
    #[error("must not carry a query or a fragment")]
    Query,
}

impl BaseUrl {
    /// The address of an endpoint, `path` beginning with `/v1/`.
    pub fn endpoint(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// The host, for people and for comparing.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port, stated or implied by the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Whether what is sent there is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        DEFAULT.parse().expect("a valid constant")
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim();
        let url = if text.contains("://") {
            Url::parse(text).map_err(|_| BaseUrlError::Syntax)?
        } else {
            bare_host(text)?
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        Ok(Self(url))
    }
}

/// `host:port` as CyxWiz writes it: encrypted, except on this machine.
fn bare_host(text: &str) -> Result<Url, BaseUrlError> {
    let secure = Url::parse(&format!("https://{text}")).map_err(|_| BaseUrlError::Syntax)?;
    if BaseUrl(secure.clone()).is_loopback() {
        return Url::parse(&format!("http://{text}")).map_err(|_| BaseUrlError::Syntax);
    }
    Ok(secure)
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_and_slashes() {
        for (base, endpoint) in [
            ("https://c.example.net", "https://c.example.net/v1/health"),
            ("https://c.example.net/", "https://c.example.net/v1/health"),
            ("https://c.example.net/api//", "https://c.example.net/api/v1/health"),
            ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080/a/b/v1/health"),
        ] {
            assert_eq!(url(base).endpoint("/v1/health").as_str(), endpoint);
        }
        assert_eq!(url("https://c.example.net/api/").to_string(), "https://c.example.net/api");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for text in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8", "http://localhost"]
        {
            assert!(url(text).is_loopback(), "{text}");
        }
        for text in ["http://10.0.0.1", "http://localhost.example.net", "http://127.0.0.1.nip.io"] {
            assert!(!url(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn bare_hosts_are_encrypted_unless_local() {
        assert_eq!(url("localhost:50051").to_string(), "http://localhost:50051");
        assert_eq!(
            url("central.example.net:50051").to_string(),
            "https://central.example.net:50051"
        );
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (text, error) in [
            ("", BaseUrlError::Syntax),
            ("ftp://x", BaseUrlError::Scheme),
            ("https://user:pw@x", BaseUrlError::Credentials),
            ("https://x/?a=1", BaseUrlError::Query),
            ("https://x/#a", BaseUrlError::Query),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn the_default_is_a_coordinator_on_this_machine() {
        assert!(BaseUrl::default().is_loopback());
    }
}
