//! What a run used, as proofs and failure reports tell it.

use protocol::job::SlotKind;
use serde_json::{Map, Value, json};

use crate::sandbox::Usage;

/// The known keys of `metrics`, as far as they were measured.
pub fn metrics(mode: SlotKind, usage: &Usage) -> Map<String, Value> {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let seconds = |time| json!(millis(time) as f64 / 1_000.0);
    let mut metrics = Map::new();
    let mut set = |name: &str, value: Value| drop(metrics.insert(name.to_owned(), value));
    set("duration_ms", millis(usage.wall).into());
    set("cpu_seconds", seconds(usage.cpu));
    if mode == SlotKind::Gpu {
        set("gpu_seconds", seconds(usage.wall));
    }
    if usage.max_rss_bytes > 0 {
        set("max_rss_mb", usage.max_rss_bytes.div_ceil(1 << 20).into());
    }
    set("written_bytes", usage.written_bytes.into());
    if let Some(bytes) = usage.vram_bytes {
        set("peak_vram_mb", bytes.div_ceil(1 << 20).into());
    }
    if let Some(joules) = usage.joules {
        set("energy_j", json!(joules));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_not_measured_is_not_told() {
        let usage = Usage {
            wall: Duration::from_micros(1_234_567),
            cpu: Duration::from_millis(20),
            max_rss_bytes: (3 << 20) + 1,
            written_bytes: 5,
            ..Usage::default()
        };
        let told = json!({
            "duration_ms": 1234, "cpu_seconds": 0.02, "max_rss_mb": 4, "written_bytes": 5,
        });
        assert_eq!(Value::from(metrics(SlotKind::Cpu, &usage)), told);
        let usage = Usage { vram_bytes: Some(1), joules: Some(2.5), ..usage };
        let told = Value::from(metrics(SlotKind::Gpu, &usage));
        assert_eq!([&told["peak_vram_mb"], &told["energy_j"]], [&json!(1), &json!(2.5)]);
        assert_eq!(told["gpu_seconds"], json!(1.234));
    }
}
