//! Small programs with one sin each.

use std::path::PathBuf;

use rustix::thread::CpuSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::super::{DiskTurn, Gpu, Policy, Shown, Tools, UserRange};
use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Case {
    directory: TempDir,
    command: Command,
    interrupt: Interrupt,
    policy: Policy,
    gpu: Option<Gpu>,
    written_bytes: Arc<AtomicU64>,
}

impl Case {
    fn sh(script: &str) -> Self {
        let directory = TempDir::new().unwrap();
        for name in ["work", "input"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let command = Command {
            program: PathBuf::from("/usr/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            shown: Vec::new(),
            limits: Limits {
                wall: Duration::from_secs(60),
                grace: Duration::from_secs(30),
                cpu_secs: None,
                output_bytes: 1 << 20,
                work_bytes: 64 << 20,
                ..Limits::trial()
            },
        };
        Self {
            directory,
            command,
            interrupt: Interrupt::default(),
            policy: Policy::default(),
            gpu: None,
            written_bytes: Arc::default(),
        }
    }

    fn places(&self) -> Places {
        let path = |name: &str| self.directory.path().join(name);
        Places {
            work: path("work"),
            input: path("input"),
            stdout: path("stdout"),
            stderr: path("stderr"),
            door: None,
            gpu: self.gpu.clone(),
            processors: Vec::new(),
            written_bytes: Arc::clone(&self.written_bytes),
        }
    }

    /// Where control groups and user ids of their own cannot be had.
    fn bare(script: &str) -> Self {
        let mut case = Self::sh(script);
        case.policy.hierarchies = case.directory.path().join("none");
        case
    }

    /// As a user of its own.
    fn own_user(script: &str) -> Self {
        let mut case = Self::sh(script);
        case.policy.users = Some(UserRange { first: 2_000_000_000, count: 65_536 });
        case
    }

    async fn try_run(&self) -> Result<Run, SandboxError> {
        let sandbox = Sandbox::new(Tools::find().unwrap(), &self.policy).unwrap();
        sandbox.run(&self.command, &self.places(), &self.interrupt).await
    }

    async fn run(&self) -> Run {
        self.try_run().await.unwrap()
    }

    /// Asks it to end as soon as it has printed `text`.
    async fn run_until(&self, text: &str) -> Run {
        let asking = async {
            while std::fs::read_to_string(self.places().stdout).unwrap_or_default() != text {
                sleep(Duration::from_millis(5)).await;
            }
            self.interrupt.cancel.cancel();
        };
        tokio::join!(self.run(), asking).0
    }

    fn stdout(&self) -> String {
        std::fs::read_to_string(self.places().stdout).unwrap()
    }

    /// Processes of the host whose environment or arguments name this case's directory.
    fn left(&self) -> usize {
        super::super::kill_orphans(self.directory.path())
    }
}

#[tokio::test]
async fn exit_code_output_and_environment() {
    let case = Case::sh("echo $GREETING; env | grep -c -E '^(CARGO|USER)'; exit 7");
    let run = case.run().await;
    assert_eq!(run.ending, Ending::Exited(7));
    assert_eq!(case.stdout(), "hello\n0\n");
}

#[tokio::test]
async fn limits_are_in_force_from_the_first_moment() {
    let mut case = Case::sh("ulimit -n; ulimit -H -n; ulimit -c; ulimit -f; nice; ionice; nproc");
    case.command.limits.open_files = 77;
    let own = rustix::process::getpriority_process(None).unwrap();
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let processor = (0..CpuSet::MAX_CPU).find(|number| allowed.is_set(*number)).unwrap();
    case.policy = Policy {
        nice: 11,
        disk_turn: DiskTurn::Idle,
        processors: vec![processor],
        ..Policy::default()
    };
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    // dash counts files in blocks of 512 bytes.
    let nice = own.max(11);
    assert_eq!(case.stdout(), format!("77\n77\n0\n2048\n{nice}\nidle\n1\n"));
}

#[tokio::test]
async fn processors_of_one_run_are_not_those_of_the_next() {
    let case = Case::sh("nproc; grep Cpus_allowed_list /proc/self/status");
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let all: Vec<_> = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number)).collect();
    let last = *all.last().unwrap();
    let sandbox = Sandbox::new(Tools::find().unwrap(), &case.policy).unwrap();
    let own = Places { processors: vec![last], ..case.places() };
    sandbox.run(&case.command, &own, &case.interrupt).await.unwrap();
    assert_eq!(case.stdout(), format!("1\nCpus_allowed_list:\t{last}\n"));
    sandbox.run(&case.command, &case.places(), &case.interrupt).await.unwrap();
    assert_eq!(case.stdout().lines().next(), Some(all.len().to_string().as_str()));
    // Rather none than one on processors of others.
    let gone = Places { processors: vec![CpuSet::MAX_CPU - 1], ..case.places() };
    assert!(sandbox.run(&case.command, &gone, &case.interrupt).await.is_err());
}

#[tokio::test]
async fn signals_have_their_own_ending() {
    assert_eq!(Case::sh("kill -SEGV $$").run().await.ending, Ending::Signaled(11));
}

#[tokio::test]
async fn a_missing_program_is_no_run() {
    let mut case = Case::sh("");
    case.command.program = PathBuf::from("/usr/bin/no-such-program");
    let error = case.try_run().await.unwrap_err();
    assert!(
        matches!(&error, SandboxError::Setup(why) if why.contains("no-such-program")),
        "{error}"
    );
}

#[tokio::test]
async fn only_the_work_directory_can_be_written() {
    let case = Case::sh(
        "for d in / /usr /dev /proc /work/input; do touch $d/x 2>/dev/null && echo wrote $d; done; \
         echo kept > kept; cat input/given",
    );
    std::fs::write(case.places().input.join("given"), "read me").unwrap();
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    assert_eq!(case.stdout(), "read me");
    assert_eq!(std::fs::read_to_string(case.places().work.join("kept")).unwrap(), "kept\n");
}

/// Says how an attempt to open a file for writing ended; nothing is ever written.
const TRY_OPEN: &str = r#"try() { (exec 3>>"$1") 2>&1 | sed 's/.*: //'; }; "#;

#[tokio::test]
async fn settings_of_the_kernel_cannot_be_written() {
    // As root this is the difference between a sandbox and none: the kernel asks for the global
    // uid 0 only, not for a capability.
    let case = Case::sh(&format!(
        "{TRY_OPEN} for file in kernel/core_pattern kernel/hostname vm/overcommit_memory; do \
         try /proc/sys/$file; done; try /proc/self/oom_score_adj; \
         cut -c 1-5 /proc/self/status | head -1"
    ));
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    let out = case.stdout();
    let lines: Vec<_> = out.lines().collect();
    // Whoever is not root is told so first.
    let refused = |line: &&str| ["Read-only file system", "Permission denied"].contains(line);
    assert!(lines[..3].iter().all(refused), "{out}");
    assert_eq!(lines[3], "Read-only file system");
    if rustix::process::geteuid().is_root() {
        assert_eq!(lines[..3], ["Read-only file system"; 3], "{out}");
    }
    // /proc itself works.
    assert_eq!(lines[4..], ["Name:"], "{out}");
}

#[tokio::test]
async fn who_shares_roots_id_does_not_see_with_its_eyes() {
    let case = Case::sh(
        "for f in kpagecgroup kpagecount kpageflags pagetypeinfo slabinfo timer_list vmallocinfo; \
         do head -c 1 /proc/$f 2>/dev/null; done | wc -c; head -c 1 /proc/self/status",
    );
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    assert_eq!(case.stdout(), "0\nN");
}

#[tokio::test]
async fn memory_cannot_be_filled_through_file_systems() {
    let case = Case::sh(
        "for d in /dev /dev/pts; do touch $d/x 2>/dev/null && echo wrote $d; done; \
         for d in /dev/shm /tmp; do touch $d/x && df -B1 --output=size $d | tail -1 | tr -d ' '; done; \
         echo fine > /dev/null && head -c 3 /dev/urandom | wc -c",
    );
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    assert_eq!(case.stdout(), "67108864\n67108864\n3\n");
}

#[tokio::test]
async fn neither_network_nor_host_nor_privileges() {
    let case = Case::sh(
        "ls /sys /home /root /var /run 2>/dev/null; cat /etc/passwd 2>/dev/null; \
         grep -c : /proc/net/dev; ls /proc | grep -c '^[0-9]'; grep CapEff /proc/self/status; \
         unshare -U true 2>/dev/null && echo nested; hostname",
    );
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    let out = case.stdout();
    let lines: Vec<_> = out.lines().collect();
    // One interface: the loopback. A handful of processes: its own.
    assert_eq!(lines[0], "1", "{out}");
    assert!(lines[1].parse::<u32>().unwrap() < 6, "{out}");
    assert_eq!(lines[2], "CapEff:\t0000000000000000");
    assert_eq!(lines[3..], ["job"]);
}

#[tokio::test]
async fn shown_files_are_read_only() {
    let mut case = Case::sh("cat /shown; echo more >> /shown");
    let host = case.directory.path().join("host-file");
    std::fs::write(&host, "content\n").unwrap();
    case.command.shown = vec![Shown { host: host.clone(), inside: PathBuf::from("/shown") }];
    assert_eq!(case.run().await.ending, Ending::Exited(2));
    assert_eq!(std::fs::read_to_string(host).unwrap(), "content\n");
}

#[tokio::test]
async fn the_wall_clock_ends_the_whole_tree() {
    let mut case = Case::sh("setsid sleep 1000 & sleep 1000 & wait");
    case.command.limits.wall = Duration::from_millis(300);
    assert_eq!(case.run().await.ending, Ending::TimedOut);
    assert_eq!(case.left(), 0);
}

#[tokio::test]
async fn who_ignores_the_request_is_killed() {
    let mut case = Case::sh("trap '' TERM; echo deaf; while :; do sleep 1000; done");
    case.command.limits.grace = Duration::from_millis(200);
    let run = case.run_until("deaf\n").await;
    assert_eq!(run.ending, Ending::Canceled);
    assert_eq!(case.left(), 0);
}

#[tokio::test]
async fn the_request_can_be_answered() {
    let case = Case::sh("trap 'echo tidy; exit 0' TERM; echo ready; sleep 1000 & wait");
    assert_eq!(case.run_until("ready\n").await.ending, Ending::Canceled);
    assert_eq!(case.stdout(), "ready\ntidy\n");
}

#[tokio::test]
async fn a_canceled_run_says_so() {
    let case = Case::sh("sleep 1000");
    case.interrupt.cancel.cancel();
    assert_eq!(case.run().await.ending, Ending::Canceled);
    let case = Case::sh("trap '' TERM; sleep 1000");
    case.interrupt.kill.cancel();
    assert_eq!(case.run().await.ending, Ending::Canceled);
}

#[tokio::test]
async fn output_is_capped() {
    let mut case = Case::sh("yes");
    case.command.limits.output_bytes = 1000;
    assert_eq!(case.run().await.ending, Ending::OutputLimit);
    assert_eq!(case.stdout().len(), 1000);
}

#[tokio::test]
async fn files_are_capped() {
    let mut case = Case::sh("exec head -c 2000000 /dev/zero > big");
    case.command.limits.output_bytes = 1_000_000;
    assert_eq!(case.run().await.ending, Ending::OutputLimit);
    assert_eq!(case.places().work.join("big").metadata().unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn all_files_together_are_capped() {
    let many = "i=0; while [ $i -lt 20 ]; do head -c 500000 /dev/zero > $i; i=$((i+1)); done";
    for script in [format!("{many}; exec sleep 1000"), many.to_owned()] {
        let mut case = Case::sh(&script);
        case.command.limits.work_bytes = 5_000_000;
        assert_eq!(case.run().await.ending, Ending::OutputLimit);
        assert_eq!(case.left(), 0);
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_otherwise_ends_it() {
    let mut case = Case::sh("head -c 900000 /dev/zero > mine; exec sleep 1000");
    // Nobody's disk has that much left.
    case.command.limits.least_free_bytes = u64::MAX;
    case.command.limits.grace = Duration::from_secs(0);
    assert_eq!(case.run().await.ending, Ending::DiskFull);
    assert_eq!(case.left(), 0);
}

#[tokio::test]
async fn what_is_written_is_told_while_it_runs() {
    let case = Case::sh("head -c 900000 /dev/zero > mine; exec sleep 1000");
    let told = async {
        while case.written_bytes.load(Ordering::Relaxed) < 900_000 {
            sleep(Duration::from_millis(5)).await;
        }
        case.interrupt.kill.cancel();
    };
    assert_eq!(tokio::join!(case.run(), told).0.ending, Ending::Canceled);
}

#[tokio::test]
async fn processor_time_is_capped_over_all_processes() {
    let mut case = Case::sh("(while :; do :; done) & while :; do :; done");
    case.command.limits.cpu_secs = Some(1);
    let run = case.run().await;
    assert_eq!(run.ending, Ending::CpuLimit);
    assert!(run.usage.cpu >= Duration::from_secs(1), "{:?}", run.usage);
}

#[tokio::test]
async fn what_it_used_is_known() {
    let case = Case::sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
    let usage = case.run().await.usage;
    assert!(usage.cpu > Duration::ZERO && usage.cpu <= usage.wall * 2, "{usage:?}");
    assert!(usage.max_rss_bytes > 100_000, "{usage:?}");
}

#[tokio::test]
async fn nothing_outlives_a_program_that_leaves_children() {
    let case = Case::sh("setsid sleep 1000 & (sleep 1000 &) ; echo gone");
    assert_eq!(case.run().await.ending, Ending::Exited(0));
    assert_eq!(case.stdout(), "gone\n");
    assert_eq!(case.left(), 0);
}

#[tokio::test]
async fn the_probe_runs_a_program() {
    let directory = TempDir::new().unwrap();
    let mut sandbox = Sandbox::new(Tools::find().unwrap(), &Policy::default()).unwrap();
    let trial = directory.path().join("trial");
    let probed = sandbox.probe(&trial).await;
    assert_eq!(probed, Ok(sandbox.isolation()));
    assert!(!trial.exists());
}

#[tokio::test]
async fn a_part_that_the_owner_insists_on_has_to_be_there() {
    let directory = TempDir::new().unwrap();
    let required = vec![Piece::Cgroup];
    let hierarchies = directory.path().join("none");
    let policy = Policy { required, hierarchies, ..Policy::default() };
    let mut sandbox = Sandbox::new(Tools::find().unwrap(), &policy).unwrap();
    let error = sandbox.probe(&directory.path().join("trial")).await.unwrap_err().to_string();
    assert!(error.starts_with("sandbox.require names cgroup"), "{error}");
    assert!(error.contains("Delegate=yes"), "{error}");
}

/// Fills memory: it looks for the last line of what has none.
const HOG: &str = "exec tail /dev/zero";

#[tokio::test]
async fn memory_is_limited_and_told_from_a_crash() {
    for mut case in [Case::sh(HOG), Case::bare(HOG)] {
        case.command.limits.memory_bytes = Some(64 << 20);
        let run = case.run().await;
        assert_eq!(run.ending, Ending::OutOfMemory, "{run:?}");
        if run.isolation.has(Piece::Cgroup) {
            let peak = (60 << 20)..=(64 << 20);
            assert!(peak.contains(&run.usage.max_rss_bytes), "{run:?}");
        }
        assert_eq!(case.left(), 0);
    }
}

#[tokio::test]
async fn memory_is_limited_over_all_processes() {
    // Each of them keeps all that it has heard until there is no more.
    let hogs = "hog() { (head -c 24000000 /dev/zero; exec sleep 1000) | tail; }; \
                hog & hog & hog & hog & wait";
    for mut case in [Case::sh(hogs), Case::bare(hogs)] {
        case.command.limits.memory_bytes = Some(64 << 20);
        let run = case.run().await;
        assert_eq!(run.ending, Ending::OutOfMemory, "{run:?}");
        assert_eq!(case.left(), 0);
    }
}

#[tokio::test]
async fn memory_that_no_limit_counts_is_not_to_be_had() {
    let ask = format!(
        "perl -e '$name = \"x\"; syscall({}, $name, 0); print $!{{ENOSYS}} ? 1 : 0'",
        libc::SYS_memfd_create
    );
    for (case, counted) in [(Case::bare(&ask), false), (Case::sh(&ask), true)] {
        let run = case.run().await;
        assert_eq!(run.ending, Ending::Exited(0), "{run:?}");
        let refused = !counted || !run.isolation.has(Piece::Cgroup);
        assert_eq!(case.stdout(), if refused { "1" } else { "0" });
    }
}

#[tokio::test]
async fn processes_are_limited() {
    let bomb = "i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done; wait";
    for mut case in [Case::sh(bomb), Case::bare(bomb), Case::own_user(bomb)] {
        case.command.limits.processes = 10;
        let run = case.run().await;
        // The shell gives up when it is refused a process; where nothing refuses it one, the tree
        // is killed.
        assert!(matches!(run.ending, Ending::Exited(2) | Ending::Signaled(9)), "{run:?}");
        assert_eq!(case.left(), 0);
    }
}

#[tokio::test]
async fn each_run_has_a_user_of_its_own_where_the_node_is_root() {
    let case = Case::own_user("id -u; id -g; cat input/given; touch here; ls -ln input | wc -l");
    std::fs::write(case.places().input.join("given"), "read me\n").unwrap();
    let run = case.run().await;
    assert_eq!(run.ending, Ending::Exited(0));
    let out = case.stdout();
    let id: u32 = out.lines().next().unwrap().parse().unwrap();
    assert!(out.lines().skip(2).eq(["read me", "2"]), "{out}");
    let root = rustix::process::geteuid().is_root();
    assert_eq!(run.isolation.own_user, root, "{run:?}");
    let range = 2_000_000_000..2_000_065_536;
    assert_eq!(range.contains(&id), root, "{id}");
    let made = case.places().work.join("here").metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), id);
}

#[tokio::test]
async fn a_file_without_a_name_takes_room_as_well() {
    let mut case = Case::sh(
        "exec 3> file; rm file; while :; do head -c 1000000 /dev/zero >&3 || exit 9; done",
    );
    case.command.limits.output_bytes = 1 << 30;
    case.command.limits.work_bytes = 20 << 20;
    assert_eq!(case.run().await.ending, Ending::OutputLimit);
}

#[tokio::test]
async fn what_a_link_leads_to_is_not_the_jobs() {
    let case = Case::sh(
        "i=0; while [ $i -lt 200 ]; do mkdir d; rmdir d; ln -s /usr d; rm d; i=$((i+1)); done",
    );
    let run = case.run().await;
    assert_eq!(run.ending, Ending::Exited(0), "{run:?}");
}

async fn there(path: &Path) {
    while !path.exists() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_limit_does_not_wait_for_a_look() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let mut case = Case::sh("trap ': > asked; exit' TERM; : > ready; sleep 1000 & wait");
        case.command.limits.wall = Duration::from_secs(5);
        let asking = async {
            there(&case.places().work.join("ready")).await;
            // The one thread that looks are taken from is busy until the tree was asked to end.
            let (release, held) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || held.recv());
            let asked = timeout(PATIENCE, there(&case.places().work.join("asked"))).await;
            drop(release);
            assert!(busy.await.unwrap().is_err());
            asked.is_ok()
        };
        let (run, asked) = tokio::join!(case.run(), asking);
        assert!(asked && run.ending == Ending::TimedOut, "{run:?}");
    });
}

#[tokio::test]
async fn a_control_group_is_there_as_long_as_its_run() {
    let case = Case::sh("setsid sleep 1000 & echo ready; sleep 1000");
    let sandbox = Sandbox::new(Tools::find().unwrap(), &case.policy).unwrap();
    let asking = async {
        while case.places().stdout.metadata().map_or(0, |found| found.len()) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let groups = sandbox.groups();
        case.interrupt.cancel.cancel();
        groups
    };
    let places = case.places();
    let running = sandbox.run(&case.command, &places, &case.interrupt);
    let (run, groups) = tokio::join!(running, asking);
    let run = run.unwrap();
    assert_eq!(run.ending, Ending::Canceled);
    assert_eq!(groups.is_empty(), !run.isolation.has(Piece::Cgroup), "{groups:?}");
    assert_eq!(sandbox.groups(), Vec::<PathBuf>::new());
}

/// A driver that says how much the job holds; it has to be asked for the job's own processes, as
/// the host knows them.
fn meter(held: u64, asked: &Arc<Mutex<Vec<u32>>>) -> Gpu {
    let asked = Arc::clone(asked);
    let meter = move |pids: &[u32]| {
        *asked.lock().unwrap() = pids.to_vec();
        let is_ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"sleep\x001000")
        };
        Some(if pids.iter().any(is_ours) { held } else { 0 })
    };
    Gpu { nodes: Vec::new(), env: Vec::new(), meter: Some(Arc::new(meter)), most_bytes: Some(100) }
}

#[tokio::test]
async fn too_much_gpu_memory_ends_a_job() {
    let asked = Arc::default();
    let mut case = Case::sh("sleep 1000");
    case.command.limits.grace = Duration::ZERO;
    case.gpu = Some(meter(101, &asked));
    let run = case.run().await;
    assert_eq!((run.ending, run.usage.vram_bytes), (Ending::OutOfMemory, Some(101)));
    assert!(!asked.lock().unwrap().contains(&std::process::id()));
    assert_eq!(case.left(), 0);
}

#[tokio::test]
async fn as_much_gpu_memory_as_allowed_is_only_counted() {
    let asked = Arc::default();
    let mut case = Case::sh("sleep 1000");
    case.gpu = Some(meter(100, &asked));
    let interrupt = case.interrupt.clone();
    let ended = tokio::spawn(async move { case.run().await });
    while asked.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    interrupt.kill.cancel();
    assert_eq!(ended.await.unwrap().ending, Ending::Canceled);
}

#[tokio::test]
async fn address_space_is_not_limited_where_cuda_needs_it() {
    for (gpu, limit) in [(None, "1048576\n"), (Some(meter(0, &Arc::default())), "unlimited\n")] {
        let mut case = Case::bare("ulimit -v");
        case.command.limits.memory_bytes = Some(1 << 30);
        case.gpu = gpu;
        assert_eq!(case.run().await.ending, Ending::Exited(0));
        assert_eq!(case.stdout(), limit);
    }
}

#[tokio::test]
async fn a_gpu_job_sees_its_device_and_no_other() {
    let devices = TempDir::new().unwrap();
    for name in ["nvidia0", "nvidia1", "nvidiactl"] {
        std::fs::write(devices.path().join(name), name).unwrap();
    }
    let node = |name: &str| devices.path().join(name);
    let script = format!("ls {}; echo $CUDA_VISIBLE_DEVICES", devices.path().display());
    let mut case = Case::sh(&script);
    case.gpu = Some(Gpu {
        nodes: vec![node("nvidia1"), node("nvidiactl")],
        env: vec![("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-1".to_owned())],
        meter: None,
        most_bytes: None,
    });
    let run = case.run().await;
    assert_eq!((run.ending, run.usage.vram_bytes), (Ending::Exited(0), None));
    assert_eq!(case.stdout(), "nvidia1\nnvidiactl\nGPU-1\n");
}
