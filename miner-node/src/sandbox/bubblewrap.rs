//! From a [`Command`] to the arguments of `bwrap`. Pure but for a look at the system's links.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

use super::door::{self, Door};
use super::{Command, INPUT_DIR, NODE_PROGRAM, Places, WORK_DIR};

/// Directories of the system that jobs see, besides `/usr`: a link into `/usr` on merged systems.
const SYSTEM: [&str; 4] = ["/bin", "/lib", "/lib64", "/sbin"];

/// What programs need of `/etc` in order to start; nothing in it is about this host.
const ETC: [&str; 2] = ["/etc/alternatives", "/etc/ld.so.cache"];

/// What `/proc` tells about the whole machine to whoever has root's user id, capabilities or not.
const ROOTS_EYES: [&str; 7] = [
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/pagetypeinfo",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/vmallocinfo",
];

/// Size of the private `/tmp` and of `/dev/shm`, in bytes each: it is memory.
const TMP_BYTES: u64 = 64 << 20;

/// The descriptors that bubblewrap inherits.
#[derive(Debug, Clone)]
pub(super) struct Descriptors {
    /// Where it reports to.
    pub(super) status: RawFd,
    /// What it waits for before it starts the program: one byte.
    pub(super) gate: RawFd,
    /// The filter of system calls; absent: there is none.
    pub(super) filter: Option<RawFd>,
}

/// The whole command line, of which the first element is the program to start. `as_root` says
/// whether the job's user is root outside as well.
pub(super) fn command_line(
    bwrap: &Path,
    command: &Command,
    places: &Places,
    descriptors: &Descriptors,
    as_root: bool,
) -> Vec<OsString> {
    let mut line = Line::default();
    line.add(bwrap).all(namespaces());
    line.all(file_system(command, places, as_root));
    line.add("--json-status-fd").add(descriptors.status.to_string());
    line.add("--block-fd").add(descriptors.gate.to_string());
    if let Some(filter) = descriptors.filter {
        line.add("--seccomp").add(filter.to_string());
    }
    line.all(environment(command, places));
    line.add("--");
    if places.door.is_some() {
        // Whatever follows is the job's, however it looks.
        line.all([NODE_PROGRAM, door::SUBCOMMAND, "--"]);
    }
    line.add(&command.program).all(&command.args);
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn add(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.0.push(argument.into());
        self
    }

    fn all<T: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = T>) -> &mut Self {
        self.0.extend(arguments.into_iter().map(Into::into));
        self
    }

    fn bind(&mut self, kind: &str, host: &Path, inside: impl AsRef<Path>) -> &mut Self {
        self.add(kind).add(host).add(inside.as_ref())
    }
}

fn namespaces() -> [&'static str; 14] {
    [
        "--unshare-user",
        "--disable-userns",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "job",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
    ]
}

fn file_system(command: &Command, places: &Places, as_root: bool) -> Vec<OsString> {
    let mut line = Line::default();
    line.bind("--ro-bind", Path::new("/usr"), "/usr");
    for directory in SYSTEM {
        match std::fs::read_link(directory) {
            Ok(target) => line.add("--symlink").add(target).add(directory),
            Err(_) => line.bind("--ro-bind-try", Path::new(directory), directory),
        };
    }
    for path in ETC {
        line.bind("--ro-bind-try", Path::new(path), path);
    }
    line.all(["--proc", "/proc", "--dev", "/dev"]);
    if as_root {
        for file in ROOTS_EYES.map(Path::new).into_iter().filter(|file| file.exists()) {
            line.bind("--ro-bind", Path::new("/dev/null"), file);
        }
    }
    for memory in ["/dev/shm", "/tmp"] {
        line.add("--size").add(TMP_BYTES.to_string()).add("--tmpfs").add(memory);
    }
    for node in places.gpu.iter().flat_map(|gpu| &gpu.nodes) {
        line.bind("--dev-bind", node, node);
    }
    for shown in &command.shown {
        line.bind("--ro-bind", &shown.host, &shown.inside);
    }
    if let Some(door) = &places.door {
        line.bind("--ro-bind", &door.executable, NODE_PROGRAM);
    }
    line.bind("--bind", &places.work, WORK_DIR);
    line.bind("--ro-bind", &places.input, INPUT_DIR);
    // bubblewrap leaves all of these writable. The host's settings in /proc/sys belong to the
    // global uid 0: without capabilities, but run by root, a job could change them and so escape.
    // /dev and / are a tmpfs without a size: the job could fill memory through them.
    for mount in ["/proc", "/dev", "/"] {
        line.add("--remount-ro").add(mount);
    }
    line.add("--chdir").add(WORK_DIR);
    line.0
}

fn environment(command: &Command, places: &Places) -> Vec<OsString> {
    let own = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", WORK_DIR),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let proxy = places.door.iter().flat_map(|_| Door::environment());
    let gpu = places.gpu.iter().flat_map(|gpu| &gpu.env);
    own.chain(proxy)
        .chain(command.env.iter().chain(gpu).cloned())
        .flat_map(|(name, value)| ["--setenv".to_owned(), name, value])
        .map(Into::into)
        .collect()
}
