//! The section `resources`: how much of the machine jobs may take, and how many run at once.

use serde::{Deserialize, Serialize};

/// How much of the machine jobs may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Jobs at once, of all kinds (`MAX_CONCURRENCY`); absent: as many as there are slots.
    pub max_concurrency: Option<u32>,
    /// CPU slots; absent: `max_concurrency`, or 1.
    pub max_concurrent_cpu: Option<u32>,
    /// GPU slots, at most one per GPU; absent: one per GPU.
    pub max_concurrent_gpu: Option<u32>,
    /// Niceness of jobs, 0 to 19.
    pub cpu_nice: u8,
    /// Memory that the largest job may ask for, in MiB; absent: all that the machine has.
    pub max_ram_mb: Option<u32>,
    /// Processor threads that a job may ask for and keep busy; absent: all that the machine has.
    pub max_cpu_threads: Option<u32>,
    /// Scratch space that the largest job may ask for, in MiB; absent: all that is free.
    pub max_disk_mb: Option<u32>,
    /// The largest input that is fetched, in MiB.
    pub max_input_mb: u32,
    /// The largest output that is kept, in MiB, where a job does not set a lower limit.
    pub max_output_mb: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            max_concurrency: None,
            max_concurrent_cpu: None,
            max_concurrent_gpu: None,
            cpu_nice: 10,
            max_ram_mb: None,
            max_cpu_threads: None,
            max_disk_mb: None,
            max_input_mb: 1024,
            max_output_mb: 1024,
        }
    }
}

impl Resources {
    /// How many jobs run at once on a machine with `gpus` usable GPUs.
    pub fn slots(&self, gpus: u32) -> SlotPlan {
        let most = self.max_concurrency.unwrap_or(u32::MAX);
        let gpu = gpus.min(self.max_concurrent_gpu.unwrap_or(gpus)).min(most);
        let cpu = self.max_concurrent_cpu.or(self.max_concurrency).unwrap_or(1).min(most);
        SlotPlan { cpu, gpu, total: cpu.saturating_add(gpu).min(most) }
    }
}

/// How many jobs run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotPlan {
    /// Jobs on the processor.
    pub cpu: u32,
    /// Jobs on GPUs.
    pub gpu: u32,
    /// Jobs of both kinds together; may be less than their sum.
    pub total: u32,
}
