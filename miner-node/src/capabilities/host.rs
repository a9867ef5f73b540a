//! Processor, memory, disk and network of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sysinfo::{Networks, System};

/// The processor.
#[derive(Debug, Clone, Serialize)]
pub struct Cpu {
    /// Its product name.
    pub model: String,
    /// Its architecture.
    pub architecture: String,
    /// Cores, where the system tells.
    pub physical_cores: Option<u32>,
    /// Hardware threads.
    pub logical_cores: u32,
    /// Hardware threads that this process may use.
    pub usable_cores: u32,
    /// The load average of the last minute.
    pub load_1m: f64,
    /// How busy all threads are together, in per cent.
    pub usage_pct: f32,
    /// Each hardware thread.
    pub per_core: Vec<Core>,
}

/// A hardware thread.
#[derive(Debug, Clone, Serialize)]
pub struct Core {
    /// Its number.
    pub index: u32,
    /// How busy it is, in per cent.
    pub usage_pct: f32,
    /// Its frequency in MHz; 0 where the system does not tell.
    pub mhz: u64,
}

/// Memory in MiB, as the kernel counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All.
    pub total_mb: u64,
    /// What programs can still get without swapping.
    pub available_mb: u64,
    /// What nothing uses, not even caches.
    pub free_mb: u64,
    /// Buffers and caches: what `free` shows as `buff/cache`.
    pub cached_mb: u64,
    /// The limit of this process's control group, where there is one.
    pub cgroup_limit_mb: Option<u64>,
}

/// The file system of a directory.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// The directory, or the next one above that exists.
    pub path: PathBuf,
    /// Its size in MiB.
    pub total_mb: u64,
    /// What this process can still write, in MiB.
    pub available_mb: u64,
}

/// A network interface.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its hardware address.
    pub mac: String,
    /// Bytes received since it came up.
    pub rx_bytes: u64,
    /// Bytes sent since it came up.
    pub tx_bytes: u64,
}

/// What a hardware thread did since the machine's start, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CoreTime {
    /// Its number.
    pub index: u32,
    /// While it worked.
    pub busy_secs: f64,
    /// While it waited for work, or for disks.
    pub idle_secs: f64,
}

/// What went over the network, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
}

/// The parts of the machine whose rates need two samples.
pub struct Host {
    system: Option<System>,
    networks: Option<Networks>,
}

impl Host {
    /// This machine, with the first sample taken.
    pub fn of_machine() -> Self {
        // Where /proc cannot be read there is nothing to sample; the numbers stay 0.
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_all();
        }
        Self { system, networks: Networks::new_with_refreshed_list().ok() }
    }

    /// Lets enough time pass for a rate. For one-off looks only: samplers have their own pace.
    pub fn wait_for_rates(&self) {
        std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
    }

    /// The processor; rates are those since the last call.
    pub fn cpu(&mut self) -> Cpu {
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        let mut cpu = Cpu {
            model: String::new(),
            architecture: System::cpu_arch(),
            physical_cores: System::physical_core_count().ok().and_then(|n| u32::try_from(n).ok()),
            logical_cores: 0,
            usable_cores: u32::try_from(usable).unwrap_or(u32::MAX),
            load_1m: load_1m(),
            usage_pct: 0.0,
            per_core: Vec::new(),
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_all();
            cpu.usage_pct = system.global_cpu_usage();
            let core = |(core, index): (&sysinfo::Cpu, u32)| Core {
                index,
                usage_pct: core.usage(),
                mhz: core.frequency(),
            };
            cpu.per_core = system.cpus().iter().zip(0..).map(core).collect();
            cpu.model =
                system.cpus().first().map(|core| core.brand().to_owned()).unwrap_or_default();
        }
        cpu.logical_cores = u32::try_from(cpu.per_core.len()).unwrap_or(u32::MAX);
        cpu
    }

    /// The network interfaces, by name.
    pub fn network(&mut self) -> Vec<Interface> {
        let Some(networks) = &mut self.networks else { return Vec::new() };
        networks.refresh(true);
        let mut interfaces: Vec<_> = networks
            .iter()
            .map(|(name, data)| Interface {
                name: name.to_string_lossy().into_owned(),
                addresses: data
                    .ip_networks()
                    .iter()
                    .map(|network| network.addr.to_string())
                    .collect(),
                mac: data.mac_address().to_string(),
                rx_bytes: data.total_received(),
                tx_bytes: data.total_transmitted(),
            })
            .collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        interfaces
    }
}

/// The load average of the last minute.
pub fn load_1m() -> f64 {
    System::load_average().map_or(0.0, |load| load.one)
}

/// Each hardware thread since the machine's start; none where the kernel does not tell.
pub fn core_times() -> Vec<CoreTime> {
    // The kernel's clock for programs, whatever its own is: 100 ticks a second on every platform
    // of ours (`USER_HZ`).
    parse_core_times(&fs::read_to_string("/proc/stat").unwrap_or_default(), 100.0)
}

/// Lines such as `cpu0 142 0 311 81204 17 0 3 0 0 0`, of which the fourth and the fifth number are
/// idle; what guests had is in the first two already.
fn parse_core_times(text: &str, ticks_per_sec: f64) -> Vec<CoreTime> {
    let core = |line: &str| {
        // The line of all together has no number.
        let (name, ticks) = line.split_once(' ')?;
        let index = name.strip_prefix("cpu")?.parse().ok()?;
        let words = ticks.split_ascii_whitespace();
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let idle = ticks.get(3..5)?.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let all = ticks.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let secs = |ticks: u64| ticks as f64 / ticks_per_sec;
        Some(CoreTime { index, busy_secs: secs(all - idle), idle_secs: secs(idle) })
    };
    text.lines().filter_map(core).collect()
}

/// What went over all interfaces but the machine's own loop, since they came up.
pub fn traffic() -> Traffic {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Traffic::default() };
    let outside = networks.iter().filter(|(name, _)| *name != "lo");
    outside.fold(Traffic::default(), |sum, (_, data)| Traffic {
        rx_bytes: sum.rx_bytes.saturating_add(data.total_received()),
        tx_bytes: sum.tx_bytes.saturating_add(data.total_transmitted()),
    })
}

/// Memory now.
pub fn memory() -> Memory {
    let mut memory = parse_meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    memory.cgroup_limit_mb =
        cgroup_limit_bytes().map(|bytes| bytes >> 20).filter(|limit| *limit < memory.total_mb);
    memory
}

/// Lines such as `MemTotal:       24607252 kB`.
pub fn parse_meminfo(text: &str) -> Memory {
    let kibibytes = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0)
    };
    Memory {
        total_mb: kibibytes("MemTotal") >> 10,
        available_mb: kibibytes("MemAvailable") >> 10,
        free_mb: kibibytes("MemFree") >> 10,
        cached_mb: ["Buffers", "Cached", "SReclaimable"]
            .map(kibibytes)
            .into_iter()
            .fold(0, u64::saturating_add)
            >> 10,
        cgroup_limit_mb: None,
    }
}

/// The memory limit of the control group that this process is in (version 2).
fn cgroup_limit_bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
    fs::read_to_string(limit).ok()?.trim().parse().ok()
}

/// The file system of `path`, or of the next directory above it that exists.
pub fn disk(path: &Path) -> Disk {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let (total, available) = rustix::fs::statvfs(existing).map_or((0, 0), |statistics| {
        let mebibytes = |blocks: u64| (u128::from(blocks) * u128::from(statistics.f_frsize)) >> 20;
        (mebibytes(statistics.f_blocks), mebibytes(statistics.f_bavail))
    });
    let fit = |mebibytes: u128| u64::try_from(mebibytes).unwrap_or(u64::MAX);
    Disk { path: existing.to_owned(), total_mb: fit(total), available_mb: fit(available) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_as_free_shows_it() {
        let text = "MemTotal:       24607252 kB\nMemFree:        20000000 kB\nMemAvailable:   23000000 kB\nBuffers:          102400 kB\nCached:          2048000 kB\nSwapCached:            0 kB\nSReclaimable:     102400 kB\n";
        let memory = parse_meminfo(text);
        assert_eq!((memory.total_mb, memory.free_mb), (24_030, 19_531));
        assert_eq!((memory.available_mb, memory.cached_mb), (22_460, 2_200));
        assert_eq!(parse_meminfo("nonsense"), Memory::default());
        let most = format!("Buffers: {0} kB\nCached: {0} kB\n", u64::MAX);
        assert_eq!(parse_meminfo(&most).cached_mb, u64::MAX >> 10);
    }

    #[test]
    fn each_core_was_busy_or_idle() {
        let text =
            "cpu  10 0 20 300 5 0 1 0 0 0\ncpu0 100 50 150 800 200 0 0 0 7 7\ncpu1 1 2\nctxt 5\n";
        let cores = parse_core_times(text, 100.0);
        assert_eq!(cores, [CoreTime { index: 0, busy_secs: 3.0, idle_secs: 10.0 }]);
        let most = format!("cpu0 {0} {0} {0} {0} {0}\n", u64::MAX);
        assert_eq!(parse_core_times(&most, 100.0)[0].busy_secs, 0.0);
        assert!(!core_times().is_empty());
    }

    #[test]
    fn received_bytes_are_counted() {
        let counted = |host: &mut Host| {
            host.network().iter().find(|interface| interface.name == "lo").map(|lo| lo.rx_bytes)
        };
        let mut host = Host::of_machine();
        let before = counted(&mut host).unwrap();
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[0; 1024], receiver.local_addr().unwrap()).unwrap();
        receiver.recv(&mut [0; 1024]).unwrap();
        assert!(counted(&mut host).unwrap() >= before + 1024);
    }
}
