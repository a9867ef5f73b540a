//! NVIDIA GPUs through the driver's own library.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

use super::gpu::{DeviceProbe, GpuDevice, NoDevices, Vendor};
use crate::sandbox::VramMeter;

/// Device files that all NVIDIA GPUs of a machine share. None of them gives access to a GPU by
/// itself; those that are not there are not needed.
const SHARED_NODES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];

/// The kernel's own number for the namespace in which the first process of the machine is.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The driver's library: loaded once, whoever asks.
static LIBRARY: LazyLock<Result<Arc<Nvml>, String>> =
    LazyLock::new(|| Nvml::init().map(Arc::new).map_err(|error| format!("NVML: {error}")));

/// The driver's library.
///
/// # Errors
/// There is no NVIDIA driver, or it is broken.
pub fn library() -> Result<Arc<Nvml>, String> {
    LIBRARY.clone()
}

/// The eyes that the library is.
pub struct NvmlProbe(Arc<Nvml>);

impl NvmlProbe {
    /// Loads it.
    ///
    /// # Errors
    /// There is no NVIDIA driver, or it is broken.
    pub fn open() -> Result<Self, NoDevices> {
        library().map(Self).map_err(NoDevices)
    }

    fn device(
        &self,
        index: u32,
        driver: Option<&str>,
        cuda: Option<&str>,
    ) -> Result<GpuDevice, NvmlError> {
        let device = self.0.device_by_index(index)?;
        let memory = device.memory_info()?;
        let temperature = device.temperature(TemperatureSensor::Gpu).ok();
        Ok(GpuDevice {
            index,
            name: device.name()?,
            vendor: Vendor::Nvidia,
            vram_total_mb: mebibytes(memory.total),
            vram_free_mb: Some(mebibytes(memory.free)),
            utilization_pct: device.utilization_rates().ok().map(|rates| rates.gpu),
            temperature_c: temperature.and_then(|degrees| i32::try_from(degrees).ok()),
            driver: driver.map(str::to_owned),
            cuda: cuda.map(str::to_owned),
            uuid: device.uuid().ok(),
            nodes: device.minor_number().map_or_else(|_| Vec::new(), nodes),
        })
    }
}

impl DeviceProbe for NvmlProbe {
    fn name(&self) -> &'static str {
        "NVML"
    }

    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices> {
        let driver = self.0.sys_driver_version().ok();
        let cuda = self.0.sys_cuda_driver_version().ok().map(cuda_version);
        // A GPU that has fallen off the bus must not hide the others.
        Ok((0..self.0.device_count()?)
            .filter_map(|index| self.device(index, driver.as_deref(), cuda.as_deref()).ok())
            .collect())
    }

    fn vram_meter(&self, uuid: &str) -> Option<VramMeter> {
        if !is_first_pid_namespace(&PathBuf::from("/proc/self/ns/pid")) {
            return None;
        }
        self.0.device_by_uuid(uuid).ok()?;
        let (nvml, uuid) = (Arc::clone(&self.0), uuid.to_owned());
        Some(Arc::new(move |pids| held(&nvml, &uuid, pids).ok().flatten()))
    }
}

/// The device files of the GPU with that minor number.
fn nodes(minor: u32) -> Vec<PathBuf> {
    let shared = SHARED_NODES.iter().map(PathBuf::from).filter(|node| node.exists());
    let own = Path::new("/dev").join(format!("nvidia{minor}"));
    std::iter::once(own).chain(shared).collect()
}

/// Whether the processes here have the numbers by which the driver knows them. In a container they
/// have others, and nothing that a job holds would be found to be its own.
fn is_first_pid_namespace(own: &Path) -> bool {
    std::fs::metadata(own).is_ok_and(|found| found.ino() == FIRST_PID_NAMESPACE)
}

/// What `pids` hold of a GPU's memory, in bytes; `None` where the driver does not say, or knows none
/// of them: they may hold nothing, or not be known to it.
fn held(nvml: &Nvml, uuid: &str, pids: &[u32]) -> Result<Option<u64>, NvmlError> {
    let device = nvml.device_by_uuid(uuid)?;
    let processes = device
        .running_compute_processes()?
        .into_iter()
        .chain(device.running_graphics_processes().unwrap_or_default());
    Ok(sum(processes.map(|process| (process.pid, process.used_gpu_memory)), pids))
}

fn sum(processes: impl Iterator<Item = (u32, UsedGpuMemory)>, pids: &[u32]) -> Option<u64> {
    let mut seen = Vec::new();
    let mut total = 0_u64;
    for (pid, used) in processes.filter(|(pid, _)| pids.contains(pid)) {
        // One that does both is in both lists.
        if seen.contains(&pid) {
            continue;
        }
        seen.push(pid);
        match used {
            UsedGpuMemory::Used(bytes) => total = total.saturating_add(bytes),
            UsedGpuMemory::Unavailable => return None,
        }
    }
    (!seen.is_empty()).then_some(total)
}

impl From<NvmlError> for NoDevices {
    fn from(error: NvmlError) -> Self {
        Self(format!("NVML: {error}"))
    }
}

fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// NVML says 12040 for 12.4.
fn cuda_version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_gpu_has_its_minor_number() {
        assert_eq!(nodes(7)[0], Path::new("/dev/nvidia7"));
        assert!(nodes(7)[1..].iter().all(|node| SHARED_NODES.map(Path::new).contains(&&**node)));
    }

    #[test]
    fn memory_of_processes_that_are_not_known_is_not_nothing() {
        let held = |pid, bytes| (pid, UsedGpuMemory::Used(bytes));
        let sum = |pids: &[u32]| sum([held(7, 5), held(8, 9), held(7, 5)].into_iter(), pids);
        assert_eq!((sum(&[7, 9]), sum(&[8, 7]), sum(&[1])), (Some(5), Some(14), None));
        let hidden = [(7, UsedGpuMemory::Unavailable)];
        assert_eq!(super::sum(hidden.into_iter(), &[7]), None);
        assert!(!is_first_pid_namespace(Path::new("/proc/self/ns/net")));
    }

    #[test]
    fn numbers_as_people_write_them() {
        assert_eq!(
            (cuda_version(12040), cuda_version(11080)),
            ("12.4".to_owned(), "11.8".to_owned())
        );
        assert_eq!(mebibytes(17_179_869_184), 16_384);
    }
}
