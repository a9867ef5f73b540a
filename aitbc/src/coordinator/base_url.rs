//! The coordinator's address.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Deserializer, de};

/// Where a coordinator listens unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:8011";

/// An `http` or `https` address, perhaps with a path prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// The address of an endpoint, by the parts of its path.
    pub fn endpoint(&self, path: &[String]) -> Url {
        let mut url = self.0.clone();
        // Only addresses that are no base (`mailto:`) have no segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Whether what is sent there is encrypted, or stays on this machine.
    pub fn is_private(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.is_https()
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is sent there is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        DEFAULT.parse().expect("a valid constant")
    }
}

impl FromStr for BaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|_| "not a URL such as https://host.example")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must start with https:// (or http://)");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not carry a user name or password; keys belong in a file");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not carry a query or a fragment");
        }
        Ok(Self(url))
    }
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

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stay_and_odd_names_stay_one_part() {
        let path = ["v1".to_owned(), "a/b?c".to_owned()];
        for (base, endpoint) in [
            ("https://c.example", "https://c.example/v1/a%2Fb%3Fc"),
            ("https://c.example/api/", "https://c.example/api/v1/a%2Fb%3Fc"),
        ] {
            assert_eq!(base.parse::<BaseUrl>().unwrap().endpoint(&path).as_str(), endpoint);
        }
    }

    #[test]
    fn only_this_machine_and_tls_are_private() {
        for text in ["http://127.0.0.1:1", "http://[::1]:8", "http://localhost", "https://a.b"] {
            assert!(text.parse::<BaseUrl>().unwrap().is_private(), "{text}");
        }
        for text in ["http://10.0.0.1", "http://localhost.example.net"] {
            assert!(!text.parse::<BaseUrl>().unwrap().is_private(), "{text}");
        }
        assert!(BaseUrl::default().is_private());
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "host:1", "ftp://x", "https://u:p@x", "https://x/?a=1", "https://x/#a"] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
