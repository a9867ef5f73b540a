//! The four places where values are set, each read into a list of [`Setting`]s. Which of them wins
//! is decided in [`super::load()`].

use std::collections::BTreeMap;
use std::path::Path;

use figment::providers::{Format, Yaml};
use figment::value::{Dict, Value};

use super::environment::Environment;
use super::error::ConfigError;
use super::grammar::{self, Expanded, Names};
use super::keys::{self, Key, Kind};
use super::origin::Origin;
use super::setting::Setting;

/// A flag that was given: the key's place, the flag as it is written, its value.
pub type Flag = (&'static str, &'static str, String);

/// Settings as they are collected, and what the owner should hear about them. No `Debug`: secrets
/// are among them.
#[derive(Default)]
pub struct Collected {
    /// The settings, those that count more behind.
    pub settings: Vec<Setting>,
    /// What is odd but works.
    pub warnings: Vec<String>,
    /// What `miner.conf` says, by name and as it stands there, without quotes and comments.
    plain: BTreeMap<String, String>,
}

impl Collected {
    fn expanded(&mut self, key: &Key, origin: &Origin, value: Expanded) -> String {
        for command in value.left_alone {
            let shown = if key.secret { "a command" } else { command.as_str() };
            self.warnings.push(format!(
                "{} in {origin}: {shown} is not run and stays as it is; only $(hostname) and ${{VAR}} are expanded",
                key.path
            ));
        }
        value.text
    }

    /// Reads the text of a YAML file.
    ///
    /// # Errors
    /// No YAML, an unknown key, a broken value.
    pub fn add_yaml(
        &mut self,
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(());
        }
        let dict: Dict = Yaml::from_str(text).map_err(|error| ConfigError::Yaml {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let origin = Origin::File { path: path.to_owned(), line: None };
        self.add_section("", dict, &origin, environment)
    }

    fn add_section(
        &mut self,
        prefix: &str,
        section: Dict,
        origin: &Origin,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (name, value) in section {
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match (keys::by_path(&path), value) {
                // An empty value is an unset one: samples keep keys without a value.
                (_, Value::Empty(..))
                    if keys::by_path(&path).is_some() || keys::is_section(&path) => {}
                (Some(key), value) => self.add_yaml_value(key, value, origin, environment)?,
                (None, Value::Dict(_, inner)) if keys::is_section(&path) => {
                    self.add_section(&path, inner, origin, environment)?;
                }
                (None, _) if keys::is_section(&path) => {
                    return Err(ConfigError::Value {
                        key: path,
                        origin: origin.clone(),
                        message: "is a section and takes keys, not a value".to_owned(),
                    });
                }
                (None, _) => return Err(unknown_path(path, origin)),
            }
        }
        Ok(())
    }

    fn add_yaml_value(
        &mut self,
        key: &'static Key,
        value: Value,
        origin: &Origin,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        let value = match value.as_str() {
            Some(text) if key.kind == Kind::Text => {
                let expanded =
                    grammar::expand(text, environment).map_err(|error| ConfigError::Value {
                        key: key.path.to_owned(),
                        origin: origin.clone(),
                        message: error.to_string(),
                    })?;
                Value::from(self.expanded(key, origin, expanded))
            }
            _ => value,
        };
        self.settings.push(Setting::from_yaml(key, value, origin.clone()));
        Ok(())
    }

    /// Reads the text of a `miner.conf`.
    ///
    /// # Errors
    /// A line that is no assignment, an unknown key, a broken value.
    pub fn add_conf(
        &mut self,
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        let mut scope = FileScope { environment, earlier: BTreeMap::new() };
        let mut found: BTreeMap<String, (Origin, String)> = BTreeMap::new();
        for assignment in grammar::assignments(text) {
            let assignment = assignment.map_err(|(line, error)| ConfigError::Line {
                path: path.to_owned(),
                line,
                error,
            })?;
            let origin = Origin::File { path: path.to_owned(), line: Some(assignment.line) };
            let Some(key) = keys::by_name(assignment.name) else {
                return Err(unknown_name(assignment.name, &origin));
            };
            let value = self.value(key, assignment.name, assignment.raw, &origin, &scope)?;
            if let Some(plain) = grammar::plain(assignment.raw) {
                self.plain.insert(assignment.name.to_owned(), plain.to_owned());
            }
            scope.earlier.insert(assignment.name.to_owned(), value.clone());
            if let Some((first, _)) =
                found.insert(assignment.name.to_owned(), (origin.clone(), value))
            {
                self.warnings
                    .push(format!("{} is set twice: {origin} overrides {first}", assignment.name));
            }
        }
        self.add_named(found)
    }

    /// Takes what concerns this program from the environment.
    ///
    /// # Errors
    /// A misspelled key of one of our sections, a broken value.
    pub fn add_environment(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        let mut found = BTreeMap::new();
        for (name, raw) in &environment.variables {
            let origin = Origin::Environment(name.clone());
            if let Some(key) = keys::by_name(name) {
                let raw = self.without_comment(key, name, raw);
                let value = self.value(key, name, raw, &origin, environment)?;
                found.insert(name.clone(), (origin, value));
            } else if let Some(rest) = name.strip_prefix(keys::PREFIX) {
                self.foreign(name, rest, &origin)?;
            }
        }
        self.add_named(found)
    }

    /// systemd drops the blanks between a closing quote and the comment behind it: the seed's unit
    /// hands the seed's file over as `https://x# Coordinator base URL`.
    fn without_comment<'a>(&self, key: &Key, name: &str, raw: &'a str) -> &'a str {
        if raw.starts_with(['"', '\'']) || !key.names.contains(&name) {
            return raw;
        }
        if let Some(plain) = self.plain.get(name).filter(|plain| !plain.is_empty())
            && let Some(rest) = raw.strip_prefix(plain.as_str())
            && rest.trim_start().starts_with('#')
        {
            return &raw[..plain.len()];
        }
        // No short name takes a value in which this could stand.
        raw.split_once("# ").map_or(raw, |(value, _)| value.trim_end())
    }

    /// The environment is shared: a name that only begins like ours may be another program's, but
    /// one that names a section of ours is a slip that must not go unnoticed.
    fn foreign(&mut self, name: &str, rest: &str, origin: &Origin) -> Result<(), ConfigError> {
        let section = rest.split("__").next().unwrap_or(rest).to_lowercase();
        // The coordinator's own variables begin like those of our section about it.
        let ours = rest.contains("__") && keys::is_section(&section) && section != "coordinator";
        let nearest = keys::nearest_name(name);
        if ours || nearest.as_deref().is_some_and(|key| keys::is_slip(name, key)) {
            return Err(unknown_name(name, origin));
        }
        if section != "coordinator"
            && let Some(nearest) = nearest
        {
            self.warnings
                .push(format!("{origin} is no key of this program; did you mean {nearest}?"));
        }
        Ok(())
    }

    fn value(
        &mut self,
        key: &Key,
        name: &str,
        raw: &str,
        origin: &Origin,
        scope: &impl Names,
    ) -> Result<String, ConfigError> {
        let expanded = grammar::value(raw, scope).map_err(|error| ConfigError::Value {
            key: name.to_owned(),
            origin: origin.clone(),
            message: error.to_string(),
        })?;
        Ok(self.expanded(key, origin, expanded))
    }

    /// Of several names of one key, the first in the key's own order counts.
    fn add_named(
        &mut self,
        mut found: BTreeMap<String, (Origin, String)>,
    ) -> Result<(), ConfigError> {
        for key in keys::KEYS {
            let mut chosen: Option<String> = None;
            for name in key.all_names() {
                let Some((origin, value)) = found.remove(&name) else { continue };
                if value.is_empty() {
                    continue;
                }
                if let Some(first) = &chosen {
                    self.warnings.push(format!("{name} in {origin} is overridden by {first}"));
                    continue;
                }
                self.settings.push(Setting::from_text(key, &name, &value, origin)?);
                chosen = Some(name);
            }
        }
        Ok(())
    }

    /// Takes the flags.
    ///
    /// # Errors
    /// A broken value.
    pub fn add_flags(
        &mut self,
        flags: &[Flag],
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (path, flag, text) in flags {
            let origin = Origin::Flag(flag);
            let Some(key) = keys::by_path(path) else {
                return Err(unknown_path((*path).to_owned(), &origin));
            };
            let expanded =
                grammar::expand(text, environment).map_err(|error| ConfigError::Value {
                    key: (*flag).to_owned(),
                    origin: origin.clone(),
                    message: error.to_string(),
                })?;
            let text = self.expanded(key, &origin, expanded);
            self.settings.push(Setting::from_text(key, flag, &text, origin)?);
        }
        Ok(())
    }
}

/// `${VAR}` in a file: the environment first, then what the file set further up.
struct FileScope<'a> {
    environment: &'a Environment,
    earlier: BTreeMap<String, String>,
}

impl Names for FileScope<'_> {
    fn hostname(&self) -> &str {
        &self.environment.hostname
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name).or_else(|| self.earlier.get(name).cloned())
    }
}

fn unknown_path(path: String, origin: &Origin) -> ConfigError {
    let nearest = keys::nearest_path(&path);
    ConfigError::UnknownKey { name: path, origin: origin.clone(), nearest }
}

fn unknown_name(name: &str, origin: &Origin) -> ConfigError {
    ConfigError::UnknownKey {
        name: name.to_owned(),
        origin: origin.clone(),
        nearest: keys::nearest_name(name),
    }
}
