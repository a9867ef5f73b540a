//! What a node says of itself, as far as it is shown. What it does not say is nothing: a newer or an
//! older node can be watched, too.

use mining::policy::Decision;
use protocol::{Amount, Timestamp};
use serde::Deserialize;

use crate::tally::Counts;

/// A node at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    pub(super) node_id: String,
    pub(super) version: String,
    pub(super) uptime_secs: u64,
    pub(super) decision: Option<Decision>,
    pub(super) facts: Facts,
    pub(super) engine: Option<Engine>,
    pub(super) work: Work,
    pub(super) coordinator: Coordinator,
    pub(super) totals: Counts,
    pub(super) machine: Option<Machine>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// What jobs brought lately, in AITBC an hour.
    pub(super) jobs_pay_per_h: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Engine {
    pub(super) engine: String,
    pub(super) algorithm: Option<String>,
    pub(super) phase: String,
    pub(super) reason: Option<String>,
    pub(super) done_permille: Option<u64>,
    pub(super) threads: usize,
    pub(super) threads_most: usize,
    pub(super) hashrate: Hashrate,
    pub(super) pool: Option<Pool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hashrate {
    pub(super) ten_secs: Option<f64>,
    pub(super) minute: Option<f64>,
    pub(super) quarter_hour: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) url: String,
    pub(super) difficulty: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Work {
    pub(super) running: u32,
    pub(super) free: u32,
    /// Of processors, of GPUs, at once.
    pub(super) slots: (u32, u32, u32),
    pub(super) waiting: u32,
    pub(super) undelivered: usize,
    pub(super) obstacles: Vec<String>,
    pub(super) jobs: Vec<Job>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) workload: String,
    pub(super) slot: String,
    pub(super) phase: String,
    pub(super) age_secs: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Coordinator {
    pub(super) url: String,
    pub(super) registered: bool,
    pub(super) drained: bool,
    pub(super) last_heartbeat: Option<Timestamp>,
    pub(super) balance: Option<Amount>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) cpu_load: f64,
    pub(super) cores: Vec<Core>,
    pub(super) memory: Memory,
    /// What is free, and all.
    pub(super) disk_mb: (u64, u64),
    pub(super) gpus: Vec<Gpu>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Core {
    pub(super) index: u32,
    pub(super) busy_secs: f64,
    pub(super) idle_secs: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) total_mb: u64,
    pub(super) available_mb: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gpu {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) vram_total_mb: u32,
    pub(super) vram_free_mb: Option<u32>,
    pub(super) utilization_pct: Option<u32>,
    pub(super) temperature_c: Option<i32>,
}

impl Machine {
    /// How busy all threads were between `before` and now, from 0 to 1; since the machine's start
    /// without a look before. `None` where nothing is known.
    pub(super) fn busy(&self, before: Option<&Self>) -> Option<f64> {
        let sum = |machine: &Self| {
            let cores = machine.cores.iter();
            cores.fold((0.0, 0.0), |(busy, all), core| {
                (busy + core.busy_secs, all + core.busy_secs + core.idle_secs)
            })
        };
        let (busy, all) = sum(self);
        let (busy_before, all_before) = before.map_or((0.0, 0.0), sum);
        let (busy, all) = (busy - busy_before, all - all_before);
        (all > 0.0).then(|| (busy / all).clamp(0.0, 1.0))
    }

    /// How much of the memory is in use, from 0 to 1.
    pub(super) fn memory_used(&self) -> Option<f64> {
        let Memory { total_mb, available_mb } = self.memory;
        let used = total_mb.saturating_sub(available_mb);
        (total_mb > 0).then(|| used as f64 / total_mb as f64)
    }
}
