//! How many processors others keep busy: what all do, less what this node and everything that it
//! started do.
//!
//! A process that ends leaves its time with its parent, so the sum over the node and its descendants
//! never goes back: nothing is missed between two looks, and no control group is needed for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{below, text};

/// An XMRig that the node drives without having started it; its work is ours, too.
const DRIVEN: &str = "xmrig";

/// What a look found, in ticks of the kernel's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    /// Of all processors, idle ones included.
    all: u64,
    /// Of those that somebody kept busy.
    busy: u64,
    /// How many processors there are.
    processors: u64,
    /// Of the node and its descendants.
    own: u64,
}

#[derive(Debug)]
pub(super) struct Load {
    proc: PathBuf,
    own: i32,
    before: Option<Ticks>,
}

/// A process, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    name: String,
    parent: i32,
    /// Its own time and that of its children that have ended.
    ticks: u64,
}

impl Load {
    pub(super) fn at(root: &Path) -> Self {
        let own = rustix::process::getpid().as_raw_pid();
        Self { proc: root.join("proc"), own, before: None }
    }

    /// On average since the look before; `None` at the first one.
    pub(super) fn others(&mut self) -> Option<f64> {
        let now = self.ticks()?;
        let before = self.before.replace(now)?;
        others(before, now)
    }

    fn ticks(&self) -> Option<Ticks> {
        let (all, busy, processors) = machine(&text(&self.proc.join("stat"))?)?;
        let entries = below(&self.proc)?.into_iter();
        let of_process = entries.filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.iter().all(u8::is_ascii_digit)
        });
        // One that has ended meanwhile has left its time with its parent.
        let processes = of_process.filter_map(|path| process(&text(&path.join("stat"))?));
        Some(Ticks { all, busy, processors, own: own(self.own, &processes.collect::<Vec<_>>()) })
    }
}

fn others(before: Ticks, now: Ticks) -> Option<f64> {
    let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
    let busy = now.busy.saturating_sub(before.busy);
    let own = now.own.saturating_sub(before.own);
    let per_processor = all as f64 / now.processors.max(1) as f64;
    Some(busy.saturating_sub(own) as f64 / per_processor)
}

/// All time, busy time and the number of processors of `/proc/stat`.
fn machine(text: &str) -> Option<(u64, u64, u64)> {
    let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> =
        fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // What a guest used is in `user` already; what the host stole nobody here used.
    let &[user, nice, system, idle, iowait, irq, softirq, ..] = fields.as_slice() else {
        return None;
    };
    let busy =
        user.checked_add(nice)?.checked_add(system)?.checked_add(irq)?.checked_add(softirq)?;
    let stolen = fields.get(7).copied().unwrap_or(0);
    let all = busy.checked_add(idle)?.checked_add(iowait)?.checked_add(stolen)?;
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let processors = text.lines().filter(is_processor).count() as u64;
    (processors > 0).then_some((all, busy, processors))
}

/// A line of `/proc/PID/stat`. The name in it may hold anything, brackets and blanks too.
fn process(line: &str) -> Option<Process> {
    let (pid, rest) = line.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let tick = |field: usize| u64::try_from(fields.get(field)?.parse::<i64>().ok()?).ok();
    // Behind the name: state, parent, and from the 12th on utime, stime, cutime, cstime.
    let ticks = [11, 12, 13, 14].map(tick).into_iter().sum::<Option<u64>>()?;
    Some(Process {
        pid: pid.trim().parse().ok()?,
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

/// The time of `root` and its descendants.
fn own(root: i32, processes: &[Process]) -> u64 {
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let is_root = |process: &&Process| process.pid == root || process.name == DRIVEN;
    let mut found: BTreeMap<i32, u64> = BTreeMap::new();
    let mut open: Vec<&Process> = processes.iter().filter(is_root).collect();
    while let Some(process) = open.pop() {
        // An XMRig that the node did start is met twice.
        if found.insert(process.pid, process.ticks).is_none() {
            open.extend(children.get(&process.pid).into_iter().flatten());
        }
    }
    found.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  2520768 2129126 919223 2015937 25540 0 40774 7059 0 0\n\
        cpu0 1249016 1072036 430678 1049003 7713 0 16854 3397 0 0\n\
        cpu1 1271751 1057089 488545 966934 17827 0 23919 3662 0 0\n\
        intr 45739313 0 0\nctxt 172594229\nbtime 1790000000\n";

    #[test]
    fn the_kernels_own_lines() {
        let busy = 2_520_768 + 2_129_126 + 919_223 + 40_774;
        assert_eq!(machine(STAT), Some((busy + 2_015_937 + 25_540 + 7059, busy, 2)));
        let line = "30980 (cat) R 30974 30974 31561 0 -1 4194304 100 0 0 0 7 3 20 10 20 0 1 0 3840114 3133440 393";
        let expected = Process { pid: 30980, name: "cat".to_owned(), parent: 30974, ticks: 40 };
        assert_eq!(process(line), Some(expected.clone()));
        // A name made to look like the rest of the line.
        let line = line.replace("(cat)", "(c) R 1 1 (t)");
        let named = process(&line).unwrap();
        assert_eq!((named.parent, named.name.as_str()), (30974, "c) R 1 1 (t"));
        for odd in ["", "1 (x", "1 (x) R", "1 (x) R 2 3 4 5 6 7 8 9 10 11 12 a 14 15 16"] {
            assert_eq!(process(odd), None, "{odd:?}");
        }
        for odd in
            ["", "cpu  1 2 3\ncpu0 1 2 3\n", "cpu  1 2 3 4 5 6 7 8\n", "cpu0 1 2 3 4 5 6 7\n"]
        {
            assert_eq!(machine(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn what_this_node_does_is_nobody_elses_load() {
        let ticks = |all, busy, own| Ticks { all, busy, processors: 4, own };
        // Ten seconds of four processors: three busy, two and a half of them with our work.
        let load = others(ticks(0, 0, 0), ticks(4000, 3000, 2500));
        assert_eq!(load, Some(0.5));
        // The kernel's two ways to count differ by some ticks.
        assert_eq!(others(ticks(0, 0, 0), ticks(400, 100, 103)), Some(0.0));
        assert_eq!(others(ticks(5, 0, 0), ticks(5, 0, 0)), None);
        assert_eq!(others(ticks(5, 0, 0), ticks(1, 0, 0)), None);
    }

    #[test]
    fn the_family_is_counted_once() {
        let process =
            |pid, parent, name: &str, ticks| Process { pid, parent, name: name.to_owned(), ticks };
        let mut processes = vec![
            process(1, 0, "init", 1000),
            process(50, 1, "miner-node", 7),
            process(51, 50, "bwrap", 20),
            process(52, 51, "job", 300),
            process(53, 50, "xmrig", 4000),
            process(60, 1, "shell", 9),
        ];
        assert_eq!(own(50, &processes), 4327);
        // One that ends leaves its time with its parent.
        processes.remove(3);
        processes[2].ticks += 300;
        assert_eq!(own(50, &processes), 4327);
        processes.push(process(70, 1, "xmrig", 50_000));
        assert_eq!(own(50, &processes), 54_327);
        // A loop, as ids that are used again could make one, ends.
        let ring = [process(50, 52, "a", 1), process(52, 50, "b", 2)];
        assert_eq!(own(50, &ring), 3);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let mut load = Load::at(Path::new("/"));
        assert_eq!(load.others(), None);
        let before = load.before.unwrap();
        while load.ticks().unwrap().all == before.all {
            std::thread::yield_now();
        }
        let others = load.others().unwrap();
        assert!((0.0..=1024.0).contains(&others), "{others}");
    }
}
