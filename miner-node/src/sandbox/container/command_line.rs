//! From a [`Container`] to the arguments of podman or docker, and whose its files are.

use std::ffi::OsString;
use std::os::unix::fs::lchown;
use std::path::Path;

use super::{Container, Engine, EngineKind};
use crate::sandbox::{INPUT_DIR, Places, WORK_DIR};

/// Whom a container's program runs as where the engine has root's rights: `nobody`.
const NOBODY: u32 = 65_534;

/// Size of the private `/tmp`, in bytes: it is memory.
const TMP_BYTES: u64 = 64 << 20;

/// What an engine needs to find of its owner's; nothing of the node's secrets is among it.
const NEEDED: [&str; 3] = ["HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST"];

/// The beginning of each command line: an environment for the engine, and no more.
pub(super) fn environment() -> Vec<OsString> {
    let mut line: Vec<OsString> =
        ["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
            .map(OsString::from)
            .to_vec();
    for name in NEEDED {
        if let Some(value) = std::env::var_os(name) {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            line.push(pair);
        }
    }
    line
}

impl Engine {
    /// The label of this node's containers.
    pub(super) fn label(&self) -> String {
        format!("aitbc.node={}", self.owner)
    }

    /// Has what the job may see belong to whom its program will run as.
    pub(super) fn give(&self, places: &Places, job_file: &Path) -> std::io::Result<()> {
        if self.is_rootless {
            return Ok(());
        }
        lchown(&places.work, Some(NOBODY), Some(NOBODY))?;
        lchown(job_file, Some(NOBODY), Some(NOBODY))?;
        // These the node has made itself: there is nothing in them but directories and files.
        let mut open = vec![places.input.clone()];
        while let Some(path) = open.pop() {
            lchown(&path, Some(NOBODY), Some(NOBODY))?;
            if path.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    open.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// The whole command line that runs `container`, of which the first element is the program to
    /// start.
    pub(super) fn run_line(&self, container: &Container, places: &Places) -> Vec<OsString> {
        let limits = &container.limits;
        let mut line = environment();
        let mut add = |argument: &dyn AsRef<std::ffi::OsStr>| line.push(argument.as_ref().into());
        add(&self.program);
        for argument in [
            "run",
            "--network=none",
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--ipc=private",
            "--hostname=job",
            "--log-driver=none",
            "--stop-timeout=1",
        ] {
            add(&argument);
        }
        add(&format!("--name={}", container.name));
        add(&format!("--label={}", self.label()));
        // It was fetched before, where it may be.
        add(&"--pull=never");
        add(&format!("--pids-limit={}", limits.processes));
        add(&format!("--ulimit=nofile={0}:{0}", limits.open_files));
        add(&format!("--ulimit=nproc={0}:{0}", limits.processes));
        add(&format!("--ulimit=fsize={0}:{0}", limits.output_bytes));
        add(&"--ulimit=core=0:0");
        if let Some(secs) = limits.cpu_secs {
            add(&format!("--ulimit=cpu={secs}:{}", secs.saturating_add(1)));
        }
        if let Some(bytes) = limits.memory_bytes {
            add(&format!("--memory={bytes}"));
            add(&format!("--memory-swap={bytes}"));
        }
        if let Some(threads) = limits.cpu_threads {
            add(&format!("--cpus={threads}"));
        }
        if self.keeps_processors.is_ok() && !places.processors.is_empty() {
            let numbers: Vec<_> = places.processors.iter().map(ToString::to_string).collect();
            add(&format!("--cpuset-cpus={}", numbers.join(",")));
        }
        for argument in self.user() {
            add(&argument);
        }
        add(&format!("--tmpfs=/tmp:rw,nosuid,nodev,noexec,size={TMP_BYTES}"));
        add(&bind(&places.work, Path::new(WORK_DIR), "rw"));
        add(&bind(&places.input, Path::new(INPUT_DIR), "ro"));
        add(&bind(&container.job_file, Path::new(super::JOB_FILE), "ro"));
        add(&format!("--workdir={WORK_DIR}"));
        if let Some(program) = &container.entrypoint {
            add(&format!("--entrypoint={program}"));
        }
        add(&"--");
        add(&container.image);
        for argument in &container.args {
            add(argument);
        }
        line
    }

    /// Somebody who is nobody on the host, and whose files are the node's.
    fn user(&self) -> Vec<String> {
        match (self.is_rootless, self.kind) {
            (false, _) => vec![format!("--user={NOBODY}:{NOBODY}")],
            (true, EngineKind::Podman) => vec!["--userns=keep-id".to_owned()],
            // Its root is the owner, without capabilities.
            (true, EngineKind::Docker) => vec!["--user=0:0".to_owned()],
        }
    }
}

fn bind(host: &Path, inside: &Path, mode: &str) -> OsString {
    let mut argument = OsString::from("--volume=");
    argument.push(host);
    argument.push(":");
    argument.push(inside);
    argument.push(format!(":{mode}"));
    argument
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Limits;

    fn line(is_rootless: bool, kind: EngineKind) -> Vec<String> {
        line_on(&[], is_rootless, kind, Ok(()))
    }

    fn line_on(
        processors: &[usize],
        is_rootless: bool,
        kind: EngineKind,
        keeps_processors: Result<(), String>,
    ) -> Vec<String> {
        let (program, owner) = ("/usr/bin/podman".into(), "rig7".to_owned());
        let engine = Engine { program, kind, is_rootless, owner, keeps_processors };
        let container = Container {
            name: "aitbc-1".to_owned(),
            image: "localhost/tiny@sha256:00".to_owned(),
            args: vec!["--privileged".to_owned(), "a b".to_owned()],
            job_file: "/jobs/1/job.json".into(),
            may_pull: false,
            entrypoint: None,
            limits: Limits { memory_bytes: Some(1 << 20), ..Limits::trial() },
        };
        let below = Places::below(Path::new("/jobs/1"));
        let places = Places { processors: processors.to_vec(), ..below };
        let line = engine.run_line(&container, &places);
        line.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn what_a_container_must_not_have_it_does_not_get() {
        let line = line(true, EngineKind::Podman);
        for wanted in [
            "--network=none",
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--pull=never",
            "--pids-limit=64",
            "--memory=1048576",
            "--memory-swap=1048576",
            "--ulimit=cpu=10:11",
            "--userns=keep-id",
            "--volume=/jobs/1/work:/work:rw",
            "--volume=/jobs/1/input:/work/input:ro",
            "--volume=/jobs/1/job.json:/job.json:ro",
            "--label=aitbc.node=rig7",
        ] {
            assert!(line.iter().any(|argument| argument == wanted), "{wanted}: {line:?}");
        }
        // What the job says comes behind the image, where the engine reads no options.
        let end = line.iter().position(|argument| argument == "--").unwrap();
        assert_eq!(line[end + 1..], ["localhost/tiny@sha256:00", "--privileged", "a b"]);
    }

    #[test]
    fn the_program_is_nobody_wherever_the_engine_is_root() {
        for kind in [EngineKind::Podman, EngineKind::Docker] {
            assert!(line(false, kind).contains(&"--user=65534:65534".to_owned()));
        }
        assert!(line(true, EngineKind::Docker).contains(&"--user=0:0".to_owned()));
    }

    #[test]
    fn a_container_gets_the_processors_of_its_job_from_engines_that_can() {
        let given = |processors: &[usize], keeps| {
            let line = line_on(processors, true, EngineKind::Podman, keeps);
            let end = line.iter().position(|argument| argument == "--").unwrap();
            let is_it = |argument: &&String| argument.starts_with("--cpuset");
            line[..end].iter().filter(is_it).cloned().collect::<Vec<_>>()
        };
        assert_eq!(given(&[3], Ok(())), ["--cpuset-cpus=3"]);
        assert_eq!(given(&[0, 2, 17], Ok(())), ["--cpuset-cpus=0,2,17"]);
        // Empty, it would be refused.
        assert_eq!(given(&[], Ok(())), [""; 0]);
        assert_eq!(given(&[3], Err("no cpuset".to_owned())), [""; 0]);
    }

    #[test]
    fn an_engine_gets_no_secret() {
        let line = environment();
        assert_eq!(line[..2], ["/usr/bin/env", "-i"]);
        assert!(line[2..].iter().all(|pair| {
            let pair = pair.to_string_lossy();
            ["PATH=", "HOME=", "XDG_RUNTIME_DIR=", "DOCKER_HOST="]
                .iter()
                .any(|n| pair.starts_with(n))
        }));
    }
}
