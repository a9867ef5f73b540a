//! Which coordinator is spoken to, and with which key: the profile file, the environment, flags.
//! Writing the file is in `edit`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Yaml};
use serde::Deserialize;

pub mod edit;
mod secret;

pub use secret::{Secret, read as read_key, read_certificate};

use crate::coordinator::BaseUrl;

/// No profile file is larger.
const MAX_BYTES: u64 = 1 << 20;

/// The variable with the key itself.
const KEY_VARIABLE: &str = "AITBC_KEY";

/// The profile file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profiles {
    /// The profile that counts where none is named.
    pub default: Option<String>,
    /// The profiles, by name.
    pub profiles: BTreeMap<String, Profile>,
}

/// A coordinator and one's standing there.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Where it is.
    pub url: Option<BaseUrl>,
    /// The API key.
    pub key: Option<Secret>,
    /// A file that holds the API key; relative to the profile file.
    pub key_file: Option<PathBuf>,
    /// A PEM file of further certificate authorities; relative to the profile file.
    pub ca_file: Option<PathBuf>,
    /// One's own certificate and its private key, for a coordinator that asks for one: a PEM file,
    /// relative to the profile file.
    pub client_cert_file: Option<PathBuf>,
    /// Permits plain HTTP to other machines.
    pub allow_insecure: bool,
    /// The public keys that its receipts must be attested by.
    pub coordinator_keys: Vec<String>,
}

/// What the command line says about the profile.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The profile file, in place of the usual one.
    pub file: Option<PathBuf>,
    /// The profile.
    pub profile: Option<String>,
    /// The coordinator's address.
    pub url: Option<BaseUrl>,
    /// A file that holds the API key.
    pub key_file: Option<PathBuf>,
}

/// The values that count.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The profile that they come from.
    pub profile: Option<String>,
    /// Where the coordinator is.
    pub url: BaseUrl,
    /// The API key.
    pub key: Option<Secret>,
    /// Where the key comes from, or why there is none; for people.
    pub key_origin: String,
    /// Further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// One's own certificate and its private key.
    pub client_cert_file: Option<PathBuf>,
    /// The public keys that receipts must be attested by; empty: those of the coordinator.
    pub coordinator_keys: Vec<String>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file makes no sense.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, one line each.
        why: String,
    },
    /// No profile has this name.
    #[error("{path}: there is no profile {name:?}{hint}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The nearest one.
        hint: String,
    },
    /// The key file cannot be used.
    #[error("key file {path}: {why}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file with one's own certificate cannot be used.
    #[error("client_cert_file {path}: {why}")]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others can read or change a file with a key.
    #[error("{path} holds a key and is open to others (mode {mode:03o}); run: chmod 600 {path}")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others could read the key on its way.
    #[error(
        "{0} is neither https nor this machine; allow_insecure: true in the profile permits it"
    )]
    Insecure(BaseUrl),
    /// The environment holds something that is no key.
    #[error("{KEY_VARIABLE} holds no API key")]
    Variable,
    /// There is no directory for the file.
    #[error("neither XDG_CONFIG_HOME nor HOME is set; name the profile file with --config")]
    NoHome,
}

/// Where the profile file is unless another one is named.
pub fn usual_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("aitbc").join("config.yaml"))
}

impl Profiles {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read, makes no sense, or holds keys and is open to others.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let unreadable = |error| ProfileError::Unreadable { path: path.to_owned(), error };
        let file = File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        (&file).take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        let malformed = |why| ProfileError::Malformed { path: path.to_owned(), why };
        if text.len() as u64 > MAX_BYTES {
            return Err(malformed(format!("larger than {MAX_BYTES} bytes")));
        }
        let profiles = Self::parse(&text).map_err(malformed)?;
        if profiles.profiles.values().any(|profile| profile.key.is_some()) {
            secret::refuse_if_open_to_others(path, &file)?;
        }
        Ok(profiles)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, one line each.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = Figment::from(Yaml::string(text)).extract::<Self>();
        parsed.map_err(|errors| {
            let lines: Vec<_> = errors.into_iter().map(|error| line(&error)).collect();
            lines.join("\n")
        })
    }
}

fn line(error: &figment::Error) -> String {
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let hint = nearest(name, known.iter().copied());
            format!("unknown key `{name}`{}", suggestion(hint))
        }
        kind if path.is_empty() => kind.to_string(),
        kind => format!("{path}: {kind}"),
    }
}

/// The one of `known` that was probably meant by `name`.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2)
        .min()
        .map(|(_, known)| known)
}

/// How the nearest name is told.
pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// The settings that count: flags win over the environment, that over the profile.
///
/// A key goes only to the address that it is written beside: one from the profile is left out
/// where another address is named.
///
/// # Errors
/// What is wrong with the file, the key or the address.
pub fn settle(choice: Choice) -> Result<Settings, ProfileError> {
    let Choice { file, profile, url, key_file } = choice;
    let (name, profile, directory) = locate(file, profile)?;
    let elsewhere = url.as_ref().is_some_and(|url| Some(url) != profile.url.as_ref());
    let url = url.or_else(|| profile.url.clone()).unwrap_or_default();
    if !url.is_private() && (elsewhere || !profile.allow_insecure) {
        return Err(ProfileError::Insecure(url));
    }
    let beside = |path: PathBuf| directory.join(path);
    let (key, key_origin) = match (key_file, variable()?) {
        (Some(path), _) => (Some(secret::read(&path)?), path.display().to_string()),
        (None, Some(key)) => (Some(key), format!("the variable {KEY_VARIABLE}")),
        (None, None) if elsewhere => (None, "none: the profile's is for its own url".to_owned()),
        (None, None) => match (profile.key, profile.key_file.map(beside)) {
            (Some(key), _) => (Some(key), "the profile".to_owned()),
            (None, Some(path)) => (Some(secret::read(&path)?), path.display().to_string()),
            (None, None) => (None, "none".to_owned()),
        },
    };
    Ok(Settings {
        profile: name,
        url,
        key,
        key_origin,
        ca_file: profile.ca_file.map(beside),
        // As the key: for whom it is written beside, and for nobody else.
        client_cert_file: profile.client_cert_file.filter(|_| !elsewhere).map(beside),
        coordinator_keys: if elsewhere { Vec::new() } else { profile.coordinator_keys },
    })
}

/// The profile that counts, its name, and the directory that its paths start from.
fn locate(
    named: Option<PathBuf>,
    asked: Option<String>,
) -> Result<(Option<String>, Profile, PathBuf), ProfileError> {
    let usual = usual_file();
    let path = match (named, usual) {
        (Some(named), _) => named,
        (None, Some(usual)) if usual.exists() => usual,
        (None, usual) => {
            let Some(name) = asked else { return Ok((None, Profile::default(), PathBuf::new())) };
            let path = usual.ok_or(ProfileError::NoHome)?;
            return Err(ProfileError::Unknown { path, name, hint: String::new() });
        }
    };
    let (name, profile) = choose(Profiles::read(&path)?, &path, asked)?;
    Ok((name, profile, path.parent().map(Path::to_owned).unwrap_or_default()))
}

fn choose(
    mut profiles: Profiles,
    path: &Path,
    asked: Option<String>,
) -> Result<(Option<String>, Profile), ProfileError> {
    let only = match profiles.profiles.len() {
        1 => profiles.profiles.keys().next().cloned(),
        _ => None,
    };
    let Some(name) = asked.or(profiles.default.take()).or(only) else {
        return Ok((None, Profile::default()));
    };
    match profiles.profiles.remove(&name) {
        Some(profile) => Ok((Some(name), profile)),
        None => {
            let known = profiles.profiles.keys().map(String::as_str);
            let hint = suggestion(nearest(&name, known));
            Err(ProfileError::Unknown { path: path.to_owned(), name, hint })
        }
    }
}

fn variable() -> Result<Option<Secret>, ProfileError> {
    let Some(value) = std::env::var_os(KEY_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let key = value.to_str().map(Secret::new).filter(Secret::is_plain);
    key.map(Some).ok_or(ProfileError::Variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_refused_with_the_nearest_name() {
        let text = "profiles: {a: {ulr: 'https://x'}}\n";
        assert_eq!(Profiles::parse(text).unwrap_err(), "unknown key `ulr` (did you mean `url`?)");
        let text = "profiles: {a: {url: 'ftp://x'}}\n";
        assert!(Profiles::parse(text).unwrap_err().starts_with("profiles.a.url: "));
        assert_eq!(Profiles::parse(""), Ok(Profiles::default()));
    }

    #[test]
    fn the_default_counts_else_the_only_one() {
        let path = Path::new("config.yaml");
        let choose = |text: &str, asked: Option<&str>| {
            choose(Profiles::parse(text).unwrap(), path, asked.map(str::to_owned))
        };
        let two = "profiles: {here: {}, there: {}}";
        assert_eq!(choose(two, None).unwrap().0, None);
        assert_eq!(choose(two, Some("here")).unwrap().0.as_deref(), Some("here"));
        let default = "{default: there, profiles: {here: {}, there: {}}}";
        assert_eq!(choose(default, None).unwrap().0.as_deref(), Some("there"));
        assert_eq!(choose("profiles: {one: {}}", None).unwrap().0.as_deref(), Some("one"));
        let error = choose(two, Some("theer")).unwrap_err().to_string();
        assert!(error.contains("did you mean `there`?"), "{error}");
    }
}
