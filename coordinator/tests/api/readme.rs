//! The tables of the README, held against the code: routes, error codes, failure codes, settings.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator::config::Config;
use coordinator::settlement::ending::{Next, Tries, after_failure};
use protocol::job::SlotKind;
use protocol::{ErrorCode, FailureCode};
use serde_json::Value;

use crate::support::document::{document, operations};

const README: &str = include_str!("../../../README.md");

/// The rows of the table under a heading, each cell without its backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let start = format!("### {heading}\n");
    let section = README.split_once(&start).unwrap().1;
    let section = section.split_once("\n### ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cell = |cell: &str| cell.trim_matches('`').to_owned();
    // The first two are the header and the line under it.
    rows.skip(2).map(|row| row.split(" | ").map(cell).collect()).collect()
}

/// The first cells of each row of a table, as one text each. No row may come twice.
fn firsts(heading: &str, cells: usize) -> BTreeSet<String> {
    let rows = table(heading);
    let set: BTreeSet<_> = rows.iter().map(|row| row[..cells].join(" ")).collect();
    assert_eq!(set.len(), rows.len(), "a row of {heading:?} comes twice");
    set
}

#[test]
fn routes() {
    let rows = operations(document()).map(|(path, method, operation)| {
        let keys = operation["security"].as_array().into_iter().flatten();
        let scopes: Vec<_> = keys.filter_map(|key| key["bearer"][0].as_str()).collect();
        let key = if scopes.is_empty() { "-".to_owned() } else { scopes.join(", ") };
        let summary = operation["summary"].as_str().unwrap().trim_matches('`');
        format!("{} {path} {key} {summary}", method.to_uppercase())
    });
    assert_eq!(firsts("Routes", 4), rows.collect());
}

#[test]
fn error_codes() {
    let row =
        |code: &ErrorCode| format!("{} {code} {}", code.status(), code.meaning().trim_matches('`'));
    assert_eq!(firsts("Error codes", 3), ErrorCode::ALL.iter().map(row).collect());
}

#[test]
fn failure_codes() {
    let row = |code: &FailureCode| {
        let (first, rest) = code.meaning().split_at(1);
        format!("{code} {}{rest} {}", first.to_lowercase(), what_becomes(*code))
    };
    assert_eq!(firsts("Failure codes", 3), FailureCode::ALL.iter().map(row).collect());
}

/// What becomes of a job on a GPU that fails at its first try and that others could run, too.
fn what_becomes(code: FailureCode) -> String {
    let tries = Tries { attempt: 1, max_attempts: 3, leases: 1 };
    let retry = Duration::from_secs(Config::default().jobs.retry_secs.into());
    let Next::Requeue { counted, delay, exclude } =
        after_failure(code, tries, SlotKind::Gpu, true, retry)
    else {
        return "FAILED".to_owned();
    };
    let text = match (counted, exclude, delay.as_secs()) {
        (false, ..) => {
            "goes back; no more GPU jobs for this miner until its capabilities change; not counted"
        }
        (true, true, _) => "goes to another miner that can run it, if there is one",
        (true, false, 0) => "is tried again at once",
        (true, false, secs) => {
            return format!("is tried again, after {secs} s, {} s, {} s, ..", 2 * secs, 4 * secs);
        }
    };
    match code {
        FailureCode::Canceled => format!("CANCELED; where nobody canceled it, {text}"),
        _ => text.to_owned(),
    }
}

#[test]
fn settings() {
    let mut settings = BTreeSet::new();
    leaves("", &serde_json::to_value(Config::default()).unwrap(), &mut settings);
    assert_eq!(firsts("Settings of the coordinator", 2), settings);
}

/// Every key with its default. A price is one value.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(section) if !section.is_empty() && !section.contains_key("unit_price") => {
            for (name, value) in section {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&path, value, found);
            }
        }
        leaf => {
            found.insert(format!("{path} {leaf}"));
        }
    }
}
