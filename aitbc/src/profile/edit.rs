//! Changes of the profile file. It is written anew and moved into place, for its owner alone.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Profile, Profiles, Secret, nearest, suggestion};

/// The keys of a profile.
const KEYS: &[&str] = &[
    "url",
    "key",
    "key_file",
    "ca_file",
    "client_cert_file",
    "allow_insecure",
    "coordinator_keys",
];

impl Profiles {
    /// Sets `key` of the profile `name`, which is made if there is none. An empty value removes it.
    ///
    /// # Errors
    /// What is wrong with key or value.
    pub fn set(&mut self, name: &str, key: &str, value: &str) -> Result<(), String> {
        let profile = self.profiles.entry(name.to_owned()).or_default();
        let text = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "url" => profile.url = text.map(|text| text.parse()).transpose()?,
            "key" => profile.key = text.map(|text| secret(&text)).transpose()?,
            "key_file" => profile.key_file = text.map(Into::into),
            "ca_file" => profile.ca_file = text.map(Into::into),
            "client_cert_file" => profile.client_cert_file = text.map(Into::into),
            "allow_insecure" => {
                profile.allow_insecure = match value {
                    "true" => true,
                    "false" | "" => false,
                    _ => return Err("must be true or false".to_owned()),
                };
            }
            "coordinator_keys" => profile.coordinator_keys = public_keys(value)?,
            _ => {
                let hint = suggestion(nearest(key, KEYS.iter().copied()));
                return Err(format!("unknown key{hint}; there are {}", KEYS.join(", ")));
            }
        }
        Ok(())
    }

    /// The text of the file.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        if let Some(default) = &self.default {
            // Writing to a string does not fail, here and below.
            let _ = writeln!(text, "default: {}", quoted(default));
        }
        if !self.profiles.is_empty() {
            text.push_str("profiles:\n");
        }
        for (name, profile) in &self.profiles {
            let lines = profile.lines();
            let none = if lines.is_empty() { " {}" } else { "" };
            let _ = writeln!(text, "  {}:{none}", quoted(name));
            for (key, value) in lines {
                let _ = writeln!(text, "    {key}: {value}");
            }
        }
        text
    }

    /// Writes the file, as a whole or not at all.
    ///
    /// # Errors
    /// Where that does not work.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let beside = path.with_extension("yaml.new");
        // One that was left behind may be open to others.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(self.to_yaml().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

impl Profile {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let path = |path: &std::path::PathBuf| quoted(&path.to_string_lossy());
        let keys = || self.coordinator_keys.iter().map(|key| quoted(key)).collect::<Vec<_>>();
        [
            ("url", self.url.as_ref().map(|url| quoted(&url.to_string()))),
            ("key", self.key.as_ref().map(|key| quoted(key.expose()))),
            ("key_file", self.key_file.as_ref().map(path)),
            ("ca_file", self.ca_file.as_ref().map(path)),
            ("client_cert_file", self.client_cert_file.as_ref().map(path)),
            ("allow_insecure", self.allow_insecure.then(|| "true".to_owned())),
            (
                "coordinator_keys",
                (!self.coordinator_keys.is_empty()).then(|| format!("[{}]", keys().join(", "))),
            ),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

/// A string of JSON is one of YAML, but for what YAML takes for a line end or refuses to read.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    let escaped = |text: String, c: char| match is_plain(c) {
        true => text + c.encode_utf8(&mut [0; 4]),
        false => text + &format!("\\U{:08x}", u32::from(c)),
    };
    serde_json::Value::from(text).to_string().chars().fold(String::new(), escaped)
}

fn secret(text: &str) -> Result<Secret, String> {
    let key = Secret::new(text);
    if key.is_plain() { Ok(key) } else { Err("is no API key".to_owned()) }
}

/// Public keys, separated by commas.
fn public_keys(text: &str) -> Result<Vec<String>, String> {
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
    keys.map(|key| match protocol::signing::parse_key(key) {
        Ok(_) => Ok(key.to_owned()),
        Err(error) => Err(format!("{key:?}: {error}")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut profiles = Profiles { default: Some("a: b".to_owned()), ..Profiles::default() };
        let key = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
        for (name, value) in [
            ("url", "https://market.example.net/api"),
            ("key", "id.secret"),
            ("key_file", "a \"b\"\\c"),
            ("client_cert_file", "own.pem"),
            ("allow_insecure", "true"),
            ("coordinator_keys", key),
        ] {
            profiles.set("a: b", name, value).unwrap();
        }
        profiles.set("empty", "key_file", "").unwrap();
        // Line ends of YAML, and what it does not read as it is.
        profiles.set("\u{85}\u{2028}\u{feff}\u{7f}\u{fffe}\t\u{e9}", "key_file", "\n").unwrap();
        assert_eq!(Profiles::parse(&profiles.to_yaml()).unwrap(), profiles);
        assert_eq!(Profiles::parse(&Profiles::default().to_yaml()).unwrap(), Profiles::default());
    }

    #[test]
    fn bad_values_are_refused() {
        let mut profiles = Profiles::default();
        for (name, value) in [
            ("url", "nowhere"),
            ("key", "two words"),
            ("allow_insecure", "yes"),
            ("coordinator_keys", "short"),
        ] {
            assert!(profiles.set("a", name, value).is_err(), "{name}");
        }
        let error = profiles.set("a", "kye_file", "x").unwrap_err();
        assert!(error.contains("did you mean `key_file`?"), "{error}");
    }
}
