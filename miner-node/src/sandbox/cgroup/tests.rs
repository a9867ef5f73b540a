//! Both versions against a fake tree of directories, and against the real hierarchies where this
//! machine lets us.

use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::*;

const HIERARCHIES: &str = "/sys/fs/cgroup";

fn limits() -> Limits {
    Limits { memory_bytes: Some(48 << 20), cpu_threads: Some(2), processes: 9, ..Limits::trial() }
}

fn read(group: &Group, file: &str) -> Option<String> {
    group.directories.iter().find_map(|path| fs::read_to_string(path.join(file)).ok())
}

/// The files that a fake group has are plain ones, in the way of its removal.
fn empty(group: &Group) {
    for directory in &group.directories {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn fake_v2(controllers: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("system.slice/miner.service");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("cgroup.controllers"), controllers).unwrap();
    root
}

const V2_MEMBERSHIP: &str = "0::/system.slice/miner.service\n";

#[test]
fn version_2_limits_and_counts() {
    let root = fake_v2("cpuset cpu io memory pids\n");
    let own = root.path().join("system.slice/miner.service");
    let groups = Cgroups::delegated(root.path(), V2_MEMBERSHIP).unwrap();
    assert_eq!(groups.keeper(), Keeper::Cgroup2);
    let node = std::process::id().to_string();
    assert_eq!(fs::read_to_string(own.join("aitbc-node-itself/cgroup.procs")).unwrap(), node);
    assert_eq!(
        fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(),
        "+memory +pids +cpu"
    );

    let group = groups.make(&limits()).unwrap();
    for (file, value) in [
        ("memory.max", "50331648"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "11"),
        ("cpu.max", "200000 100000"),
    ] {
        assert_eq!(read(&group, file).as_deref(), Some(value), "{file}");
    }
    group.admit(Pid::from_raw(4711).unwrap()).unwrap();
    assert_eq!(read(&group, "cgroup.procs").as_deref(), Some("4711"));
    let directory = &group.directories[0];
    for (file, text) in [
        ("memory.peak", "40000000\n"),
        ("cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
        ("memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 1\n"),
    ] {
        fs::write(directory.join(file), text).unwrap();
    }
    let count = Count {
        cpu: Some(Duration::from_millis(1500)),
        memory_bytes: 40_000_000,
        out_of_memory: true,
    };
    assert_eq!(group.count(), count);
    empty(&group);
    drop(group);
    let left: Vec<_> =
        fs::read_dir(&own).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(PREFIX)), "{left:?}");
    // Once it has moved itself, the node finds its place again.
    let moved = "0::/system.slice/miner.service/aitbc-node-itself\n";
    let again = Cgroups::delegated(root.path(), moved).unwrap();
    assert_eq!(again.bases(), groups.bases());
}

#[test]
fn what_is_not_delegated_is_told_with_its_remedy() {
    let root = fake_v2("cpu io\n");
    let error = Cgroups::delegated(root.path(), V2_MEMBERSHIP).unwrap_err().to_string();
    assert!(error.contains("memory controller") && error.contains("Delegate=yes"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(Cgroups::delegated(empty.path(), V2_MEMBERSHIP).is_err());
    assert!(Cgroups::delegated(empty.path(), "").is_err());
    assert!(Cgroups::delegated(empty.path(), "no\n::\nsuch:file").is_err());
}

#[test]
fn version_1_limits_and_counts() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["memory/box", "pids", "cpu,cpuacct/box"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    for name in ["cpu", "cpuacct"] {
        std::os::unix::fs::symlink("cpu,cpuacct", root.path().join(name)).unwrap();
    }
    // In a container, the host's path may not be there.
    let membership =
        "4:memory:/box\n3:pids:/elsewhere\n2:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n";
    let groups = Cgroups::delegated(root.path(), membership).unwrap();
    assert_eq!(groups.keeper(), Keeper::Cgroup1);
    assert_eq!(groups.bases().len(), 3);
    let group = groups.make(&limits()).unwrap();
    for (file, value) in [
        ("memory.limit_in_bytes", "50331648"),
        ("memory.memsw.limit_in_bytes", "50331648"),
        ("pids.max", "11"),
        ("cpu.cfs_quota_us", "200000"),
    ] {
        assert_eq!(read(&group, file).as_deref(), Some(value), "{file}");
    }
    let directory = &group.directories[0];
    for (file, text) in [
        ("memory.max_usage_in_bytes", "777\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        ("cpuacct.usage", "2000000000\n"),
    ] {
        fs::write(directory.join(file), text).unwrap();
    }
    let count =
        Count { cpu: Some(Duration::from_secs(2)), memory_bytes: 777, out_of_memory: false };
    assert_eq!(group.count(), count);
    empty(&group);
}

#[test]
fn groups_of_a_node_that_is_gone_are_removed_and_others_are_not() {
    let root = fake_v2("cpu memory pids\n");
    let own = root.path().join("system.slice/miner.service");
    let pid = getpid();
    let (us, started, here) = (pid.as_raw_pid(), start_time(pid).unwrap(), pid_namespace());
    let alive = format!("{PREFIX}{us}-{started}-{here}-0");
    let reused = format!("{PREFIX}{us}-{}-{here}-0", started + 1);
    let foreign = format!("{PREFIX}{us}-{}-{}-0", started + 1, here + 1);
    // Of a node that could not read who it is, nothing is known.
    let unknown = [format!("{PREFIX}{us}-0-{here}-0"), format!("{PREFIX}{us}-{}-0-0", started + 1)];
    for name in unknown.iter().chain([&alive, &reused, &foreign]) {
        fs::create_dir(own.join(name)).unwrap();
    }
    for name in [&format!("{PREFIX}x"), &"other".to_owned()] {
        fs::create_dir(own.join(name)).unwrap();
    }
    Cgroups::delegated(root.path(), V2_MEMBERSHIP).unwrap();
    assert!(!own.join(&reused).exists());
    let others = [format!("{PREFIX}x"), "other".to_owned()];
    for name in unknown.iter().chain([&alive, &foreign]).chain(&others) {
        assert!(own.join(name).exists(), "{name}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests put programs of their own into groups")]
fn sleeper() -> Child {
    std::process::Command::new("/usr/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

/// What a node in a container left that is gone goes when nobody is in it; what has not been used
/// yet may be about to, and what was used may not have been counted yet.
#[test]
fn an_empty_group_of_another_namespace_is_doubtful_once_it_was_used() {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap();
    let delegated = || Cgroups::delegated(Path::new(HIERARCHIES), &membership);
    // Without groups there is nothing to see here.
    let Ok(groups) = delegated() else { return };
    let bases: Vec<_> = groups.bases().into_iter().map(Path::to_owned).collect();
    let name = format!("{PREFIX}{}-1-{}-7-0", std::process::id(), pid_namespace() + 1);
    let make = |name: &str| Group {
        directories: bases.iter().map(|base| base.join(name)).collect(),
        version: groups.keeper(),
    };
    let (used, unused) = (make(&name), make(&format!("{name}-new")));
    for directory in used.directories.iter().chain(&unused.directories) {
        fs::create_dir(directory).unwrap();
    }
    let is_doubtful = || {
        let found = groups.clear();
        assert!(!unused.directories.iter().any(|directory| found.contains(directory)));
        used.directories.iter().all(|directory| found.contains(directory))
    };
    let mut child = sleeper();
    used.admit(Pid::from_child(&child)).unwrap();
    assert!(!is_doubtful());
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel lets go of who has ended a moment later.
    let mut tries = 0..TRIES;
    while !is_doubtful() && tries.next().is_some() {
        thread::sleep(PAUSE);
    }
    assert!(is_doubtful());
    // Another node that starts now leaves it to who has made it.
    delegated().unwrap();
    assert!(used.directories.iter().all(|directory| directory.exists()));
}

/// On a machine that gives us groups, what is in one goes with it. Elsewhere the reason is told.
#[test]
fn a_real_group_is_killed_and_removed() {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap();
    let groups = match Cgroups::delegated(Path::new(HIERARCHIES), &membership) {
        Ok(groups) => groups,
        Err(why) => {
            let why = why.to_string();
            assert!(why.contains("version 2: ") && why.contains("version 1: "), "{why}");
            return;
        }
    };
    let group = groups.make(&limits()).unwrap();
    let mut child = sleeper();
    let pid = Pid::from_child(&child);
    group.admit(pid).unwrap();
    for directory in &group.directories {
        assert_eq!(processes(directory), [pid]);
    }
    assert!(!group.count().out_of_memory);
    let directories = group.directories.clone();
    let removing = thread::spawn(move || group.remove());
    // It is killed, and as long as it is not waited for some kernels count it.
    assert!(!child.wait().unwrap().success());
    removing.join().unwrap();
    for directory in directories {
        assert!(!directory.exists(), "{}", directory.display());
    }
}

/// What is in the way stands for a process that takes its time to end.
#[test]
fn who_drops_a_group_does_not_wait_for_its_end() {
    let root = fake_v2("cpu memory pids\n");
    let groups = Cgroups::delegated(root.path(), V2_MEMBERSHIP).unwrap();
    let group = groups.make(&limits()).unwrap();
    let directory = group.directories[0].clone();
    drop(group);
    let mut tries = 0..TRIES;
    while directory.exists() && tries.next().is_some() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        thread::sleep(PAUSE);
    }
    assert!(!directory.exists());
}
