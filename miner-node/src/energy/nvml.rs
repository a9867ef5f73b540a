//! NVIDIA GPUs through the driver's own library; cards since Volta count.

use std::sync::Arc;

use nvml_wrapper::Nvml;

use super::{Counter, Reading};
use crate::capabilities::nvml;

/// The loaded library.
#[derive(Debug)]
pub struct NvmlCounter(Arc<Nvml>);

impl NvmlCounter {
    /// `None` where there is no driver.
    pub fn open() -> Option<Self> {
        nvml::library().ok().map(Self)
    }

    fn energy(&self, index: u32) -> Option<Reading> {
        let millijoules = self.0.device_by_index(index).ok()?.total_energy_consumption().ok()?;
        Some(Reading { microjoules: millijoules.checked_mul(1000)?, range: None })
    }
}

impl Counter for NvmlCounter {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn read(&self) -> Vec<Option<Reading>> {
        let count = self.0.device_count().unwrap_or_default();
        (0..count).map(|index| self.energy(index)).collect()
    }
}
