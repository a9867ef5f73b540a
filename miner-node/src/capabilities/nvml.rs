//! NVIDIA GPUs through the driver's own library.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;

use super::gpu::{DeviceProbe, GpuDevice, NoDevices, Vendor};

/// The loaded library.
pub struct NvmlProbe(Nvml);

impl NvmlProbe {
    /// Loads it.
    ///
    /// # Errors
    /// There is no NVIDIA driver, or it is broken.
    pub fn open() -> Result<Self, NoDevices> {
        Ok(Self(Nvml::init()?))
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
    fn numbers_as_people_write_them() {
        assert_eq!(
            (cuda_version(12040), cuda_version(11080)),
            ("12.4".to_owned(), "11.8".to_owned())
        );
        assert_eq!(mebibytes(17_179_869_184), 16_384);
    }
}
