//! Where settings come from: defaults < YAML file < environment < flags. What nobody knows is
//! refused, with its key, its place and the nearest name.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Yaml};
use figment::{Figment, Provider};

use super::{Config, DatabaseUrl, LogFormat, LogLevel};
use crate::nearest::nearest;

/// The file that is read where none is named and this one exists.
pub const DEFAULT_FILE: &str = "/etc/aitbc/coordinator.yaml";

/// `AITBC_COORDINATOR__LISTEN__PORT` is `listen.port`.
const ENV_PREFIX: &str = "AITBC_COORDINATOR__";

/// What flags (and their short environment variables) say.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `database.url`.
    pub database_url: Option<DatabaseUrl>,
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `listen.host`.
    pub host: Option<IpAddr>,
    /// `listen.port`.
    pub port: Option<u16>,
    /// `listen.tls_cert`.
    pub tls_cert: Option<PathBuf>,
    /// `listen.tls_key`.
    pub tls_key: Option<PathBuf>,
    /// `logging.level`.
    pub log_level: Option<LogLevel>,
    /// `logging.format`.
    pub log_format: Option<LogFormat>,
    /// Where systemd hands over secrets; the file `database_url` in it counts where no flag names
    /// another database.
    pub credentials: Option<PathBuf>,
}

/// The database URL as systemd hands it over: `LoadCredential=database_url:FILE`. A blank one is none.
const CREDENTIAL: &str = "database_url";

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads the settings: `file`, or [`DEFAULT_FILE`] if that exists; the environment; `overrides`.
///
/// # Errors
/// Everything that is wrong with them, one line each.
pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let default = Path::new(DEFAULT_FILE);
    if let Some(path) = file.or_else(|| default.exists().then_some(default)) {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(vec![format!("{origin}: {error}")]))?;
        figment = layer(figment, &origin, &Yaml::string(&text))?;
    }
    figment = layer(figment, "environment", &Env::prefixed(ENV_PREFIX).split("__"))?;
    let mut config: Config = figment.extract().map_err(|error| explain("settings", error))?;
    overrides.with_credential()?.apply(&mut config);
    match config.problems() {
        problems if problems.is_empty() => Ok(config),
        problems => Err(ConfigError(problems)),
    }
}

/// Adds a layer after trying it over the defaults by itself, so that an error names its place.
fn layer(
    figment: Figment,
    origin: &str,
    provider: impl Provider + Copy,
) -> Result<Figment, ConfigError> {
    Figment::from(Serialized::defaults(Config::default()))
        .merge(provider)
        .extract::<Config>()
        .map_err(|error| explain(origin, error))?;
    Ok(figment.merge(provider))
}

fn explain(origin: &str, errors: figment::Error) -> ConfigError {
    ConfigError(errors.into_iter().map(|error| line(origin, &error)).collect())
}

fn line(origin: &str, error: &figment::Error) -> String {
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let full = if path.is_empty() || path == *name || path.ends_with(&format!(".{name}")) {
                if path.is_empty() { name.clone() } else { path }
            } else {
                format!("{path}.{name}")
            };
            let nearest = nearest(name, known.iter().copied());
            let hint = nearest.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            format!("{origin}: unknown key `{full}`{hint}")
        }
        kind if path.is_empty() => format!("{origin}: {kind}"),
        kind => format!("{origin}: {path}: {kind}"),
    }
}

impl Overrides {
    fn with_credential(mut self) -> Result<Self, ConfigError> {
        let path = self.credentials.as_ref().map(|directory| directory.join(CREDENTIAL));
        let Some(path) = path.filter(|path| self.database_url.is_none() && path.exists()) else {
            return Ok(self);
        };
        let url = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError(vec![format!("{}: {error}", path.display())]))?;
        self.database_url = Some(url.trim()).filter(|url| !url.is_empty()).map(DatabaseUrl::from);
        Ok(self)
    }

    fn apply(self, config: &mut Config) {
        fn put<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        put(&mut config.database.url, self.database_url.map(Some));
        put(&mut config.data_dir, self.data_dir);
        put(&mut config.listen.host, self.host);
        put(&mut config.listen.port, self.port);
        put(&mut config.listen.tls_cert, self.tls_cert.map(Some));
        put(&mut config.listen.tls_key, self.tls_key.map(Some));
        put(&mut config.logging.level, self.log_level);
        put(&mut config.logging.format, self.log_format);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../etc/coordinator.yaml");

    fn from_yaml(text: &str) -> Result<Config, String> {
        let base = Figment::from(Serialized::defaults(Config::default()));
        let figment =
            layer(base, "FILE", &Yaml::string(text)).map_err(|error| error.to_string())?;
        figment.extract().map_err(|error| error.to_string())
    }

    fn keys(prefix: &str, value: &Value, found: &mut Vec<String>) {
        if let Value::Object(map) = value {
            for (key, value) in map {
                let path = format!("{prefix}{key}");
                keys(&format!("{path}."), value, found);
                found.push(path);
            }
        }
    }

    #[test]
    fn the_sample_states_every_key_with_its_default() {
        assert_eq!(from_yaml(SAMPLE), Ok(Config::default()));
        let sample: Value = Figment::from(Yaml::string(SAMPLE)).extract().unwrap();
        let (mut stated, mut known) = (Vec::new(), Vec::new());
        keys("", &sample, &mut stated);
        keys("", &serde_json::to_value(Config::default()).unwrap(), &mut known);
        stated.sort();
        known.sort();
        assert_eq!(stated, known);
    }

    #[test]
    fn an_unknown_key_is_refused_with_place_and_nearest_name() {
        for (text, expected) in [
            ("data_dri: /x", "FILE: unknown key `data_dri` (did you mean `data_dir`?)"),
            (
                "limits:\n  json_byte: 5",
                "FILE: unknown key `limits.json_byte` (did you mean `json_bytes`?)",
            ),
            ("zzzzzzzzzzzzzzz: 1", "FILE: unknown key `zzzzzzzzzzzzzzz`"),
        ] {
            assert_eq!(from_yaml(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key() {
        for (text, key) in [
            ("listen:\n  port: abc", "listen.port"),
            ("listen:\n  port: 70000", "listen.port"),
            ("prices:\n  gpu: {unit_type: gpu_seconds, unit_price: 0.02}", "prices.gpu.unit_price"),
            ("logging:\n  level: loud", "logging.level"),
        ] {
            let error = from_yaml(text).unwrap_err();
            assert!(error.starts_with(&format!("FILE: {key}: ")), "{error}");
        }
    }

    #[test]
    fn files_yield_to_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "listen: {port: 1}\nleases: {lease_secs: 60}").unwrap();
        let overrides = Overrides { port: Some(2), ..Overrides::default() };
        let config = load(Some(&path), overrides).unwrap();
        assert_eq!((config.listen.port, config.leases.lease_secs), (2, 60));
        assert_eq!(config.leases.ack_secs, Config::default().leases.ack_secs);
        let credential = |text: &str, url: Option<&str>| {
            std::fs::write(dir.path().join(CREDENTIAL), text).unwrap();
            let credentials = Some(dir.path().to_owned());
            let database_url = url.map(DatabaseUrl::from);
            let overrides = Overrides { credentials, database_url, ..Overrides::default() };
            load(Some(&path), overrides).unwrap().database_url()
        };
        assert_eq!(credential("postgres://u:p@h/d\n", None), "postgres://u:p@h/d");
        assert_eq!(credential("postgres://u:p@h/d", Some("sqlite:x")), "sqlite:x");
        assert_eq!(credential("\n", None), Config::default().database_url());
        let missing = load(Some(&dir.path().join("none.yaml")), Overrides::default());
        assert!(missing.unwrap_err().to_string().contains("none.yaml"));
    }
}
