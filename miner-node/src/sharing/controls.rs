//! What the owner changed while the node ran: rules in place of those of the configuration, and a
//! pause. Kept in the state directory, so that it outlasts the node. Of a file that is damaged all
//! is kept that can be, and the owner's noes in any case: a node that has forgotten them pauses.

use std::path::PathBuf;

use mining::policy::Rules;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::warn;

use crate::workdir::{read_json, write_json};

/// A pause that lasts until it is ended: the end of the year 9999.
pub const FOR_EVER: u64 = 253_402_300_799;

/// The key of the pause, among those of the rules.
const SNOOZE: &str = "snooze_until";

/// The key of what has it pause, if that was not the owner.
const FAULT: &str = "fault";

/// The rules that say no. Where such a value cannot be read, it was meant to be one.
const NOES: [&str; 2] = ["mining", "compute"];

/// Why something cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such rule.
    #[error("unknown control {name}{}", nearest.as_deref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    Unknown {
        /// The name as given.
        name: String,
        /// The rule that looks most like it.
        nearest: Option<String>,
    },
    /// It cannot be that.
    #[error("{key}: {message}")]
    Value {
        /// The rule.
        key: String,
        /// Why not.
        message: String,
    },
    /// It would be forgotten with the node.
    #[error("{} cannot be written: {source}", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What was changed.
#[derive(Debug)]
pub struct Controls {
    path: PathBuf,
    configured: Map<String, Value>,
    kept: Kept,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Kept {
    snooze_until: Option<u64>,
    rules: Map<String, Value>,
    /// Why it pauses, if that was not the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Kept {
    /// Nobody knows what the owner wanted: peace, until they say. Gives `why` back.
    fn pause(&mut self, why: &str) -> String {
        self.snooze_until = Some(FOR_EVER);
        self.fault = Some(format!("what was changed by ctl cannot be read: {why}"));
        why.to_owned()
    }
}

impl Controls {
    /// What `path` has, on top of `configured`. What cannot be read of it is told, and the file set
    /// aside.
    pub fn open(path: PathBuf, configured: &Rules) -> Self {
        let (configured, kept) = (object(configured), Kept::default());
        let mut controls = Self { path, configured, kept };
        let faults = match read_json::<Value>(&controls.path) {
            Ok(Value::Object(file)) => controls.salvage(file),
            Ok(_) => vec![controls.kept.pause("it is not an object")],
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => vec![controls.kept.pause(&error.to_string())],
        };
        if !faults.is_empty() {
            controls.set_aside(&faults.join("; "));
        }
        controls
    }

    /// Takes from `file` what makes sense, and says what does not.
    fn salvage(&mut self, mut file: Map<String, Value>) -> Vec<String> {
        let mut faults = Vec::new();
        match snooze(&file.remove(SNOOZE).unwrap_or_default()) {
            Ok(until) => self.kept.snooze_until = until,
            Err(error) => faults.push(self.kept.pause(&error.to_string())),
        }
        if let Some(fault) = file.remove(FAULT) {
            self.kept.fault = fault.as_str().map(str::to_owned);
        }
        let mut rules = match file.remove("rules") {
            Some(Value::Object(rules)) => rules,
            None => Map::new(),
            Some(_) => {
                faults.push(self.kept.pause("rules is not an object"));
                Map::new()
            }
        };
        faults.extend(file.keys().map(|key| self.unknown(key).to_string()));
        for key in NOES {
            if let Some(value) = rules.get_mut(key).filter(|value| !value.is_boolean()) {
                faults.push(format!("{key}: {value} is taken for a no"));
                *value = Value::Bool(false);
            }
        }
        if self.merged(&rules).is_ok() {
            self.kept.rules = rules;
            return faults;
        }
        // The noes first: what contradicts another rule must not be one of them.
        for key in NOES {
            self.kept.rules.extend(rules.remove_entry(key));
        }
        for (key, value) in rules {
            let mut more = self.kept.rules.clone();
            more.insert(key.clone(), value);
            match self.merged(&more) {
                _ if !self.configured.contains_key(&key) => {
                    faults.push(self.unknown(&key).to_string());
                }
                Ok(_) => self.kept.rules = more,
                Err(error) => faults.push(format!("{key}: {error}")),
            }
        }
        faults
    }

    /// Keeps the file for its owner, and writes what is in force instead.
    fn set_aside(&self, faults: &str) {
        let (from, to) = (&self.path, self.path.with_extension("bad.json"));
        warn!(
            event = "bad_controls",
            "{}: {faults}; the rest is in force, and the file kept as {}",
            from.display(),
            to.display()
        );
        let written = std::fs::rename(from, &to).and_then(|()| write_json(from, &self.kept));
        if let Err(error) = written {
            warn!(event = "bad_controls", "{}: {error}", from.display());
        }
    }

    /// The rules in force; `configured` where those that were kept make none.
    pub fn rules(&self, configured: &Rules) -> Rules {
        self.merged(&self.kept.rules).unwrap_or_else(|_| configured.clone())
    }

    /// Until when the owner wants peace, in seconds since 1970.
    pub const fn snooze_until(&self) -> Option<u64> {
        self.kept.snooze_until
    }

    /// Why there is peace, if that was not the owner's wish.
    pub fn fault(&self) -> Option<&str> {
        self.kept.fault.as_deref()
    }

    /// Everything that can be changed, as it is.
    pub fn shown(&self, rules: &Rules) -> Map<String, Value> {
        let mut shown = object(rules);
        shown.insert(SNOOZE.to_owned(), self.kept.snooze_until.into());
        shown
    }

    /// Takes changes in, and gives the rules that follow. `null` is what is configured.
    ///
    /// # Errors
    /// The first change that cannot be; nothing is changed then.
    pub fn change(&mut self, changes: &Map<String, Value>) -> Result<Rules, ControlError> {
        let mut kept = self.kept.clone();
        for (key, value) in changes {
            if key == SNOOZE {
                kept.snooze_until = snooze(value)?;
                kept.fault = None;
                continue;
            }
            let Some(configured) = self.configured.get(key) else { return Err(self.unknown(key)) };
            match (value, configured) {
                (Value::Null, _) => drop(kept.rules.remove(key)),
                // As the configuration has it: one text with commas.
                (Value::String(text), Value::Array(_)) => {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    kept.rules.insert(key.clone(), items.map(Value::from).collect());
                }
                (value, _) => drop(kept.rules.insert(key.clone(), value.clone())),
            }
            // By itself, so that the blame falls on the right one.
            if let Some(value) = kept.rules.get(key) {
                let alone = Map::from_iter([(key.clone(), value.clone())]);
                self.typed(&alone).map_err(|error| blame(key, &error))?;
            }
        }
        let rules = self.merged(&kept.rules)?;
        write_json(&self.path, &kept)
            .map_err(|source| ControlError::Unwritten { path: self.path.clone(), source })?;
        self.kept = kept;
        Ok(rules)
    }

    fn typed(&self, changed: &Map<String, Value>) -> Result<Rules, serde_json::Error> {
        let mut all = self.configured.clone();
        all.extend(changed.clone());
        serde_json::from_value(Value::Object(all))
    }

    fn merged(&self, changed: &Map<String, Value>) -> Result<Rules, ControlError> {
        let rules = self.typed(changed).map_err(|error| blame("controls", &error))?;
        rules.check().map_err(|problem| ControlError::Value {
            key: problem.key.to_owned(),
            message: problem.message.to_owned(),
        })?;
        Ok(rules)
    }

    fn unknown(&self, name: &str) -> ControlError {
        let known = self.configured.keys().map(String::as_str).chain([SNOOZE]);
        let likeness =
            |key: &&str| (strsim::normalized_damerau_levenshtein(name, key) * 1e3) as u32;
        let nearest = known.max_by_key(likeness).filter(|key| likeness(key) >= 600);
        ControlError::Unknown {
            name: name.chars().take(60).collect(),
            nearest: nearest.map(str::to_owned),
        }
    }
}

fn snooze(value: &Value) -> Result<Option<u64>, ControlError> {
    match value {
        Value::Null => Ok(None),
        value => value.as_u64().map(Some).ok_or_else(|| ControlError::Value {
            key: SNOOZE.to_owned(),
            message: "must be seconds since 1970, or null".to_owned(),
        }),
    }
}

fn blame(key: &str, error: &serde_json::Error) -> ControlError {
    ControlError::Value { key: key.to_owned(), message: error.to_string() }
}

fn object(rules: &Rules) -> Map<String, Value> {
    match serde_json::to_value(rules) {
        Ok(Value::Object(rules)) => rules,
        // A struct always becomes an object.
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object_of(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn changes_outlast_the_node_and_go_back_to_the_configuration() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("controls.json");
        let configured = Rules { cpu_pct: 80, ..Rules::default() };
        let mut controls = Controls::open(path.clone(), &configured);
        let changes = json!({"cpu_pct": 40, "schedule": "22:00-06:00, 12:00-13:00=50", "hash_value": 0.5, "snooze_until": 7});
        let rules = controls.change(&object_of(changes)).unwrap();
        assert_eq!((rules.cpu_pct, rules.schedule.len()), (40, 2));
        let shown = controls.shown(&rules);

        let mut again = Controls::open(path.clone(), &configured);
        assert_eq!(again.rules(&configured), rules);
        assert_eq!(again.shown(&again.rules(&configured)), shown);
        assert_eq!((&shown["cpu_pct"], &shown["snooze_until"]), (&json!(40), &json!(7)));
        let back =
            json!({"cpu_pct": null, "schedule": null, "hash_value": null, "snooze_until": null});
        assert_eq!(again.change(&object_of(back)).unwrap(), configured);
        assert_eq!(Controls::open(path, &configured).snooze_until(), None);
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("controls.json");
        let mut controls = Controls::open(path.clone(), &Rules::default());
        for (changes, message) in [
            (json!({"cpu_pct": 10, "cpu_pc": 5}), "unknown control cpu_pc; did you mean cpu_pct?"),
            (json!({"xyzzy": 5}), "unknown control xyzzy"),
            (json!({"cpu_pct": 101}), "cpu_pct must be at most 100"),
            (json!({"busy_pct": 5}), "busy_pct must not be less than load_pct"),
            (json!({"snooze_until": -1}), "snooze_until must be seconds since 1970, or null"),
        ] {
            let error = controls.change(&object_of(changes)).unwrap_err().to_string();
            assert_eq!(error.replace(": ", " "), message.replace(": ", " "));
        }
        let error = controls.change(&object_of(json!({"mining": "maybe"}))).unwrap_err();
        assert!(error.to_string().starts_with("mining: invalid type"), "{error}");
        assert!(!path.exists());
    }

    /// What is in force of a file, and whether the owner still finds the file.
    fn opened(text: &str, configured: &Rules) -> (Controls, Rules, bool) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("controls.json");
        std::fs::write(&path, text).unwrap();
        let controls = Controls::open(path.clone(), configured);
        let aside = path.with_extension("bad.json");
        let kept = aside.exists();
        if kept {
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
        }
        let rules = controls.rules(configured);
        // The next start finds the same, and nothing to set aside.
        let again = Controls::open(path, configured);
        assert_eq!(
            (again.rules(configured), again.snooze_until()),
            (rules.clone(), controls.snooze_until())
        );
        assert_eq!(again.fault(), controls.fault());
        (controls, rules, kept)
    }

    #[test]
    fn of_a_broken_file_the_rest_is_kept_and_its_noes_always() {
        let configured = Rules { load_pct: 30, ..Rules::default() };
        let no = || Rules { mining: false, compute: false, ..configured.clone() };
        for (rules, wanted) in [
            (json!({"mining": false, "compute": false, "cpu_pct": 900}), no()),
            (json!({"mining": false, "compute": false, "gone": 1}), no()),
            (json!({"mining": "flase", "compute": 0}), no()),
            // The configuration changed since: they contradict each other now.
            (json!({"mining": false, "compute": false, "busy_pct": 20}), no()),
            (json!({"cpu_pct": 40, "schedule": 7}), Rules { cpu_pct: 40, ..configured.clone() }),
        ] {
            let text = json!({"snooze_until": 7, "rules": rules}).to_string();
            let (controls, found, kept) = opened(&text, &configured);
            assert_eq!((found, controls.snooze_until(), kept), (wanted, Some(7), true), "{text}");
            assert_eq!(controls.fault(), None);
        }
        let whole = json!({"rules": {"busy_pct": 20, "load_pct": 10}}).to_string();
        let (_, found, kept) = opened(&whole, &configured);
        assert_eq!((found.busy_pct, found.load_pct, kept), (20, 10, false));
    }

    #[test]
    fn who_cannot_read_what_the_owner_wanted_pauses() {
        let configured = Rules::default();
        for text in ["", "nonsense", "[]", r#"{"rules": 7}"#, r#"{"snooze_until": "never"}"#] {
            let (controls, rules, kept) = opened(text, &configured);
            assert_eq!(
                (rules, controls.snooze_until(), kept),
                (Rules::default(), Some(FOR_EVER), true)
            );
            assert!(controls.fault().unwrap().contains("cannot be read: "), "{text}");
        }
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("controls.json");
        std::fs::write(&path, "").unwrap();
        let mut controls = Controls::open(path.clone(), &configured);
        controls.change(&object_of(json!({"snooze_until": null}))).unwrap();
        assert_eq!(controls.fault(), None);
        let again = Controls::open(path, &configured);
        assert_eq!((again.snooze_until(), again.fault()), (None, None));
    }
}
