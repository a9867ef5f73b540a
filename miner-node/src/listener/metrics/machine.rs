//! The machine. What it does not have, such as a GPU, has no sample: 0 would say something else.

use super::page::Page;
use crate::capabilities::GpuDevice;
use crate::listener::Machine;

pub(super) fn write(page: &mut Page, machine: &Machine) {
    page.gauge("aitbc_node_cpu_load", "Load average of the last minute", machine.cpu_load);
    let cores = &machine.cores;
    let of_core = |secs: fn(&crate::capabilities::host::CoreTime) -> f64| {
        cores.iter().map(move |core| (core.index.to_string(), secs(core)))
    };
    page.by(
        ("aitbc_node_cpu_busy_seconds_total", "counter", "Time that each hardware thread worked"),
        "core",
        of_core(|core| core.busy_secs),
    );
    page.by(
        ("aitbc_node_cpu_idle_seconds_total", "counter", "Time that each had nothing to do"),
        "core",
        of_core(|core| core.idle_secs),
    );
    let memory = &machine.memory;
    page.by(
        ("aitbc_node_memory_bytes", "gauge", "Memory of the machine, by kind"),
        "kind",
        [
            ("total".to_owned(), bytes(memory.total_mb)),
            ("available".to_owned(), bytes(memory.available_mb)),
            ("cached".to_owned(), bytes(memory.cached_mb)),
        ],
    );
    let (free, size) = machine.disk_mb;
    page.gauge("aitbc_node_disk_free_bytes", "Room in the work directory", bytes(free));
    page.gauge("aitbc_node_disk_size_bytes", "Size of its disk", bytes(size));
    page.by(
        ("aitbc_node_network_bytes_total", "counter", "What went over the network"),
        "direction",
        [
            ("receive".to_owned(), machine.network.rx_bytes as f64),
            ("transmit".to_owned(), machine.network.tx_bytes as f64),
        ],
    );
    gpus(page, &machine.gpus);
}

fn gpus(page: &mut Page, gpus: &[GpuDevice]) {
    let of = |value: fn(&GpuDevice) -> Option<f64>| {
        gpus.iter().filter_map(move |gpu| Some((gpu.index.to_string(), value(gpu)?)))
    };
    let mebibytes = |mb: u32| bytes(mb.into());
    page.by(
        ("aitbc_node_gpu_vram_total_bytes", "gauge", "Memory of each GPU"),
        "gpu",
        gpus.iter().map(|gpu| (gpu.index.to_string(), mebibytes(gpu.vram_total_mb))),
    );
    page.by(
        ("aitbc_node_gpu_vram_free_bytes", "gauge", "What of it is free"),
        "gpu",
        of(|gpu| gpu.vram_free_mb.map(|mb| bytes(mb.into()))),
    );
    page.by(
        ("aitbc_node_gpu_busy_ratio", "gauge", "How busy each GPU is"),
        "gpu",
        of(|gpu| gpu.utilization_pct.map(|percent| f64::from(percent) / 100.0)),
    );
    page.by(
        ("aitbc_node_gpu_temperature_celsius", "gauge", "How hot each GPU is"),
        "gpu",
        of(|gpu| gpu.temperature_c.map(f64::from)),
    );
}

fn bytes(mebibytes: u64) -> f64 {
    mebibytes as f64 * f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::gpu::Vendor;

    fn text(gpus: Vec<GpuDevice>) -> String {
        let sensors = crate::capabilities::Sensors::with_gpus(Vec::new());
        let machine = Machine { gpus, ..Machine::now(&sensors, std::path::Path::new("/")) };
        let mut page = Page::new();
        write(&mut page, &machine);
        page.into_text()
    }

    #[test]
    fn without_a_gpu_there_is_no_sample_of_one() {
        let text = text(Vec::new());
        assert!(!text.contains("vram") && !text.contains("gpu"), "{text}");
        for part in [
            "aitbc_node_cpu_load ",
            "aitbc_node_cpu_busy_seconds_total{core=\"0\"} ",
            "aitbc_node_memory_bytes{kind=\"cached\"} ",
            "aitbc_node_network_bytes_total{direction=\"receive\"} ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn of_each_gpu_what_its_driver_tells() {
        let known = GpuDevice {
            vram_total_mb: 16,
            vram_free_mb: Some(8),
            utilization_pct: Some(50),
            temperature_c: Some(71),
            ..GpuDevice::named("A", Vendor::Nvidia)
        };
        let silent = GpuDevice { index: 1, ..GpuDevice::named("B", Vendor::Nvidia) };
        let text = text(vec![known, silent]);
        for part in [
            "aitbc_node_gpu_vram_free_bytes{gpu=\"0\"} 8388608\n",
            "aitbc_node_gpu_busy_ratio{gpu=\"0\"} 0.5\n",
            "aitbc_node_gpu_temperature_celsius{gpu=\"0\"} 71\n",
            "aitbc_node_gpu_vram_total_bytes{gpu=\"1\"} 0\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("vram_free_bytes{gpu=\"1\"}"), "{text}");
    }
}
