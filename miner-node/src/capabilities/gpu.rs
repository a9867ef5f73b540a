//! GPUs as such: what is known of one, and the eyes that can find them. Each way of looking has its
//! own file.

use serde::Serialize;

use super::nvidia_smi::NvidiaSmi;
use super::nvml::NvmlProbe;
use super::sysfs::Sysfs;

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
