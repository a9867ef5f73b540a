//! The README's table of the node's settings, held against the code.

use std::collections::BTreeSet;

use miner_node::config::Config;
use miner_node::config::keys::KEYS;

const README: &str = include_str!("../../../README.md");

#[test]
fn settings() {
    let (_, section) = README.split_once("### Settings of the node\n").unwrap();
    let section = section.split_once("\n### ").map_or(section, |(section, _)| section);
    let rows: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.rsplit_once(" | "))
        .map(|(row, _meaning)| format!("| `{row}"))
        .collect();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let expected = KEYS.iter().map(|key| {
        let names: Vec<_> = key.names.iter().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        let default = &defaults[key.path.split('.').next().unwrap_or_default()];
        let default = key.path.split('.').skip(1).fold(default, |value, name| &value[name]);
        format!("| `{}` | {names} | `{default}`", key.path)
    });
    assert_eq!(rows, expected.collect());
}
