//! AMD and Intel GPUs through the kernel's files below `/sys/class/drm`.

use std::fs;
use std::path::{Path, PathBuf};

use super::gpu::{DeviceProbe, GpuDevice, NoDevices, Vendor};

/// A directory like `/sys/class/drm`.
pub struct Sysfs(PathBuf);

impl Sysfs {
    /// This machine's.
    pub fn of_machine() -> Self {
        Self(PathBuf::from("/sys/class/drm"))
    }

    /// Another one.
    pub fn at(root: PathBuf) -> Self {
        Self(root)
    }
}

impl DeviceProbe for Sysfs {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Err(NoDevices(format!("{} is not there", self.0.display())));
        };
        let mut cards: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_card(path)).collect();
        cards.sort();
        let devices = cards.iter().filter_map(|card| device(card));
        Ok(devices.zip(0..).map(|(device, index)| GpuDevice { index, ..device }).collect())
    }
}

/// `card0`, but not its connectors (`card0-HDMI-A-1`).
fn is_card(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("card")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn device(card: &Path) -> Option<GpuDevice> {
    let files = card.join("device");
    let vendor = match text(&files.join("vendor"))?.as_str() {
        "0x1002" => Vendor::Amd,
        "0x8086" => Vendor::Intel,
        // NVIDIA's have their own ways; what is left are displays of servers and virtual machines.
        _ => return None,
    };
    let total = number(&files.join("mem_info_vram_total"))
        .or_else(|| number(&card.join("lmem_total_bytes")))
        .unwrap_or(0);
    let free = number(&files.join("mem_info_vram_used"))
        .map(|used| total.saturating_sub(used))
        .or_else(|| number(&card.join("lmem_avail_bytes")));
    Some(GpuDevice {
        vram_total_mb: mebibytes(total),
        vram_free_mb: free.map(mebibytes),
        utilization_pct: number(&files.join("gpu_busy_percent"))
            .and_then(|n| u32::try_from(n).ok()),
        temperature_c: temperature(&files.join("hwmon")),
        nodes: nodes(&files.join("drm"), vendor),
        ..GpuDevice::named(name(&files, vendor), vendor)
    })
}

/// The render node of the card, and what its maker's libraries need besides.
fn nodes(drm: &Path, vendor: Vendor) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(drm) else { return Vec::new() };
    let is_render =
        |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with("renderD"));
    let render = entries.flatten().map(|entry| entry.file_name()).find(is_render);
    let render = render.map(|name| Path::new("/dev/dri").join(name));
    let compute = (vendor == Vendor::Amd).then(|| PathBuf::from("/dev/kfd"));
    render.map_or_else(Vec::new, |render| compute.into_iter().chain([render]).collect())
}

fn name(files: &Path, vendor: Vendor) -> String {
    let maker = match vendor {
        Vendor::Nvidia => "NVIDIA",
        Vendor::Amd => "AMD",
        Vendor::Intel => "Intel",
    };
    match (text(&files.join("product_name")), text(&files.join("device"))) {
        (Some(product), _) if !product.is_empty() => product,
        (_, Some(id)) => format!("{maker} GPU {}", id.trim_start_matches("0x")),
        _ => format!("{maker} GPU"),
    }
}

/// The first sensor, in thousandths of a degree.
fn temperature(hwmon: &Path) -> Option<i32> {
    let sensors = fs::read_dir(hwmon).ok()?.flatten();
    let thousandths =
        sensors.filter_map(|sensor| text(&sensor.path().join("temp1_input"))).next()?;
    Some(thousandths.parse::<i32>().ok()? / 1000)
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn cards_of_amd_and_intel() {
        let root = TempDir::new().unwrap();
        write(
            root.path(),
            &[
                ("card0/device/vendor", "0x1002\n"),
                ("card0/device/device", "0x73bf\n"),
                ("card0/device/mem_info_vram_total", "17163091968\n"),
                ("card0/device/mem_info_vram_used", "1073741824\n"),
                ("card0/device/gpu_busy_percent", "7\n"),
                ("card0/device/drm/card0/dev", "226:0"),
                ("card0/device/drm/renderD128/dev", "226:128"),
                ("card0/device/hwmon/hwmon3/temp1_input", "45500\n"),
                ("card0-DP-1/device/vendor", "0x1002\n"),
                ("card1/device/vendor", "0x8086\n"),
                ("card2/device/vendor", "0x10de\n"),
                ("card3/device/vendor", "0x1a03\n"),
            ],
        );
        let devices = Sysfs::at(root.path().to_owned()).devices().unwrap();
        assert_eq!(devices.len(), 2);
        let amd = &devices[0];
        assert_eq!((amd.name.as_str(), amd.vendor), ("AMD GPU 73bf", Vendor::Amd));
        assert_eq!((amd.vram_total_mb, amd.vram_free_mb), (16_368, Some(15_344)));
        assert_eq!((amd.utilization_pct, amd.temperature_c), (Some(7), Some(45)));
        assert!(amd.is_usable());
        assert_eq!(amd.nodes, ["/dev/kfd", "/dev/dri/renderD128"].map(PathBuf::from));
        // On-board graphics without memory of its own.
        assert_eq!((devices[1].vendor, devices[1].index), (Vendor::Intel, 1));
        assert!(!devices[1].is_usable());
    }

    #[test]
    fn no_such_directory_is_no_gpu() {
        assert!(Sysfs::at(PathBuf::from("/nobody/has/this")).devices().is_err());
    }
}
