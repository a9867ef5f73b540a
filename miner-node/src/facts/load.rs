//! How many processors others keep busy: what all do on those that mining may use, less what this
//! node and everything that it started do.
//!
//! A process that ends leaves its time with its parent, so the sum over the node and its descendants
//! does not go back: nothing is missed between two looks, and no control group is needed for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{below, text};

/// An XMRig that the node drives without having started it; its work is ours, too.
const DRIVEN: &str = "xmrig";

/// What podman leaves with each container, and which is nobody's child.
const ATTENDANT: &str = "conmon";

/// What it is told, if the container is one of the node's.
const OF_OURS: &[u8] = b"\0-n\0aitbc-";

/// How often it is looked again where processes ended under the look.
const TRIES: usize = 3;

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
    /// Those that mining may use.
    processors: Vec<usize>,
    own: i32,
    /// Whether the node drives an XMRig that somebody else started.
    drives: bool,
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
    pub(super) fn at(root: &Path, processors: Vec<usize>) -> Self {
        let own = rustix::process::getpid().as_raw_pid();
        Self { proc: root.join("proc"), processors, own, drives: false, before: None }
    }

    /// Counts an XMRig that the node did not start as the node's.
    pub(super) fn drives(&mut self) {
        self.drives = true;
    }

    /// On average since the look before; `None` at the first one, and where it cannot be told.
    pub(super) fn others(&mut self) -> Option<f64> {
        let now = self.ticks()?;
        let before = self.before.replace(now)?;
        others(before, now)
    }

    fn ticks(&self) -> Option<Ticks> {
        let (all, busy, processors) = machine(&text(&self.proc.join("stat"))?, &self.processors)?;
        // A machine on which programs end all the time is taken as it is in the end.
        let mut tries = (1..=TRIES).map(|count| (count, self.family()));
        let own = tries.find_map(|(count, family)| match family? {
            (family, settled) if settled || count == TRIES => Some(family.values().sum()),
            _ => None,
        });
        Some(Ticks { all, busy, processors, own: own? })
    }

    /// The time of each of the node's processes, and whether none ended meanwhile: the time of one
    /// that did may be missing, or with its parent and counted twice.
    fn family(&self) -> Option<(BTreeMap<i32, u64>, bool)> {
        let is_process = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.iter().all(u8::is_ascii_digit)
        };
        let listed = below(&self.proc)?.into_iter().filter(is_process);
        let read: Vec<_> = listed.map(|path| text(&path.join("stat"))).collect();
        let is_whole = read.iter().all(Option::is_some);
        let processes: Vec<_> = read.iter().flatten().filter_map(|line| process(line)).collect();
        let family = family(&processes, |process| self.is_own(process));
        let is_there = |pid: &i32| self.proc.join(pid.to_string()).exists();
        let settled = is_whole && family.keys().all(is_there);
        Some((family, settled))
    }

    /// Whether it is the node, or what the node is the cause of without being its parent.
    fn is_own(&self, process: &Process) -> bool {
        process.pid == self.own
            || match process.name.as_str() {
                DRIVEN => self.drives,
                ATTENDANT => {
                    let line = self.proc.join(process.pid.to_string()).join("cmdline");
                    let line = text(&line).unwrap_or_default();
                    line.as_bytes().windows(OF_OURS.len()).any(|words| words == OF_OURS)
                }
                _ => false,
            }
    }
}

fn others(before: Ticks, now: Ticks) -> Option<f64> {
    let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
    let busy = now.busy.saturating_sub(before.busy);
    // Less than before: something of ours ended whose time nobody has, so what is left is not theirs.
    let own = now.own.checked_sub(before.own)?;
    let per_processor = all as f64 / now.processors.max(1) as f64;
    Some(busy.saturating_sub(own) as f64 / per_processor)
}

/// All time, busy time and the number of those of `processors` that `/proc/stat` tells of.
fn machine(text: &str, processors: &[usize]) -> Option<(u64, u64, u64)> {
    let lines: Vec<_> = text.lines().filter_map(processor).collect();
    let is_usable = |(number, ..): &&(usize, u64, u64)| processors.contains(number);
    // A container's own view of them has other numbers, and is of those that it may use.
    let is_numbered_anew = lines.iter().filter(is_usable).count() != processors.len();
    let usable = lines.iter().filter(|line| is_numbered_anew || is_usable(line));
    let sum = |(all, busy, count): (u64, u64, u64), line: &(usize, u64, u64)| {
        Some((all.checked_add(line.1)?, busy.checked_add(line.2)?, count + 1))
    };
    usable.copied().try_fold((0, 0, 0), |so_far, line| sum(so_far, &line)).filter(|sum| sum.2 > 0)
}

/// The number of a processor in a line of `/proc/stat`, all of its time, and its busy time.
fn processor(line: &str) -> Option<(usize, u64, u64)> {
    let (number, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
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
    Some((number.parse().ok()?, all, busy))
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

/// The time of each that `is_root` holds for, and of their descendants.
fn family(processes: &[Process], is_root: impl Fn(&Process) -> bool) -> BTreeMap<i32, u64> {
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: BTreeMap<i32, u64> = BTreeMap::new();
    let mut open: Vec<&Process> = processes.iter().filter(|process| is_root(process)).collect();
    while let Some(process) = open.pop() {
        // An XMRig that the node did start is met twice.
        if found.insert(process.pid, process.ticks).is_none() {
            open.extend(children.get(&process.pid).into_iter().flatten());
        }
    }
    found
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
        let busy =
            [1_249_016 + 1_072_036 + 430_678 + 16_854, 1_271_751 + 1_057_089 + 488_545 + 23_919];
        let all = [busy[0] + 1_049_003 + 7713 + 3397, busy[1] + 966_934 + 17_827 + 3662];
        let both = Some((all[0] + all[1], busy[0] + busy[1], 2));
        assert_eq!(machine(STAT, &[0, 1]), both);
        // What happens on processors that mining may not use is no hindrance.
        assert_eq!(machine(STAT, &[1]), Some((all[1], busy[1], 1)));
        // Those that a container is shown have their own numbers.
        assert_eq!(machine(STAT, &[6, 7]), both);
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
            ["", "cpu  1 2 3\ncpu0 1 2 3\n", "cpu  1 2 3 4 5 6 7 8\n", "cpux 1 2 3 4 5 6 7\n"]
        {
            assert_eq!(machine(odd, &[0]), None, "{odd:?}");
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
        // A job that ended and left its time to nobody makes none of ours another's.
        assert_eq!(others(ticks(0, 0, 500), ticks(400, 300, 200)), None);
    }

    fn process_of(pid: i32, parent: i32, name: &str, ticks: u64) -> Process {
        Process { pid, parent, name: name.to_owned(), ticks }
    }

    fn own(processes: &[Process]) -> u64 {
        family(processes, |process| process.pid == 50).values().sum()
    }

    #[test]
    fn the_family_is_counted_once() {
        let mut processes = vec![
            process_of(1, 0, "init", 1000),
            process_of(50, 1, "miner-node", 7),
            process_of(51, 50, "bwrap", 20),
            process_of(52, 51, "job", 300),
            process_of(53, 50, "xmrig", 4000),
            process_of(60, 1, "shell", 9),
        ];
        assert_eq!(own(&processes), 4327);
        // One that ends leaves its time with its parent.
        processes.remove(3);
        processes[2].ticks += 300;
        assert_eq!(own(&processes), 4327);
        // A loop, as ids that are used again could make one, ends.
        assert_eq!(own(&[process_of(50, 52, "a", 1), process_of(52, 50, "b", 2)]), 3);
    }

    /// A made-up `/proc`; the node's process is 50.
    fn proc(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Load) {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let load = Load { own: 50, ..Load::at(root.path(), vec![0, 1]) };
        (root, load)
    }

    fn own_at(load: &Load) -> u64 {
        load.family().unwrap().0.values().sum()
    }

    #[test]
    fn only_an_xmrig_that_the_node_drives_is_its_own() {
        let node = b"50 (miner-node) S 1 0 0 0 0 0 0 0 0 0 7 0 0 0".as_slice();
        let theirs = b"70 (xmrig) S 1 0 0 0 0 0 0 0 0 0 5000 0 0 0".as_slice();
        let (_root, mut load) = proc(&[("50/stat", node), ("70/stat", theirs)]);
        assert_eq!(own_at(&load), 7);
        load.drives();
        assert_eq!(own_at(&load), 5007);
    }

    #[test]
    fn a_name_of_any_bytes_hides_nobody() {
        let node = b"50 (miner-node) S 1 0 0 0 0 0 0 0 0 0 7 0 0 0".as_slice();
        let job = b"51 (j\xffb) R 50 0 0 0 0 0 0 0 0 0 300 0 0 0".as_slice();
        let (_root, load) = proc(&[("50/stat", node), ("51/stat", job)]);
        assert_eq!(own_at(&load), 307);
    }

    #[test]
    fn containers_of_the_node_are_its_own() {
        let (_root, load) = proc(&[
            ("50/stat", b"50 (miner-node) S 1 0 0 0 0 0 0 0 0 0 7 0 0 0"),
            ("60/stat", b"60 (conmon) S 1 0 0 0 0 0 0 0 0 0 1 0 0 0"),
            ("60/cmdline", b"/usr/bin/conmon\0-c\0ab\0-n\0aitbc-01arz-1\0"),
            ("61/stat", b"61 (job) R 60 0 0 0 0 0 0 0 0 0 300 0 0 0"),
            ("80/stat", b"80 (conmon) S 1 0 0 0 0 0 0 0 0 0 1 0 0 0"),
            ("80/cmdline", b"/usr/bin/conmon\0-c\0cd\0-n\0database\0"),
            ("81/stat", b"81 (postgres) R 80 0 0 0 0 0 0 0 0 0 9000 0 0 0"),
        ]);
        assert_eq!(own_at(&load), 308);
    }

    #[test]
    fn it_is_known_when_one_ended_under_the_look() {
        let node = b"50 (miner-node) S 1 0 0 0 0 0 0 0 0 0 7 0 0 0".as_slice();
        let (root, load) = proc(&[("stat", STAT.as_bytes()), ("50/stat", node)]);
        assert!(load.family().unwrap().1);
        // Listed, and gone when it is read.
        std::fs::create_dir(root.path().join("proc/51")).unwrap();
        assert!(!load.family().unwrap().1);
        // Where that goes on for ever, what is there counts.
        assert_eq!(load.ticks().unwrap().own, 7);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let mut load = Load::at(Path::new("/"), super::super::usable_processors());
        assert_eq!(load.others(), None);
        // Not before the kernel's clock has ticked.
        let others = loop {
            if let Some(others) = load.others() {
                break others;
            }
            std::thread::yield_now();
        };
        assert!((0.0..=1024.0).contains(&others), "{others}");
    }
}
