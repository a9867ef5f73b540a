//! What a decision is made of. What is not known is absent, never a guess.

use serde::{Deserialize, Serialize};

/// What is known at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// Milliseconds since some moment; never runs backwards.
    pub at_ms: u64,
    /// The wall clock, in seconds since 1970.
    pub unix_s: u64,
    /// Until when the owner wants peace, by the same clock.
    pub snooze_until: Option<u64>,
    /// The moment as the owner's watch shows it.
    pub local: Option<LocalTime>,
    /// The processors that this process may use, in order.
    pub processors: Vec<usize>,
    /// The jobs at work or about to be.
    pub jobs: Vec<Demand>,
    /// How many of them have a GPU.
    pub gpu_jobs: usize,
    /// For how long a look at the machine has not come back, in seconds; what else is here is as old.
    pub unseen_s: u64,
    /// How many processors others keep busy: neither mining nor jobs.
    pub others_load: Option<f64>,
    /// For how long nobody touched keyboard, mouse or a terminal, in seconds.
    pub input_idle_s: Option<u64>,
    /// Whether it runs on its battery.
    pub on_battery: Option<bool>,
    /// The hottest of its sensors, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// What its processors take, in watts.
    pub power_w: Option<f64>,
    /// Memory that could be had, in MiB.
    pub available_mb: Option<u64>,
    /// In how much of the last ten seconds something waited for memory, in per cent.
    pub memory_pressure_pct: Option<f64>,
    /// The same for processors. Mining threads that wait count here, too.
    pub cpu_pressure_pct: Option<f64>,
    /// What jobs pay this node in an hour, in AITBC, as far as it was seen lately.
    pub jobs_pay_per_h: Option<f64>,
    /// The engine.
    pub mining: Mining,
}

/// A moment as a watch on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTime {
    /// Days since Monday.
    pub weekday: u8,
    /// Minutes since midnight.
    pub minute: u16,
}

/// What a job wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// The processors that it was given.
    pub processors: Vec<usize>,
    /// The memory that it may still take, in MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// How it stands to mining.
    #[serde(default)]
    pub class: Class,
}

/// How a job stands to mining.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It yields.
    Low,
    /// It has its processors.
    #[default]
    Normal,
    /// Nothing mines beside it.
    Critical,
}

/// What is known of the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mining {
    /// How many threads it could run.
    pub threads_most: usize,
    /// Memory that it holds, in MiB.
    pub memory_held_mb: u64,
    /// Memory that it needs to run, in MiB.
    pub memory_need_mb: u64,
    /// Hashes a second with all threads, as far as it was seen lately; pauses do not count.
    pub hashrate: Option<f64>,
    /// How long building the dataset took last, in seconds.
    pub rebuild_s: Option<f64>,
    /// Whether it mines on a GPU.
    pub has_gpu: bool,
}

impl Facts {
    /// For how long the owner wants peace yet, in seconds.
    pub(super) fn snoozed_for(&self) -> Option<u64> {
        self.snooze_until?.checked_sub(self.unix_s).filter(|rest| *rest > 0)
    }
}
