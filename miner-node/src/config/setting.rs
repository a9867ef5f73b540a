//! One key set in one place, as a figment provider: figment layers them, this file types them.

use figment::value::{Dict, Map, Num, Value};
use figment::{Metadata, Profile, Provider};

use super::error::ConfigError;
use super::keys::{Key, Kind};
use super::origin::Origin;

/// One key set in one place. No `Debug`: the value may be a secret.
#[derive(Clone)]
pub struct Setting {
    /// Which key.
    pub key: &'static Key,
    /// The value.
    pub value: Value,
    /// Where it was set.
    pub origin: Origin,
}

impl Setting {
    /// From plain text, as `miner.conf`, the environment and flags give it. `name` is what the
    /// owner wrote there.
    ///
    /// # Errors
    /// A text that does not fit the key's kind.
    pub fn from_text(
        key: &'static Key,
        name: &str,
        text: &str,
        origin: Origin,
    ) -> Result<Self, ConfigError> {
        let wrong = |expected: &str| ConfigError::Value {
            key: name.to_owned(),
            origin: origin.clone(),
            message: format!("{text:?} is not {expected}"),
        };
        let value = match key.kind {
            Kind::Text => Value::from(text),
            Kind::Number => match text.parse::<u64>() {
                Ok(number) => Value::from(number),
                Err(_) => return Err(wrong("a whole number")),
            },
            Kind::Flag => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Value::from(true),
                "0" | "false" | "no" | "off" => Value::from(false),
                _ => return Err(wrong("1 or 0")),
            },
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::from(items.map(Value::from).collect::<Vec<_>>())
            }
        };
        Ok(Self { key, value, origin })
    }

    /// From YAML: a number where text is wanted is meant as text (`node_id: 7`).
    pub fn from_yaml(key: &'static Key, value: Value, origin: Origin) -> Self {
        let value = match (key.kind, &value) {
            (Kind::Text, Value::Num(_, number)) => Value::from(number_text(*number)),
            _ => value,
        };
        Self { key, value, origin }
    }

    /// The value as text, if it is text.
    pub fn text(&self) -> Option<&str> {
        self.value.as_str()
    }
}

fn number_text(number: Num) -> String {
    match (number.to_u128(), number.to_i128(), number.to_f64()) {
        (Some(n), _, _) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (_, _, Some(n)) => n.to_string(),
        _ => String::new(),
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(
            figment::util::nest(self.key.path, self.value.clone()).into_dict().unwrap_or_default(),
        ))
    }
}
