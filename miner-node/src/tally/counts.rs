//! What is counted, and how it adds up.

use std::collections::BTreeMap;
use std::time::Duration;

use mining::engine::Status;
use protocol::Amount;
use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets of durations, in seconds; the last one has none.
pub const BOUNDS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0];

/// How a job ended for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its proof was accepted.
    Completed,
    /// Its failure was reported.
    Failed,
    /// Somebody else has it, or the report was refused.
    Lost,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Completed, Self::Failed, Self::Lost];

    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// How long runs took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// How many fell into each bucket of [`BOUNDS`], and behind the last of them.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    pub(super) fn note(&mut self, took: Duration) {
        let secs = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| secs <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket] += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `percent` of the runs did not exceed, in seconds, as far as buckets tell:
    /// the upper bound of the one in which it lies. `None` without runs, and beyond the last bound.
    pub fn quantile(&self, percent: u64) -> Option<f64> {
        let (all, mut below) = (self.count(), 0);
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut reached = self.buckets.iter().position(|count| {
            below += count;
            below >= wanted
        });
        if all == 0 {
            reached = None;
        }
        BOUNDS.get(reached?).copied()
    }
}

/// All that is counted, over all lives of the node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// How often the node was started.
    pub starts: u64,
    /// For how long it has run, in milliseconds.
    pub uptime_ms: u64,
    /// Jobs, by how they ended.
    pub jobs: BTreeMap<Outcome, u64>,
    /// How long programs ran on processor slots, in microseconds.
    pub cpu_us: u64,
    /// The same on GPU slots.
    pub gpu_us: u64,
    /// How long each run took.
    pub durations: Durations,
    /// What the wallet got for jobs, in AITBC.
    pub earned: Amount,
    /// Heartbeats without an answer.
    pub heartbeats_failed: u64,
    /// Requests to inference servers, by the model that jobs asked for.
    pub models: BTreeMap<String, Requests>,
    /// What was mined.
    pub mined: Mined,
}

/// What came of a request to an inference server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// An answer, after `wall`, with so many tokens.
    Answered {
        /// From the request to the end of the answer.
        wall: Duration,
        /// As the server counts, for text.
        tokens: u64,
    },
    /// The server understood and refused.
    Refused,
    /// No answer, none that is to be understood, or none within the job's limits.
    Failed,
}

/// The requests for one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// How many were answered.
    pub answered: u64,
    /// How many the server refused.
    pub refused: u64,
    /// How many came to nothing.
    pub failed: u64,
    /// How long those that were answered took, in microseconds.
    pub answered_us: u64,
    /// Tokens that were generated.
    pub tokens: u64,
}

impl Requests {
    pub(super) fn note(&mut self, reply: Reply) {
        match reply {
            Reply::Answered { wall, tokens } => {
                let micros = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
                self.answered += 1;
                self.answered_us = self.answered_us.saturating_add(micros);
                self.tokens = self.tokens.saturating_add(tokens);
            }
            Reply::Refused => self.refused += 1,
            Reply::Failed => self.failed += 1,
        }
    }
}

/// What was mined, over all lives of the node and its engines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mined {
    /// Hashes.
    pub hashes: u64,
    /// Shares that pools took.
    pub accepted: u64,
    /// Shares that they did not take.
    pub rejected: u64,
    /// Shares that came too late.
    pub stale: u64,
    /// Shares of which nobody knows.
    pub lost: u64,
    /// Datasets that were built.
    pub datasets: u64,
    /// Connections to pools that ended.
    pub pool_failures: u64,
}

impl Mined {
    pub(super) fn of(status: &Status) -> Self {
        let shares = &status.shares;
        Self {
            hashes: status.hashes,
            accepted: shares.accepted,
            rejected: shares.rejected,
            stale: shares.stale,
            lost: shares.lost,
            datasets: status.datasets_built,
            pool_failures: status.pool.as_ref().map_or(0, |pool| pool.failures),
        }
    }

    /// Adds what is new since the engine said `before`. Less than before is an engine that began
    /// anew: all of it is new.
    pub(super) fn add(&mut self, before: &Self, now: &Self) {
        let mut add = |part: fn(&mut Self) -> &mut u64, before: u64, now: u64| {
            let new = now.checked_sub(before).unwrap_or(now);
            let sum = part(self);
            *sum = sum.saturating_add(new);
        };
        add(|all| &mut all.hashes, before.hashes, now.hashes);
        add(|all| &mut all.accepted, before.accepted, now.accepted);
        add(|all| &mut all.rejected, before.rejected, now.rejected);
        add(|all| &mut all.stale, before.stale, now.stale);
        add(|all| &mut all.lost, before.lost, now.lost);
        add(|all| &mut all.datasets, before.datasets, now.datasets);
        add(|all| &mut all.pool_failures, before.pool_failures, now.pool_failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_and_in_order() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(50), None);
        for millis in 1..=100 {
            durations.note(Duration::from_millis(millis * 30));
        }
        let quantiles = [50, 95, 99].map(|percent| durations.quantile(percent).unwrap());
        assert_eq!((quantiles, durations.count()), ([2.5, 5.0, 5.0], 100));
        durations.note(Duration::from_secs(1 << 20));
        assert_eq!(durations.quantile(100), None);
    }
}
