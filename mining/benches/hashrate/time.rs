//! Hashes and the time they took: by the clock, and by the processors' time that the program had,
//! which other load on the machine disturbs less.

use std::fs;

use serde_json::{Value, json};

/// A moment of a program that hashes.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// How many hashes are done.
    pub(crate) hashes: u64,
    /// By its own clock.
    pub(crate) seconds: f64,
    /// Of all its threads.
    pub(crate) cpu_seconds: f64,
}

/// What lies between two moments.
pub(crate) struct Slice {
    pub(crate) first: Moment,
    pub(crate) last: Moment,
}

impl Slice {
    /// Hashes per second of the clock, and of processors' time.
    pub(crate) fn rates(&self) -> Value {
        let Self { first, last } = self;
        let hashes = (last.hashes - first.hashes) as f64;
        json!({
            "clock": hashes / (last.seconds - first.seconds),
            "cpu": hashes / (last.cpu_seconds - first.cpu_seconds),
        })
    }
}

/// The processors' time that a process has had.
pub(crate) fn cpu_seconds(pid: &str) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process and its threads");
    let nanoseconds = tasks.filter_map(|task| {
        // The first number is the time on a processor (Documentation/scheduler/sched-stats.rst).
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
