//! What jobs run on, and GPUs that are in the machine but cannot be used: no driver, or one that
//! does not answer.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::capabilities::{DeviceProbe as _, Sensors, mode, nvidia_smi::NvidiaSmi};
use crate::config::{AccelMode, Config};

/// The devices of the machine's PCI buses.
const PCI: &str = "/sys/bus/pci/devices";

/// NVIDIA among the makers of PCI devices.
const NVIDIA: &str = "0x10de";

/// The drivers with which programs can compute on NVIDIA's.
const DRIVER: &str = "nvidia";

/// A GPU of NVIDIA's on a PCI bus.
#[derive(Debug, PartialEq, Eq)]
struct Card {
    /// Where it is, such as `0000:01:00.0`.
    slot: String,
    /// The driver that has it.
    driver: Option<String>,
}

/// What jobs run on.
pub(super) fn check(config: &Config) -> Finding {
    let gpus: Vec<_> =
        Sensors::of_machine().gpus().into_iter().filter(|gpu| gpu.is_usable()).collect();
    if gpus.is_empty()
        && config.accel_mode != AccelMode::Cpu
        && let Some(finding) = silent(&cards(Path::new(PCI)), || {
            NvidiaSmi::in_path().devices().err().map(|error| error.to_string())
        })
    {
        return finding;
    }
    match mode(config.accel_mode, !gpus.is_empty()) {
        (_, Some(warning)) => Finding::warn(
            "gpu",
            warning,
            "install the driver (nvidia-smi must work), or set ACCEL_MODE=auto",
        ),
        (kind, None) => {
            let names: Vec<_> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
            let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Finding::ok("gpu", format!("mode {kind}; GPUs: {found}"))
        }
    }
}

/// The display and compute devices of NVIDIA's.
fn cards(root: &Path) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut cards: Vec<_> = entries.flatten().filter_map(|entry| card(&entry.path())).collect();
    cards.sort_by(|a, b| a.slot.cmp(&b.slot));
    cards
}

fn card(device: &Path) -> Option<Card> {
    let text = |name: &str| fs::read_to_string(device.join(name)).ok();
    // 0x03: display controllers, those without an outlet among them.
    let is_card = text("vendor")?.trim() == NVIDIA && text("class")?.starts_with("0x03");
    let driver: Option<PathBuf> = fs::read_link(device.join("driver")).ok();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    is_card.then(|| Card {
        slot: name(device).unwrap_or_default(),
        driver: driver.as_deref().and_then(name),
    })
}

/// What is wrong where there are cards, but nothing tells of them.
fn silent(cards: &[Card], complaint: impl FnOnce() -> Option<String>) -> Option<Finding> {
    let first = cards.first()?;
    let slot = &first.slot;
    Some(match first.driver.as_deref() {
        None => Finding::warn(
            "gpu",
            format!("the NVIDIA GPU at {slot} has no driver"),
            "apt install nvidia-driver (non-free) and reboot; after a new kernel: dkms status; \
             or set ACCEL_MODE=cpu",
        ),
        Some("vfio-pci") => {
            Finding::ok("gpu", format!("the NVIDIA GPU at {slot} is lent to a virtual machine"))
        }
        Some(DRIVER) => {
            let why = complaint().map_or_else(String::new, |why| format!(": {why}"));
            Finding::warn(
                "gpu",
                format!("the driver of the NVIDIA GPU at {slot} does not answer{why}"),
                "run nvidia-smi; after an upgrade of the driver reboot (its module and its library \
                 differ in version); see dmesg for NVRM; or set ACCEL_MODE=cpu",
            )
        }
        Some(driver) => Finding::warn(
            "gpu",
            format!("the NVIDIA GPU at {slot} has the driver {driver}, on which nothing computes"),
            "apt install nvidia-driver (non-free), which replaces it, and reboot; or set ACCEL_MODE=cpu",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::doctor::Status;

    fn device(root: &Path, slot: &str, vendor: &str, class: &str, driver: Option<&str>) {
        let path = root.join(slot);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(path.join("class"), format!("{class}\n")).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), path.join("driver")).unwrap();
        }
    }

    #[test]
    fn only_display_and_compute_devices_of_nvidia_count() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "0000:02:00.0", NVIDIA, "0x030200", Some("nvidia"));
        device(root.path(), "0000:01:00.0", NVIDIA, "0x030000", None);
        device(root.path(), "0000:01:00.1", NVIDIA, "0x040300", Some("snd_hda_intel"));
        device(root.path(), "0000:00:02.0", "0x8086", "0x030000", Some("i915"));
        let card = |slot: &str, driver: Option<&str>| Card {
            slot: slot.to_owned(),
            driver: driver.map(str::to_owned),
        };
        assert_eq!(
            cards(root.path()),
            [card("0000:01:00.0", None), card("0000:02:00.0", Some("nvidia"))]
        );
        assert_eq!(cards(Path::new("/nobody/has/this")), []);
    }

    #[test]
    fn a_card_that_nothing_tells_of_is_told_with_the_way_out() {
        let told = |driver: Option<&str>| {
            let card = Card { slot: "0000:01:00.0".to_owned(), driver: driver.map(str::to_owned) };
            silent(&[card], || Some("nvidia-smi: exit status: 9".to_owned())).unwrap()
        };
        for (driver, status, part) in [
            (None, Status::Warn, "has no driver"),
            (Some("nouveau"), Status::Warn, "nouveau"),
            (Some("nvidia"), Status::Warn, "exit status: 9"),
            (Some("vfio-pci"), Status::Ok, "virtual machine"),
        ] {
            let finding = told(driver);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.detail.contains(part), "{finding:?}");
            assert_eq!(finding.fix.is_some(), status == Status::Warn);
        }
        assert_eq!(silent(&[], || None), None);
    }
}
