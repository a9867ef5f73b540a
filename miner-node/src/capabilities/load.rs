//! How busy the machine is, as heartbeats state it.

use std::path::Path;

use serde_json::{Map, Value};

use super::gpu::GpuDevice;
use super::host::{Cpu, Disk, Interface, Memory};
use super::{Sensors, host};

impl Sensors {
    /// The `metrics` of a heartbeat; rates are those since the last call. What is not known (of a
    /// GPU that is not there) is absent. Not for async code, as [`Sensors::probe`].
    pub fn load(&mut self, work: &Path) -> Map<String, Value> {
        let (cpu, network) = (self.host.cpu(), self.host.network());
        metrics(&cpu, &host::memory(), &host::disk(work), &network, &self.gpus())
    }
}

fn metrics(
    cpu: &Cpu,
    memory: &Memory,
    disk: &Disk,
    network: &[Interface],
    gpus: &[GpuDevice],
) -> Map<String, Value> {
    let outside = || network.iter().filter(|interface| interface.name != "lo");
    let mut metrics = Map::new();
    let mut set = |name: &str, value: Value| drop(metrics.insert(name.to_owned(), value));
    set("cpu_load", rounded(cpu.load_1m));
    set("cpu_percent", rounded(f64::from(cpu.usage_pct)));
    set("ram_free_mb", memory.available_mb.into());
    set("disk_free_mb", disk.available_mb.into());
    set("net_rx_bytes", outside().map(|interface| interface.rx_bytes).sum::<u64>().into());
    set("net_tx_bytes", outside().map(|interface| interface.tx_bytes).sum::<u64>().into());
    let usable = || gpus.iter().filter(|gpu| gpu.is_usable());
    // Of several GPUs: the room of the roomiest, the busiest, the hottest.
    if let Some(free) = usable().filter_map(|gpu| gpu.vram_free_mb).max() {
        set("vram_free_mb", free.into());
    }
    if let Some(busy) = usable().filter_map(|gpu| gpu.utilization_pct).max() {
        set("gpu_util", busy.into());
    }
    if let Some(hot) = usable().filter_map(|gpu| gpu.temperature_c).max() {
        set("gpu_temp_c", hot.into());
    }
    metrics
}

/// Two digits are all that such numbers mean.
fn rounded(number: f64) -> Value {
    Value::from((number * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::gpu::Vendor;

    fn metrics_with(gpus: &[GpuDevice]) -> Map<String, Value> {
        let mut host = host::Host::of_machine();
        let interface = |name: &str, rx_bytes, tx_bytes| Interface {
            name: name.to_owned(),
            addresses: Vec::new(),
            mac: String::new(),
            rx_bytes,
            tx_bytes,
        };
        let network =
            [interface("eth0", 10, 1), interface("lo", 1000, 1000), interface("wg0", 5, 2)];
        metrics(&host.cpu(), &host::memory(), &host::disk(Path::new("/")), &network, gpus)
    }

    #[test]
    fn without_a_gpu_nothing_is_said_of_one() {
        let metrics = metrics_with(&[]);
        let mut names: Vec<_> = metrics.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [
            "cpu_load",
            "cpu_percent",
            "disk_free_mb",
            "net_rx_bytes",
            "net_tx_bytes",
            "ram_free_mb",
        ];
        assert_eq!(names, expected);
        assert_eq!((&metrics["net_rx_bytes"], &metrics["net_tx_bytes"]), (&15.into(), &3.into()));
    }

    #[test]
    fn of_several_gpus_the_extremes() {
        let gpu = |free, busy, hot| GpuDevice {
            vram_free_mb: Some(free),
            utilization_pct: Some(busy),
            temperature_c: Some(hot),
            ..GpuDevice::named("A", Vendor::Nvidia)
        };
        let metrics = metrics_with(&[gpu(100, 90, 50), gpu(8000, 3, 71)]);
        assert_eq!(metrics["vram_free_mb"], 8000);
        assert_eq!((&metrics["gpu_util"], &metrics["gpu_temp_c"]), (&90.into(), &71.into()));
    }
}
