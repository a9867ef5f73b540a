//! From files, environment and flags to one [`Config`]: defaults < YAML file < `miner.conf` <
//! environment < flags. What each place may hold is in [`super::sources`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use figment::value::Value;

use super::environment::Environment;
use super::error::ConfigError;
use super::keys::{self, Key};
use super::origin::Origin;
use super::setting::Setting;
use super::sources::{Collected, Flag};
use super::{Config, check, token};

/// The files that are read, if they are there, unless others are named; later ones win.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/aitbc/miner.yaml", "/etc/aitbc/miner.conf"];

/// No configuration is longer.
const MAX_BYTES: u64 = 1 << 20;

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The files that must be there; `None`: [`DEFAULT_FILES`], as far as they exist.
    pub files: Option<Vec<PathBuf>>,
    /// The flags that were given.
    pub flags: Vec<Flag>,
}

/// A configuration, and how it came about.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each key that is not a default was set, by its place in the YAML file.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What is odd but works.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Where a key was set.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}

/// Reads everything.
///
/// # Errors
/// The first thing that is wrong, with the key and the place.
pub fn load(places: &Places, environment: &Environment) -> Result<Loaded, ConfigError> {
    let mut collected = Collected::default();
    let files = read_files(places, environment, &mut collected)?;
    collected.settings.extend(token::credential(environment));
    collected.add_environment(environment)?;
    collected.add_flags(&places.flags, environment)?;
    token::resolve(&mut collected, environment)?;
    lenient_accel_mode(&mut collected);

    let mut defaults = Config::default();
    defaults.workspace.root = environment.default_root();
    let config = extract(&defaults, &collected.settings)?;
    let origins: BTreeMap<_, _> =
        collected.settings.into_iter().map(|setting| (setting.key.path, setting.origin)).collect();
    let mut loaded = Loaded { config, origins, warnings: collected.warnings, files };
    check::check(&mut loaded)?;
    Ok(loaded)
}

fn read_files(
    places: &Places,
    environment: &Environment,
    collected: &mut Collected,
) -> Result<Vec<PathBuf>, ConfigError> {
    let mut read = Vec::new();
    let named: Vec<PathBuf> = match &places.files {
        Some(files) => files.clone(),
        None => default_files(environment),
    };
    for path in named {
        let text = match read_file(&path) {
            Ok(text) => text,
            Err(ConfigError::Unreadable { error, .. })
                if places.files.is_none() && error.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let before = collected.settings.len();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => collected.add_yaml(&path, &text, environment)?,
            _ => collected.add_conf(&path, &text, environment)?,
        }
        if collected.settings[before..].iter().any(holds_secret)
            && !is_credential(&path, environment)
            && let Ok(file) = File::open(&path)
        {
            token::warn_if_readable_by_others(&path, &file, &mut collected.warnings);
        }
        read.push(path);
    }
    Ok(read)
}

/// [`DEFAULT_FILES`]; of `miner.conf`, which root alone can read, the copy that systemd hands over
/// (`LoadCredential=miner.conf:..`), where there is one.
fn default_files(environment: &Environment) -> Vec<PathBuf> {
    let handed_over = |file: &str| {
        let name = Path::new(file).file_name()?;
        let path = Path::new(environment.get("CREDENTIALS_DIRECTORY")?).join(name);
        path.exists().then_some(path)
    };
    let place = |file: &str| handed_over(file).unwrap_or_else(|| PathBuf::from(file));
    DEFAULT_FILES.into_iter().map(place).collect()
}

/// A credential's mode is the service manager's affair (an ACL shows as group access).
fn is_credential(path: &Path, environment: &Environment) -> bool {
    environment.get("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory))
}

/// A reference to a variable is no secret itself.
fn holds_secret(setting: &Setting) -> bool {
    setting.key.secret && !setting.text().is_some_and(|text| text.starts_with("env:"))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: MAX_BYTES });
    }
    Ok(text)
}

/// The seed's script takes any other word for `cpu`; so do we, but we say so.
fn lenient_accel_mode(collected: &mut Collected) {
    for setting in &mut collected.settings {
        if setting.key.path != "accel_mode" {
            continue;
        }
        let word = setting.text().unwrap_or_default().to_ascii_lowercase();
        if !matches!(word.as_str(), "auto" | "gpu" | "cpu") {
            collected.warnings.push(format!(
                "ACCEL_MODE in {}: {word:?} is none of auto, gpu, cpu; working as cpu",
                setting.origin
            ));
            setting.value = Value::from("cpu");
        } else {
            setting.value = Value::from(word);
        }
    }
}

fn extract(defaults: &Config, settings: &[Setting]) -> Result<Config, ConfigError> {
    let figment =
        settings.iter().fold(Figment::from(Serialized::defaults(defaults)), |figment, setting| {
            figment.merge(setting)
        });
    figment.extract().map_err(|error| {
        let path = error.path.join(".");
        let setting = settings.iter().rev().find(|setting| path.starts_with(setting.key.path));
        ConfigError::Value {
            key: setting.map_or(path.clone(), |setting| setting.origin.name_of(setting.key)),
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            message: message(keys::by_path(&path), &error),
        }
    })
}

fn message(key: Option<&'static Key>, error: &figment::Error) -> String {
    if key.is_some_and(|key| key.secret) {
        "must be a text in quotes".to_owned()
    } else {
        error.kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_hands_over_stands_for_the_file_of_that_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut environment = Environment::default();
        assert_eq!(default_files(&environment), DEFAULT_FILES.map(PathBuf::from));
        let place = directory.path().display().to_string();
        environment.variables.insert("CREDENTIALS_DIRECTORY".to_owned(), place);
        assert_eq!(default_files(&environment), DEFAULT_FILES.map(PathBuf::from));
        let copy = directory.path().join("miner.conf");
        std::fs::write(&copy, "").unwrap();
        assert_eq!(default_files(&environment), [PathBuf::from(DEFAULT_FILES[0]), copy.clone()]);
        assert!(is_credential(&copy, &environment));
        assert!(!is_credential(Path::new(DEFAULT_FILES[1]), &environment));
    }
}
