//! The README's table of the node's settings, and the samples of docs/jobs.md, held against the code.

use std::collections::BTreeSet;

use miner_node::config::keys::KEYS;
use miner_node::config::{self, Config, Environment, Places};
use protocol::client::NewJob;

const README: &str = include_str!("../../../README.md");

const JOBS: &str = include_str!("../../../docs/jobs.md");

/// The text of every block of a language in docs/jobs.md.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks: Vec<_> = JOBS
        .split(&format!("\n```{language}\n"))
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block))
        .collect();
    assert!(!blocks.is_empty(), "docs/jobs.md has no {language}");
    blocks
}

#[test]
fn sample_jobs() {
    for block in blocks("json") {
        let job = serde_json::from_str::<NewJob>(block);
        assert!(job.is_ok(), "{block}: {job:?}");
    }
}

#[test]
fn sample_settings() {
    // The others are files of the allowlist.
    let samples: Vec<_> =
        blocks("yaml").into_iter().filter(|block| block.starts_with("runners:")).collect();
    assert!(samples.len() >= 3, "{samples:?}");
    for block in samples {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("miner.yaml");
        std::fs::write(&path, block).unwrap();
        let places = Places { files: Some(vec![path]), flags: Vec::new() };
        let loaded = config::load(&places, &Environment { is_root: true, ..Default::default() });
        let config = loaded.map(|loaded| loaded.config);
        assert!(config.as_ref().is_ok_and(|c| *c != Config::default()), "{block}: {config:?}");
    }
}

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
