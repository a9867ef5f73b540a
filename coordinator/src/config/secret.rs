//! A database URL whose password shows nowhere but where it is asked for.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in place of a password.
const MASK: &str = "****";

/// A database URL. `Debug`, `Display` and `Serialize` leave the password out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with its password, for the driver alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `scheme://user:****@host/path?password=****`.
fn masked(url: &str) -> String {
    let (rest, query) = url.split_once('?').unwrap_or((url, ""));
    let mut text = match rest.split_once("://") {
        Some((scheme, rest)) => {
            // A password may hold an '@' that nobody escaped: the last one counts.
            let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
            match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
                None if user.is_empty() => format!("{scheme}://{host}"),
                None => format!("{scheme}://{user}@{host}"),
            }
        }
        None => rest.to_owned(),
    };
    for (index, pair) in query.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
        text.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("pass") => {
                text.push_str(&format!("{name}={MASK}"));
            }
            _ => text.push_str(pair),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show() {
        for (url, shown) in [
            ("postgres://u:hunter2@h/d", "postgres://u:****@h/d"),
            ("postgres://u:p@hunter2@h:5432/d", "postgres://u:****@h:5432/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d?user=u&password=hunter2", "postgres://h/d?user=u&password=****"),
            ("sqlite:/var/lib/x.db?mode=rwc", "sqlite:/var/lib/x.db?mode=rwc"),
        ] {
            let url = DatabaseUrl::from(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
    }
}
