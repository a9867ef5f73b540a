//! Processor packages through the kernel's files below `/sys/class/powercap` (Intel's and AMD's: both
//! are called `intel-rapl`). Only root may read them since CVE-2020-8694.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Counter, Reading};

/// The packages below a directory like `/sys/class/powercap`.
#[derive(Debug)]
pub struct Rapl {
    packages: Vec<PathBuf>,
}

impl Rapl {
    /// This machine's.
    pub fn of_machine() -> Self {
        Self::at(Path::new("/sys/class/powercap"))
    }

    /// Those below `root`.
    pub fn at(root: &Path) -> Self {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let mut packages: Vec<_> =
            entries.map(|entry| entry.path()).filter(|path| is_package(path)).collect();
        packages.sort();
        Self { packages }
    }
}

impl Counter for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn read(&self) -> Vec<Option<Reading>> {
        let reading = |package: &PathBuf| {
            let microjoules = number(&package.join("energy_uj"))?;
            Some(Reading { microjoules, range: number(&package.join("max_energy_range_uj")) })
        };
        self.packages.iter().map(reading).collect()
    }
}

/// A part of a package (`intel-rapl:0:0`) is in its sum already, and so is the package in `psys`.
fn is_package(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix("intel-rapl:").unwrap_or_default();
    let is_whole = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_whole && text(&path.join("name")).is_some_and(|name| name.starts_with("package"))
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_not_their_parts() {
        let root = tempfile::tempdir().unwrap();
        for (zone, name, energy) in [
            ("intel-rapl:0", "package-0", "1000000\n"),
            ("intel-rapl:1", "package-1", "nonsense"),
            ("intel-rapl:2", "psys", "5"),
            ("intel-rapl:0:0", "core", "7"),
            ("intel-rapl-mmio:0", "package-0", "7"),
            ("intel-rapl", "", "7"),
        ] {
            let zone = root.path().join(zone);
            fs::create_dir(&zone).unwrap();
            for (file, text) in
                [("name", name), ("energy_uj", energy), ("max_energy_range_uj", "262143328850")]
            {
                fs::write(zone.join(file), text).unwrap();
            }
        }
        let rapl = Rapl::at(root.path());
        let reading = Reading { microjoules: 1_000_000, range: Some(262_143_328_850) };
        assert_eq!(rapl.read(), [Some(reading), None]);
        assert_eq!(Rapl::at(Path::new("/no/such/directory")).read(), []);
    }
}
