//! How much memory can be had: what the kernel says, or a control group, whichever is less.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory that this process can still take without harm to others, in bytes.
pub fn available_bytes() -> u64 {
    // Nothing known: little.
    available_bytes_at(Path::new("/")).unwrap_or(0)
}

/// The same by the files below `root`; `None` where they do not tell.
pub fn available_bytes_at(root: &Path) -> Option<u64> {
    least(root, "MemAvailable:", |group, files| {
        let (limit, usage) = (number(&group.join(files.limit))?, number(&group.join(files.usage))?);
        // Pages of files that nobody has looked at lately are given back without harm.
        let idle = field(&read(&group.join("memory.stat")), "inactive_file").unwrap_or(0);
        Some(limit.saturating_sub(usage.saturating_sub(idle)))
    })
}

/// The most memory that this process can ever have, in bytes, by the files below `root`; `None`
/// where they do not tell.
pub fn total_bytes_at(root: &Path) -> Option<u64> {
    least(root, "MemTotal:", |group, files| number(&group.join(files.limit)))
}

/// What is free of the huge pages that the owner has reserved, in bytes.
pub fn free_huge_bytes() -> u64 {
    free_huge(&read(Path::new("/proc/meminfo")))
}

fn free_huge(meminfo: &str) -> u64 {
    let number = |name| field(meminfo, name).unwrap_or(0);
    // Those that are free may be promised to somebody all the same.
    let pages = number("HugePages_Free:").saturating_sub(number("HugePages_Rsvd:"));
    pages.saturating_mul(number("Hugepagesize:") << 10)
}

/// What a control group tells of its memory, by version.
struct Files {
    limit: &'static str,
    usage: &'static str,
}

/// The least of what the machine says under `name` and what `of_group` says of each group that holds
/// this process.
fn least(root: &Path, name: &str, of_group: impl Fn(&Path, &Files) -> Option<u64>) -> Option<u64> {
    let of_machine = field(&read(&root.join("proc/meminfo")), name).map(|kib| kib << 10);
    let lines = read(&root.join("proc/self/cgroup"));
    let groups = lines.lines().filter_map(|line| groups(root, line));
    let limits = groups.flat_map(|(above, files)| {
        above.iter().filter_map(|group| of_group(group, &files)).collect::<Vec<_>>()
    });
    of_machine.into_iter().chain(limits).min()
}

/// The group of a line of cgroups(7)' /proc/self/cgroup and those above it.
fn groups(root: &Path, line: &str) -> Option<(Vec<PathBuf>, Files)> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, limit, usage) = match (hierarchy, controllers) {
        ("0", "") => ("sys/fs/cgroup", "memory.max", "memory.current"),
        (_, "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        _ => return None,
    };
    let mount = root.join(mount);
    let group = mount.join(path.trim_start_matches('/'));
    let above = group.ancestors().take_while(|group| group.starts_with(&mount));
    Some((above.map(Path::to_owned).collect(), Files { limit, usage }))
}

fn number(file: &Path) -> Option<u64> {
    read(file).trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n");

    #[test]
    fn the_kernel_knows() {
        let machine = |files: &[_]| {
            let root = machine(files);
            (available_bytes_at(root.path()), total_bytes_at(root.path()))
        };
        assert_eq!(machine(&[MEMINFO]), (Some(4_000_000 << 10), Some(8_000_000 << 10)));
        assert_eq!(machine(&[]), (None, None));
        assert!(available_bytes() > 0);
    }

    #[test]
    fn free_huge_pages_are_those_that_nobody_was_promised() {
        let meminfo = "HugePages_Free:  1200\nHugePages_Rsvd:  32\nHugepagesize:  2048 kB\n";
        assert_eq!(free_huge(meminfo), 1168 << 21);
        assert_eq!(free_huge("MemTotal: 1 kB\n"), 0);
    }

    #[test]
    fn the_tightest_group_counts() {
        let two = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000000\n"),
            ("sys/fs/cgroup/a/memory.current", "400000000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "400000000\n"),
        ]);
        assert_eq!(available_bytes_at(two.path()), Some(700_000_000));
        assert_eq!(total_bytes_at(two.path()), Some(1_000_000_000));
        let one = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "600000000\n"),
        ]);
        assert_eq!(available_bytes_at(one.path()), Some(0));
        assert_eq!(total_bytes_at(one.path()), Some(536_870_912));
    }
}
