//! For how long nobody has touched this machine: by the terminals, whose access times the kernel
//! moves with what is typed, by the input devices, as far as this process may read them, and by what
//! desktops tell logind.
//!
//! Of what an input device tells, nothing is looked at: only whether there was anything.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::logins::Logins;
use super::{below, text};

/// After how many looks it is asked again which devices there are.
const RESCAN: u32 = 60;

/// The most reads of one device at one look; somebody who types faster is busy anyway.
const MOST_READS: usize = 64;

/// By how much the clocks of two files may differ.
const HARMLESS_SKEW_S: u64 = 60;

#[derive(Debug)]
pub(super) struct Input {
    root: PathBuf,
    devices: Vec<(PathBuf, File)>,
    logins: Logins,
    looks: u32,
    /// When an input device told something last, in seconds since 1970.
    last_s: Option<u64>,
}

impl Input {
    pub(super) fn at(root: &Path) -> Self {
        let (root, logins) = (root.to_owned(), Logins::at(root));
        Self { root, devices: Vec::new(), logins, looks: 0, last_s: None }
    }

    /// In seconds; `None` where there is no terminal, no readable device and no desktop that tells.
    pub(super) fn idle_s(&mut self, now_s: u64) -> Option<u64> {
        if self.looks == 0 {
            self.rescan(now_s);
        }
        self.looks = (self.looks + 1) % RESCAN;
        let mut told = false;
        self.devices.retain_mut(|(_, device)| match drain(device) {
            Ok(any) => {
                told |= any;
                true
            }
            // It was unplugged.
            Err(_) => false,
        });
        if told {
            self.last_s = Some(now_s);
        }
        let used_s = self.logins.last_used_s(now_s);
        let times = self.last_s.into_iter().chain(used_s).chain(typed(&self.root));
        since_latest(times, now_s)
    }

    fn rescan(&mut self, now_s: u64) {
        for path in below(&self.root.join("dev/input")).unwrap_or_default() {
            let is_known = self.devices.iter().any(|(known, _)| *known == path);
            if is_known || !is_for_people(&self.root, &path) {
                continue;
            }
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
            if let Ok(device) = File::options().read(true).custom_flags(flags).open(&path) {
                // What happened before is not known: as if it were now.
                self.last_s.get_or_insert(now_s);
                self.devices.push((path, device));
            }
        }
    }
}

/// Whether it is a device with keys or buttons; sensors that tell of every tremor have none.
fn is_for_people(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with("event") {
        return false;
    }
    let keys = root.join("sys/class/input").join(&*name).join("device/capabilities/key");
    text(&keys).is_some_and(|keys| keys.split_whitespace().any(|word| word != "0"))
}

/// Reads what a device has to tell, and whether that is anything.
fn drain(device: &mut File) -> std::io::Result<bool> {
    let mut told = false;
    let mut forgotten = [0; 4096];
    for _ in 0..MOST_READS {
        match device.read(&mut forgotten) {
            Ok(0) => break,
            Ok(_) => told = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(told)
}

/// How long ago the latest of `times` was, all in seconds. One that is yet to come, as a clock that
/// was wrong leaves it behind, tells nothing.
fn since_latest(times: impl Iterator<Item = u64>, now_s: u64) -> Option<u64> {
    let latest = times.filter(|time| *time <= now_s.saturating_add(HARMLESS_SKEW_S)).max()?;
    Some(now_s.saturating_sub(latest))
}

/// When somebody typed last on each of the terminals, in seconds since 1970.
fn typed(root: &Path) -> impl Iterator<Item = u64> {
    let dev = root.join("dev");
    let consoles = below(&dev).unwrap_or_default().into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("tty").unwrap_or_default();
        // tty0 is whichever console is shown.
        !number.is_empty() && number != "0" && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let windows = below(&dev.join("pts")).unwrap_or_default();
    let windows = windows.into_iter().filter(|path| !path.ends_with("ptmx"));
    consoles.chain(windows).filter_map(|path| {
        let found = fs::symlink_metadata(path).ok()?;
        found.file_type().is_char_device().then(|| u64::try_from(found.atime()).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_yet_to_come_was_not_typed() {
        let idle_s = |times: &[u64]| since_latest(times.iter().copied(), 1000);
        assert_eq!(idle_s(&[400, 900, 700]), Some(100));
        // A clock that was an hour ahead moved it; one that differs a little is none of those.
        assert_eq!(idle_s(&[900, 4600]), Some(100));
        assert_eq!(idle_s(&[900, 1060]), Some(0));
        assert_eq!((idle_s(&[4600]), idle_s(&[])), (None, None));
    }
}
