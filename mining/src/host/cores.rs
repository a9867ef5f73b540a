//! Which processors mine: as many as have 2 MiB of the last-level cache each, since a scratchpad
//! that does not fit there costs more than another thread brings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

/// What a thread of RandomX wants of the last-level cache.
const SCRATCHPAD_BYTES: u64 = 2 << 20;

/// The processors on which one thread each is worth it, best first: those that this process may
/// use (by affinity, cpuset and quota), whole cores before second threads of a core.
pub fn for_mining() -> Vec<usize> {
    let mut chosen = choose(Path::new("/sys/devices/system/cpu"), &allowed());
    // Knows of the quota of a control group, which affinity does not.
    let quota = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    chosen.truncate(quota.max(1));
    chosen
}

fn allowed() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect()
}

fn choose(sysfs: &Path, allowed: &[usize]) -> Vec<usize> {
    let mut by_cache: BTreeMap<String, (u64, Vec<(usize, usize)>)> = BTreeMap::new();
    for &number in allowed {
        let directory = sysfs.join(format!("cpu{number}"));
        // Where nothing is known, each processor counts.
        let (shared_by, bytes) = last_cache(&directory)
            .unwrap_or_else(|| (format!("processor {number}"), SCRATCHPAD_BYTES));
        let group = by_cache.entry(shared_by).or_insert((bytes, Vec::new()));
        group.1.push((turn(&directory, number), number));
    }
    let mut chosen = Vec::new();
    for (bytes, mut processors) in by_cache.into_values() {
        processors.sort_unstable();
        let most = usize::try_from(bytes / SCRATCHPAD_BYTES).unwrap_or(usize::MAX).max(1);
        chosen.extend(processors.into_iter().take(most));
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|(_, number)| number).collect()
}

/// Who shares the largest cache of a processor, and how large it is.
fn last_cache(processor: &Path) -> Option<(String, u64)> {
    let levels = fs::read_dir(processor.join("cache")).ok()?.flatten().map(|entry| entry.path());
    let unified = levels.filter(|index| word(index, "type").as_deref() == Some("Unified"));
    let level = |index: &std::path::PathBuf| word(index, "level")?.parse::<u8>().ok();
    let index = unified.max_by_key(level)?;
    Some((word(&index, "shared_cpu_list")?, bytes(&word(&index, "size")?)?))
}

/// The place of a processor among the threads of its core.
fn turn(processor: &Path, number: usize) -> usize {
    let siblings = word(&processor.join("topology"), "thread_siblings_list").unwrap_or_default();
    let first = siblings.split([',', '-']).next().and_then(|first| first.parse::<usize>().ok());
    usize::from(first.is_some_and(|first| first != number))
}

fn word(directory: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(directory.join(file)).ok()?.trim().to_owned())
}

/// `32768K` in bytes.
fn bytes(size: &str) -> Option<u64> {
    let (number, shift) = match size.strip_suffix('K') {
        Some(number) => (number, 10),
        None => size.strip_suffix('M').map_or((size, 0), |number| (number, 20)),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(sysfs: &Path, number: usize, siblings: &str, l3: (&str, &str)) {
        let write = |file: &str, text: &str| {
            let path = sysfs.join(format!("cpu{number}")).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        write("topology/thread_siblings_list", siblings);
        for (index, level, kind, size, shared) in [
            (0, "1", "Data", "32K", siblings),
            (1, "2", "Unified", "1024K", siblings),
            (2, "3", "Unified", l3.0, l3.1),
        ] {
            for (name, text) in
                [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)]
            {
                write(&format!("cache/index{index}/{name}"), text);
            }
        }
    }

    #[test]
    fn the_cache_decides_and_cores_come_first() {
        let sysfs = tempfile::tempdir().unwrap();
        // Two clusters of two cores with two threads: 6 MiB and 64 MiB.
        for number in 0..4 {
            let siblings = format!("{},{}", number % 2, number % 2 + 2);
            processor(sysfs.path(), number, &siblings, ("6144K", "0-3"));
        }
        for number in 4..8 {
            let siblings = format!("{},{}", number % 2 + 4, number % 2 + 6);
            processor(sysfs.path(), number, &siblings, ("64M", "4-7"));
        }
        let all: Vec<_> = (0..8).collect();
        assert_eq!(choose(sysfs.path(), &all), [0, 1, 4, 5, 2, 6, 7]);
        assert_eq!(choose(sysfs.path(), &[3, 7]), [3, 7]);
    }

    #[test]
    fn without_knowledge_each_processor_counts() {
        assert_eq!(choose(Path::new("/nonexistent"), &[1, 5]), [1, 5]);
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes("?K"), None);
        assert!(!for_mining().is_empty());
    }

    #[test]
    fn a_small_cache_still_mines() {
        let sysfs = tempfile::tempdir().unwrap();
        for number in 0..2 {
            processor(sysfs.path(), number, &number.to_string(), ("1024K", "0-1"));
        }
        assert_eq!(choose(sysfs.path(), &[0, 1]), [0]);
    }
}
