//! The owner's podman or docker: what it is, and what is asked of it besides running a container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::command_line;
use super::{Container, PATIENCE};
use crate::sandbox::confine::Confinement;
use crate::sandbox::{Interrupt, Sandbox, SandboxError, Unavailable};

/// The most that is read of what an engine answers, in bytes.
const LONGEST_ANSWER: u64 = 64 << 10;

/// How long fetching an image may take.
const LONGEST_PULL: Duration = Duration::from_secs(1800);

/// An engine that works here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its program.
    pub program: PathBuf,
    /// Which one it is.
    pub kind: EngineKind,
    /// Whether it runs without root's rights.
    pub is_rootless: bool,
    /// Its containers carry this label, so that a restarted node finds its own.
    pub owner: String,
    /// Whether it keeps a container to processors; why not.
    pub keeps_processors: Result<(), String>,
}

/// The kinds of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// podman.
    Podman,
    /// docker.
    Docker,
}

impl Engine {
    /// The level of isolation, as receipts state it: `podman-rootless`.
    pub fn level(&self) -> String {
        let kind = match self.kind {
            EngineKind::Podman => "podman",
            EngineKind::Docker => "docker",
        };
        format!("{kind}-{}", if self.is_rootless { "rootless" } else { "rootful" })
    }
}

impl Sandbox {
    /// The engine at `program`, if it works, with the containers of an earlier life removed.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn engine(&self, program: &Path, owner: &str) -> Result<Engine, Unavailable> {
        let refused = |why: String| Unavailable::Refused(format!("{}: {why}", program.display()));
        let said = self.ask(program, &["--version"]).await.map_err(refused)?;
        let kind = if said.to_lowercase().contains("podman") {
            EngineKind::Podman
        } else {
            EngineKind::Docker
        };
        let format = match kind {
            EngineKind::Podman => "{{.Host.Security.Rootless}}",
            EngineKind::Docker => "{{.SecurityOptions}}",
        };
        let said = self.ask(program, &["info", "--format", format]).await.map_err(refused)?;
        let is_rootless = said.trim() == "true" || said.contains("rootless");
        let engine = Engine {
            program: program.to_owned(),
            kind,
            is_rootless,
            owner: owner.to_owned(),
            keeps_processors: self.keeps_processors(program, kind).await,
        };
        let label = format!("label={}", engine.label());
        let left = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &label];
        for id in self.ask(program, &left).await.map_err(refused)?.split_whitespace() {
            self.remove(&engine, id).await.map_err(|error| refused(error.to_string()))?;
        }
        Ok(engine)
    }

    /// Whether the engine says that it may keep containers to processors; why not.
    async fn keeps_processors(&self, program: &Path, kind: EngineKind) -> Result<(), String> {
        let (format, word) = match kind {
            EngineKind::Podman => ("{{.Host.CgroupControllers}}", "cpuset"),
            EngineKind::Docker => ("{{.CPUSet}}", "true"),
        };
        // One that is too old for the question says that it has no such field.
        let said = self.ask(program, &["info", "--format", format]).await?;
        let mut words = said.split(|c: char| !c.is_ascii_alphanumeric());
        let has = words.any(|said| said == word);
        has.then_some(()).ok_or_else(|| "it has no cpuset among its control groups".to_owned())
    }

    /// Whether the engine has `image` at hand.
    pub async fn has_image(&self, engine: &Engine, image: &str) -> bool {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", image];
        self.ask(&engine.program, &inspect).await.is_ok()
    }

    /// Fetches an image for as long as nobody minds.
    pub(super) async fn pull(
        &self,
        engine: &Engine,
        image: &str,
        interrupt: &Interrupt,
    ) -> Result<(), SandboxError> {
        let mut line = command_line::environment();
        line.push(engine.program.clone().into());
        line.extend(["pull", "--quiet", image].map(OsString::from));
        let pulled = tokio::select! {
            pulled = timeout(LONGEST_PULL, self.output(line)) => pulled,
            () = interrupt.cancel.cancelled() => return Ok(()),
        };
        let failed =
            |why: String| SandboxError::Setup(format!("the image cannot be fetched: {why}"));
        let output = pulled.map_err(|_| failed("it takes too long".to_owned()))?;
        let output = output.map_err(SandboxError::io("start"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(said.lines().last().unwrap_or("it failed").to_owned()))
    }

    /// The first process of a container that runs, and the container's id.
    pub(super) async fn first_process(
        &self,
        engine: &Engine,
        container: &Container,
    ) -> Option<(Pid, String)> {
        let format = "{{.State.Pid}} {{.Id}}";
        let inspect = ["inspect", "--type", "container", "--format", format, &container.name];
        let said = self.ask(&engine.program, &inspect).await.ok()?;
        let (pid, id) = said.split_once(' ')?;
        // 0 where it does not run yet.
        Some((Pid::from_raw(pid.parse().ok()?)?, id.trim().to_owned()))
    }

    pub(super) async fn verdict(&self, engine: &Engine, container: &Container) -> Option<Verdict> {
        let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
        let inspect = ["inspect", "--type", "container", "--format", format, &container.name];
        let said = self.ask(&engine.program, &inspect).await.ok()?;
        Verdict::parse(&said)
    }

    pub(super) async fn remove(&self, engine: &Engine, name: &str) -> Result<(), SandboxError> {
        let removed = self.ask(&engine.program, &["rm", "--force", "--volumes", name]).await;
        match removed {
            Ok(_) => Ok(()),
            Err(why) if why.to_lowercase().contains("no such container") => Ok(()),
            Err(why) => Err(SandboxError::Setup(why)),
        }
    }

    /// What the engine answers; its complaint where it fails.
    pub(super) async fn ask(&self, program: &Path, args: &[&str]) -> Result<String, String> {
        let mut line = command_line::environment();
        line.push(program.into());
        line.extend(args.iter().map(OsString::from));
        let asked = timeout(PATIENCE, self.output(line)).await;
        let output = asked.map_err(|_| "it does not answer".to_owned())?;
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr).lines().last().unwrap_or("it failed").to_owned()),
        }
    }

    async fn output(&self, line: Vec<OsString>) -> std::io::Result<Output> {
        let mut child = self.launcher.spawn(line, Vec::new(), None, &Confinement::none()).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let pipes = child.stdout.take().zip(child.stderr.take());
        let Some((out, err)) = pipes else { return Err(std::io::Error::other("no pipes")) };
        let (mut out, mut err) = (out.take(LONGEST_ANSWER), err.take(LONGEST_ANSWER));
        tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr))?;
        Ok(Output { status: child.wait().await?, stdout, stderr })
    }
}

/// What the engine says of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) code: i32,
    pub(super) is_out_of_memory: bool,
}

impl Verdict {
    pub(super) fn parse(said: &str) -> Option<Self> {
        let mut words = said.split_whitespace();
        let status = words.next()?;
        let code = words.next()?.parse().ok()?;
        let is_out_of_memory = words.next()? == "true";
        // One that was only created never ran.
        matches!(status, "exited" | "stopped" | "dead").then_some(Self { code, is_out_of_memory })
    }
}
