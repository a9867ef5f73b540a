//! GPUs as such: what is known of one, and the eyes that can find them. Each way of looking has its
//! own file.

use std::path::PathBuf;

use serde::Serialize;

use super::nvidia_smi::NvidiaSmi;
use super::nvml::NvmlProbe;
use super::sysfs::Sysfs;
use crate::sandbox::VramMeter;

/// A GPU and its state at one moment; what its driver does not tell is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuDevice {
    /// Its index on the node.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// Who makes it.
    pub vendor: Vendor,
    /// All its memory in MiB.
    pub vram_total_mb: u32,
    /// Its free memory in MiB.
    pub vram_free_mb: Option<u32>,
    /// How busy it is, in per cent.
    pub utilization_pct: Option<u32>,
    /// Its temperature in degrees Celsius.
    pub temperature_c: Option<i32>,
    /// Driver version.
    pub driver: Option<String>,
    /// Newest CUDA version that the driver serves.
    pub cuda: Option<String>,
    /// The name under which its driver knows it, whatever its index is.
    pub uuid: Option<String>,
    /// The device files with which a program reaches it, and no other GPU; none: jobs do not.
    pub nodes: Vec<PathBuf>,
}

/// Who makes a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl GpuDevice {
    /// One of which no more is known than its name.
    pub fn named(name: impl Into<String>, vendor: Vendor) -> Self {
        Self {
            index: 0,
            name: name.into(),
            vendor,
            vram_total_mb: 0,
            vram_free_mb: None,
            utilization_pct: None,
            temperature_c: None,
            driver: None,
            cuda: None,
            uuid: None,
            nodes: Vec::new(),
        }
    }

    /// Whether a job can be given it: what is known only by name cannot be shown to a program.
    pub fn is_reachable(&self) -> bool {
        self.is_usable() && !self.nodes.is_empty()
    }

    /// Whether its device files are all still there.
    pub fn is_there(&self) -> bool {
        self.nodes.iter().all(|node| node.exists())
    }

    /// What tells the libraries of its maker that it is the only one.
    pub fn environment(&self) -> Vec<(String, String)> {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match self.vendor {
            Vendor::Nvidia => {
                let index = self.index.to_string();
                vec![set("CUDA_VISIBLE_DEVICES", self.uuid.as_deref().unwrap_or(&index))]
            }
            // These count the devices that a program reaches, and it reaches one.
            Vendor::Amd => vec![set("HIP_VISIBLE_DEVICES", "0"), set("ROCR_VISIBLE_DEVICES", "0")],
            Vendor::Intel => vec![set("ZE_AFFINITY_MASK", "0")],
        }
    }

    /// Whether work can be done on it.
    pub fn is_usable(&self) -> bool {
        self.vendor == Vendor::Nvidia || self.vram_total_mb > 0
    }
}

/// Why a way of looking for GPUs found nothing to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoDevices(pub String);

/// A way of looking for GPUs.
pub trait DeviceProbe: Send {
    /// What it looks through, for `probe` and `doctor`.
    fn name(&self) -> &'static str;

    /// The devices and their state now, numbered from 0.
    ///
    /// # Errors
    /// The driver is missing or broken.
    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices>;

    /// Who knows what processes hold of the memory of the device `uuid`; `None`: not here.
    fn vram_meter(&self, _uuid: &str) -> Option<VramMeter> {
        None
    }
}

/// The ways that work on this machine: NVML, or `nvidia-smi` where the library is missing or
/// broken, and the kernel's own files for the other makers.
pub fn probes_of_machine() -> Vec<Box<dyn DeviceProbe>> {
    let nvidia: Box<dyn DeviceProbe> = match NvmlProbe::open() {
        Ok(nvml) if nvml.devices().is_ok() => Box::new(nvml),
        _ => Box::new(NvidiaSmi::in_path()),
    };
    vec![nvidia, Box::new(Sysfs::of_machine())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_of_one_gpu() {
        let mut gpu = GpuDevice { index: 3, ..GpuDevice::named("A", Vendor::Nvidia) };
        let told = |gpu: &GpuDevice| {
            let variables = gpu.environment().into_iter();
            variables.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(&gpu), "CUDA_VISIBLE_DEVICES=3");
        assert!(gpu.is_usable() && !gpu.is_reachable());
        gpu.uuid = Some("GPU-7".to_owned());
        gpu.nodes = vec![PathBuf::from("/dev/null")];
        assert_eq!(told(&gpu), "CUDA_VISIBLE_DEVICES=GPU-7");
        assert!(gpu.is_reachable() && gpu.is_there());
        gpu.nodes.push(PathBuf::from("/dev/nobody/has/this"));
        assert!(!gpu.is_there());
        gpu.vendor = Vendor::Amd;
        assert_eq!(told(&gpu), "HIP_VISIBLE_DEVICES=0 ROCR_VISIBLE_DEVICES=0");
    }
}
