//! How hot the processors are.

use std::path::Path;

use super::{below, number, text};

/// Drivers whose sensors are in processors.
const DRIVERS: [&str; 5] = ["coretemp", "k10temp", "zenpower", "cpu_thermal", "via_cputemp"];

/// What no processor that works shows, in degrees: such a sensor is broken.
const SANE: std::ops::RangeInclusive<f64> = -40.0..=150.0;

/// The hottest sensor, in degrees Celsius; `None` where there is none.
pub(super) fn hottest(root: &Path) -> Option<f64> {
    let chips = below(&root.join("sys/class/hwmon")).unwrap_or_default();
    let of_processor = |chip: &&std::path::PathBuf| {
        text(&chip.join("name")).is_some_and(|name| DRIVERS.contains(&name.trim()))
    };
    let sensors = chips.iter().filter(of_processor).filter_map(|chip| below(chip)).flatten();
    let inputs = sensors.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("temp") && name.ends_with("_input")
    });
    let zones = below(&root.join("sys/class/thermal")).unwrap_or_default();
    let of_package = |zone: &&std::path::PathBuf| {
        text(&zone.join("type"))
            .is_some_and(|kind| kind.trim() == "x86_pkg_temp" || kind.trim().starts_with("cpu"))
    };
    let zones: Vec<_> = zones.iter().filter(of_package).map(|zone| zone.join("temp")).collect();
    let degrees = inputs.chain(zones).filter_map(|path| Some(number(&path)? / 1000.0));
    degrees.filter(|degrees| SANE.contains(degrees)).max_by(f64::total_cmp)
}
