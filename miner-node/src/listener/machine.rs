//! How busy the machine is at the moment when somebody asks. Read from the kernel and the drivers
//! each time: nothing is kept, so nobody who asks changes what another one is told.

use std::path::Path;

use serde::Serialize;

use crate::capabilities::host::{self, CoreTime, Memory, Traffic};
use crate::capabilities::{GpuDevice, Sensors};

/// How busy the machine is.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The load average of the last minute.
    pub cpu_load: f64,
    /// Each hardware thread since the machine's start.
    pub cores: Vec<CoreTime>,
    /// Memory.
    pub memory: Memory,
    /// What can still be written in the work directory, and the size of its disk, in MiB.
    pub disk_mb: (u64, u64),
    /// What went over the network since it came up, the machine's own loop left out.
    pub network: Traffic,
    /// GPUs on which work can be done.
    pub gpus: Vec<GpuDevice>,
}

impl Machine {
    /// Now. May start a program where there is no NVML: not for async code.
    pub fn now(sensors: &Sensors, work: &Path) -> Self {
        let disk = host::disk(work);
        Self {
            cpu_load: host::load_1m(),
            cores: host::core_times(),
            memory: host::memory(),
            disk_mb: (disk.available_mb, disk.total_mb),
            network: host::traffic(),
            gpus: sensors.gpus().into_iter().filter(GpuDevice::is_usable).collect(),
        }
    }

    /// The room of the roomiest GPU, in MiB; `None` without one that tells.
    pub fn vram_free_mb(&self) -> Option<u32> {
        self.gpus.iter().filter_map(|gpu| gpu.vram_free_mb).max()
    }
}
