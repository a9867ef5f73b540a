//! What a run used, as proofs and failure reports tell it.

use protocol::job::SlotKind;
use serde_json::{Map, Value, json};

use crate::sandbox::Usage;
use crate::servers::ISOLATION;
use crate::workdir::RunRecord;

/// The least energy of which a quotient says anything, in joules.
const LEAST_JOULES: f64 = 0.001;

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
    if let Some(bytes) = usage.egress_bytes {
        set("egress_bytes", bytes.into());
    }
    if let Some(joules) = usage.joules {
        set("energy_j", json!(joules));
    }
    metrics
}

/// Those that are known of what ran under `isolation`.
pub fn known(mode: SlotKind, usage: &Usage, isolation: &str) -> Map<String, Value> {
    let mut metrics = metrics(mode, usage);
    if isolation == ISOLATION {
        // What a server of the owner's used is not known.
        for unknown in ["cpu_seconds", "written_bytes"] {
            metrics.remove(unknown);
        }
    }
    metrics
}

/// Those of a finished run, with what was measured besides, and what its energy was worth.
pub fn of_record(record: &RunRecord) -> Map<String, Value> {
    let mut metrics = known(record.mode, &record.usage(), &record.isolation);
    // Less than the counters can tell apart is no basis for a quotient.
    let joules = record.joules.filter(|joules| *joules >= LEAST_JOULES);
    if let (Some(joules), Some(tokens)) = (joules, record.tokens) {
        let rate = tokens as f64 / joules * 1_000.0;
        metrics.insert("tokens_per_kJ".to_owned(), json!((rate * 1_000.0).round() / 1_000.0));
    }
    metrics.extend(record.fuel.map(|fuel| ("fuel".to_owned(), fuel.into())));
    // Programs state numbers of their own here: they take the place of none that was measured.
    for (name, value) in &record.measured {
        metrics.entry(name).or_insert_with(|| value.clone());
    }
    metrics
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::Sha256Hex;

    use super::*;

    fn generated(joules: Option<f64>) -> Map<String, Value> {
        of_record(&RunRecord {
            mode: SlotKind::Gpu,
            isolation: ISOLATION.to_owned(),
            started_at: "2026-01-24T00:00:00Z".parse().unwrap(),
            wall_micros: 4_000_000,
            cpu_micros: 0,
            max_rss_bytes: 0,
            written_bytes: 0,
            vram_bytes: None,
            joules,
            egress_bytes: None,
            output_sha: Sha256Hex::of(b""),
            artifacts: Vec::new(),
            fuel: None,
            tokens: Some(200),
            model: None,
            measured: Map::from_iter([("tokens".to_owned(), 200.into())]),
        })
    }

    #[test]
    fn tokens_per_kilojoule_where_energy_was_measured() {
        let measured = generated(Some(160.0));
        assert_eq!([&measured["energy_j"], &measured["tokens_per_kJ"]], [160.0, 1250.0]);
        assert!(measured["tokens"] == 200 && !measured.contains_key("cpu_seconds"));
        for joules in [None, Some(0.0)] {
            assert!(!generated(joules).contains_key("tokens_per_kJ"));
        }
    }

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
