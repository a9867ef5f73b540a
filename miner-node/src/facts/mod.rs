//! What mining has to know of the machine: how busy others keep it, whether somebody sits at it, heat,
//! power, battery, memory and the time.
//!
//! All of it is read from the kernel's files, but for what logind knows; no program is started. What cannot be read is unknown,
//! never a guess. What follows from it is decided in `mining::policy`.

use std::fs;
use std::path::{Path, PathBuf};

use mining::host;
use mining::policy::{Facts, LocalTime};
use protocol::Timestamp;

mod battery;
mod heat;
mod input;
mod load;
mod logins;
mod pressure;
mod watts;

use crate::config::mining::{EngineKind, Mining};
use input::Input;
use load::Load;
use watts::Watts;

/// No file that is read here is longer.
const LONGEST: u64 = 1 << 20;

/// Looks at the machine now and then; some facts are the difference between two looks.
#[derive(Debug)]
pub struct Observer {
    root: PathBuf,
    processors: Vec<usize>,
    load: Load,
    input: Input,
    watts: Watts,
}

impl Observer {
    /// This machine's.
    pub fn of_machine() -> Self {
        Self::at(Path::new("/"), usable_processors())
    }

    /// Of the files below `root`, where mining may use `processors`.
    pub fn at(root: &Path, processors: Vec<usize>) -> Self {
        Self {
            root: root.to_owned(),
            load: Load::at(root, processors.clone()),
            processors,
            input: Input::at(root),
            watts: Watts::at(root),
        }
    }

    /// Counts an XMRig that runs already as the node's own, as `mining` has it.
    #[must_use]
    pub fn driving(mut self, mining: &Mining) -> Self {
        if mining.engine == EngineKind::Xmrig && mining.xmrig.path.is_none() {
            self.load.drives();
        }
        self
    }

    /// The processors that this process may use.
    pub fn processors(&self) -> &[usize] {
        &self.processors
    }

    /// Looks. `now` is the wall clock, `at_ms` a clock that never runs backwards. Of jobs and of
    /// mining nothing is said. Not for async code.
    pub fn look(&mut self, now: Timestamp, at_ms: u64) -> Facts {
        let read = |path: &str| text(&self.root.join(path));
        let waited = |of| read(&format!("proc/pressure/{of}")).and_then(|t| pressure::some(&t));
        let unix_s = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
        Facts {
            at_ms,
            unix_s,
            local: local(now),
            processors: self.processors.clone(),
            others_load: self.load.others(),
            input_idle_s: self.input.idle_s(unix_s),
            on_battery: battery::on_battery(&self.root),
            temperature_c: heat::hottest(&self.root),
            power_w: self.watts.since_last(at_ms),
            available_mb: host::available_bytes_at(&self.root).map(|bytes| bytes >> 20),
            memory_pressure_pct: waited("memory"),
            cpu_pressure_pct: waited("cpu"),
            ..Facts::default()
        }
    }
}

/// The memory of this machine, or what a control group leaves this process of it, in MiB.
pub fn total_mb() -> Option<u64> {
    host::total_bytes_at(Path::new("/")).map(|bytes| bytes >> 20)
}

/// As the watch of this machine's owner shows it; unknown where it has no time zone.
fn local(now: Timestamp) -> Option<LocalTime> {
    let zone = jiff::tz::TimeZone::try_system().ok()?;
    let now = jiff::Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(zone);
    let minute = i16::from(now.hour()) * 60 + i16::from(now.minute());
    Some(LocalTime {
        weekday: now.weekday().to_monday_zero_offset().unsigned_abs(),
        minute: minute.unsigned_abs(),
    })
}

/// The processors that this process may use.
pub fn usable_processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    let set =
        set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|n| set.is_set(*n)).collect());
    // A kernel that does not tell lets everything be used.
    set.unwrap_or_else(|_| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
    })
}

/// A small file, as text.
fn text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    // The name of a process may be any bytes.
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|odd| String::from_utf8_lossy(odd.as_bytes()).into()),
    )
}

/// The one number in a file.
fn number(path: &Path) -> Option<f64> {
    text(path)?.trim().parse().ok()
}

/// The directories below `directory`, in order.
fn below(directory: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).ok()?;
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests;
