//! What the machine has and how busy it is, and what of it the node offers.
//!
//! [`Sensors`] looks at the machine; [`Probe`] is what it saw; [`offer`] turns that, the owner's
//! limits and the runners that work into the capabilities that the coordinator is told. GPUs are
//! found through [`gpu::DeviceProbe`].

use std::path::Path;

use protocol::job::SlotKind;
use serde::Serialize;

use crate::config::AccelMode;
use crate::sandbox::VramMeter;

pub mod gpu;
pub mod host;
pub mod load;
pub mod nvidia_smi;
pub mod nvml;
pub mod offer;
pub mod sysfs;

pub use gpu::{DeviceProbe, GpuDevice};
pub use offer::{miner_capabilities, offered_gpus, slot_plan};

/// What the machine has, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// The processor.
    pub cpu: host::Cpu,
    /// Its memory.
    pub memory: host::Memory,
    /// The file system of the work directory.
    pub disk: host::Disk,
    /// Its network interfaces.
    pub network: Vec<host::Interface>,
    /// Its GPUs; none is no fault.
    pub gpus: Vec<GpuDevice>,
}

impl Probe {
    /// The memory that programs on this machine can have together, in MiB.
    pub fn ram_mb(&self) -> u64 {
        self.memory.cgroup_limit_mb.unwrap_or(self.memory.total_mb)
    }

    /// The GPUs on which work can be done: on-board graphics without memory of its own is none.
    pub fn usable_gpus(&self) -> impl Iterator<Item = &GpuDevice> {
        self.gpus.iter().filter(|gpu| gpu.is_usable())
    }
}

/// What looks at the machine. Kept over samples, because rates need the sample before.
pub struct Sensors {
    host: host::Host,
    gpus: Vec<Box<dyn DeviceProbe>>,
}

impl Sensors {
    /// Sensors of this machine.
    pub fn of_machine() -> Self {
        Self { host: host::Host::of_machine(), gpus: gpu::probes_of_machine() }
    }

    /// Sensors with other eyes for GPUs.
    pub fn with_gpus(gpus: Vec<Box<dyn DeviceProbe>>) -> Self {
        Self { host: host::Host::of_machine(), gpus }
    }

    /// Looks at everything; `work` is the directory whose file system counts. May take a few
    /// hundred milliseconds and starts a program where there is no NVML: not for async code.
    pub fn probe(&mut self, work: &Path) -> Probe {
        self.host.wait_for_rates();
        Probe {
            cpu: self.host.cpu(),
            memory: host::memory(),
            disk: host::disk(work),
            network: self.host.network(),
            gpus: self.gpus(),
        }
    }

    /// Who knows what processes hold of the memory of a GPU, if anybody does.
    pub fn vram_meter(&self, gpu: &GpuDevice) -> Option<VramMeter> {
        let uuid = gpu.uuid.as_deref()?;
        self.gpus.iter().find_map(|probe| probe.vram_meter(uuid))
    }

    /// The GPUs of all probes; those that do not answer count as none.
    pub fn gpus(&self) -> Vec<GpuDevice> {
        let found = self.gpus.iter().flat_map(|probe| probe.devices().unwrap_or_default());
        found.zip(0..).map(|(device, index)| GpuDevice { index, ..device }).collect()
    }
}

/// On what the node works, and a warning where the owner asked for something else.
pub fn mode(wanted: AccelMode, has_gpu: bool) -> (SlotKind, Option<&'static str>) {
    match (wanted, has_gpu) {
        (AccelMode::Auto | AccelMode::Gpu, true) => (SlotKind::Gpu, None),
        (AccelMode::Gpu, false) => {
            (SlotKind::Cpu, Some("ACCEL_MODE=gpu, but no GPU is usable; working on the processor"))
        }
        (AccelMode::Auto, false) | (AccelMode::Cpu, _) => (SlotKind::Cpu, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_follows_the_owner_as_far_as_there_is_a_gpu() {
        for (wanted, has_gpu, kind, warned) in [
            (AccelMode::Auto, true, SlotKind::Gpu, false),
            (AccelMode::Auto, false, SlotKind::Cpu, false),
            (AccelMode::Gpu, true, SlotKind::Gpu, false),
            (AccelMode::Gpu, false, SlotKind::Cpu, true),
            (AccelMode::Cpu, true, SlotKind::Cpu, false),
            (AccelMode::Cpu, false, SlotKind::Cpu, false),
        ] {
            let (chosen, warning) = mode(wanted, has_gpu);
            assert_eq!((chosen, warning.is_some()), (kind, warned), "{wanted:?} {has_gpu}");
        }
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let probe = Sensors::of_machine().probe(Path::new("/var/lib/nobody/has/this"));
        assert!(probe.cpu.logical_cores > 0);
        assert_eq!(probe.cpu.per_core.len(), probe.cpu.logical_cores as usize);
        assert!(probe.memory.total_mb >= probe.memory.available_mb);
        assert!(probe.memory.available_mb > 0 && probe.disk.total_mb > 0);
        assert!(probe.network.iter().any(|interface| interface.name == "lo"));
    }

    #[test]
    fn gpus_of_all_probes_are_numbered_through() {
        struct Two;
        impl DeviceProbe for Two {
            fn name(&self) -> &'static str {
                "two"
            }
            fn devices(&self) -> Result<Vec<GpuDevice>, gpu::NoDevices> {
                Ok(vec![GpuDevice::named("A", gpu::Vendor::Nvidia); 2])
            }
        }
        struct Broken;
        impl DeviceProbe for Broken {
            fn name(&self) -> &'static str {
                "broken"
            }
            fn devices(&self) -> Result<Vec<GpuDevice>, gpu::NoDevices> {
                Err(gpu::NoDevices("exit status 9".to_owned()))
            }
        }
        let sensors = Sensors::with_gpus(vec![Box::new(Two), Box::new(Broken), Box::new(Two)]);
        let indexes: Vec<_> = sensors.gpus().iter().map(|gpu| gpu.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
    }
}
