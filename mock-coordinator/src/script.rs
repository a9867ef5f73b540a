//! The script of a mock: which jobs it submits and what goes wrong.

use std::path::Path;

use figment::Figment;
use figment::providers::{Format as _, Yaml};
use protocol::Name;
use protocol::client::NewJob;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::faults::Rule;

/// A script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The jobs: each is submitted when the one before it has ended.
    pub jobs: Vec<NewJob>,
    /// After the last job comes the first again.
    pub repeat: bool,
    /// What goes wrong.
    pub faults: Vec<Rule>,
}

impl Default for Script {
    /// Small jobs, for ever; nothing goes wrong. The second is not for the seed's script, which
    /// knows no `hash`: it lapses soon, so that the first comes again.
    fn default() -> Self {
        Self { jobs: default_jobs(), repeat: true, faults: Vec::new() }
    }
}

fn default_jobs() -> Vec<NewJob> {
    let jobs = [
        json!({"workload": "torch_bench", "params": {"size": 256, "rounds": 10}}),
        json!({
            "workload": "hash",
            "input": {"inline": {"text": "hello world\n"}},
            "ttl_seconds": 5,
        }),
    ];
    jobs.into_iter().filter_map(|job| serde_json::from_value(job).ok()).collect()
}

/// Reads a script.
///
/// # Errors
/// What is wrong with it, with its place.
pub fn read(path: &Path) -> Result<Script, String> {
    let origin = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: {error}"))?;
    parse(&text).map_err(|error| format!("{origin}: {error}"))
}

/// Parses a script.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Script, String> {
    let script: Script =
        Figment::from(Yaml::string(text)).extract().map_err(|error| error.to_string())?;
    for rule in &script.faults {
        rule.check()?;
    }
    Ok(script)
}

/// A name that is a constant of this crate.
pub(crate) fn name(text: &'static str) -> Name {
    match text.parse() {
        Ok(name) => name,
        Err(_) => unreachable!("{text} is a name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../etc/mock.yaml");

    #[test]
    fn the_sample_is_the_default_and_shows_every_fault() {
        let mut sample = parse(SAMPLE).unwrap();
        let faults = std::mem::take(&mut sample.faults);
        assert_eq!(sample, Script::default());
        assert_eq!(sample.jobs.len(), 2);
        assert!(faults.is_empty());
        let commented: String = SAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("#: "))
            .map(|line| format!("{line}\n"))
            .collect();
        let shown = parse(&commented).unwrap().faults;
        assert_eq!(shown.len(), 3);
        assert!(shown[0].status.is_some() && shown[1].after && shown[2].drop);
    }

    #[test]
    fn what_is_unknown_or_without_effect_is_refused() {
        assert!(parse("jbos: []").unwrap_err().contains("jbos"));
        assert!(parse("jobs:\n  - {workload: hash, prams: {}}").unwrap_err().contains("prams"));
        assert!(parse("faults:\n  - {route: GET /x}").unwrap_err().contains("GET /x"));
    }
}
