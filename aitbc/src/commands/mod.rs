//! What each command does: calls, and how their replies are shown.

pub mod artifacts;
pub mod config;
pub mod controls;
pub mod deposit;
pub mod fleet;
pub mod follow;
pub mod health;
pub mod job;
pub mod job_file;
pub mod jobs;
pub mod keys;
pub mod miners;
pub mod operator;
pub mod payouts;
pub mod receipt;
pub mod submit;
pub mod verdict;
pub mod wallet;
pub mod why;

use std::collections::BTreeMap;

/// An optional value in a table: a dash where there is none.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Counts in one cell.
fn counts<K: std::fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    let pairs: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if pairs.is_empty() { "none".to_owned() } else { pairs.join(", ") }
}
