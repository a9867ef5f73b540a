//! Containers: the second way in which a job's program is started, by the owner's podman or docker.
//!
//! The engine isolates it, with what [`command_line`] demands of it; the node holds it to its wall
//! clock, its output and its disk, and sees to it that nothing of it is left.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::capture;
use super::confine::Confinement;
use super::measure::written;
use super::supervise::disk::Disk;
use super::{Ending, Interrupt, Limits, Places, Sandbox, SandboxError, Usage};

mod account;
mod command_line;
mod engine;

use account::Account;
use engine::Verdict;
pub use engine::{Engine, EngineKind};

/// Where a container finds what it is told about its job.
const JOB_FILE: &str = "/job.json";

/// How long an engine may take over what it only has to look up or remove.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at what is written.
const PAUSE: Duration = Duration::from_secs(1);

/// A program that no image has, and the exit code of an engine that has set everything up and does
/// not find it.
const ABSENT_PROGRAM: &str = "/aitbc/no-such-program";
const NOT_FOUND: i32 = 127;

/// The exit code of an engine that could not start the container.
const NOT_STARTED: i32 = 125;

/// A container to be run.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, which no other one has.
    pub name: String,
    /// The image, by its digest.
    pub image: String,
    /// What it is started with; empty: what the image says.
    pub args: Vec<String>,
    /// The file of the host that it sees as `/job.json`.
    pub job_file: PathBuf,
    /// Whether an image that is not here may be fetched.
    pub may_pull: bool,
    /// What is started in place of what the image says.
    pub entrypoint: Option<String>,
    /// What it may use.
    pub limits: Limits,
}

/// A container that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Contained {
    /// How.
    pub ending: Ending,
    /// What it used, as far as the node sees it.
    pub usage: Usage,
}

impl Sandbox {
    /// Whether a container of `image` can be set up as for a job on `processors`, tried below
    /// `directory`. Where it can be on any, but not on these, `engine` keeps to none from then on.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_container(
        &self,
        engine: &mut Engine,
        image: &str,
        directory: &Path,
        processors: &[usize],
    ) -> Result<(), String> {
        let places = Places { processors: processors.to_vec(), ..Places::below(directory) };
        let Err(why) = self.try_once(engine, image, directory, &places).await else {
            return Ok(());
        };
        if engine.keeps_processors.is_err() {
            return Err(why);
        }
        let lesser = Engine { keeps_processors: Err(why), ..engine.clone() };
        self.try_once(&lesser, image, directory, &places).await?;
        *engine = lesser;
        Ok(())
    }

    /// Asks it to start a program that no image has, so that nothing of it runs.
    async fn try_once(
        &self,
        engine: &Engine,
        image: &str,
        directory: &Path,
        places: &Places,
    ) -> Result<(), String> {
        let job_file = directory.join("job.json");
        let prepare = || {
            std::fs::create_dir_all(&places.work)?;
            std::fs::create_dir_all(&places.input)?;
            std::fs::write(&job_file, "{}")
        };
        prepare().map_err(|error| error.to_string())?;
        let container = Container {
            name: format!("aitbc-trial-{}", std::process::id()),
            image: image.to_owned(),
            args: Vec::new(),
            job_file,
            may_pull: false,
            entrypoint: Some(ABSENT_PROGRAM.to_owned()),
            limits: Limits { wall: PATIENCE, ..Limits::trial() },
        };
        let run = self.run_container(engine, &container, places, &Interrupt::default()).await;
        match run.map_err(|error| error.to_string())?.ending {
            Ending::Exited(NOT_FOUND) => Ok(()),
            ending => Err(format!("it ended: {ending:?} {}", last_line(&places.stderr))),
        }
    }

    /// Runs `container` and returns when nothing of it is left.
    ///
    /// # Errors
    /// Where it was not started, or the node or the engine failed; never for what it did.
    pub async fn run_container(
        &self,
        engine: &Engine,
        container: &Container,
        places: &Places,
        interrupt: &Interrupt,
    ) -> Result<Contained, SandboxError> {
        engine.give(places, &container.job_file).map_err(SandboxError::io("job directory"))?;
        // What it takes to fetch an image is no run time of the job's.
        if container.may_pull && !self.has_image(engine, &container.image).await {
            self.pull(engine, &container.image, interrupt).await?;
        }
        let line = engine.run_line(container, places);
        let started = Instant::now();
        // Where podman has no cpuset, the container inherits this from it, unless its runtime undoes
        // that, as runc does since 1.2.7.
        let confinement = Confinement::on(&places.processors);
        let spawned = self.launcher.spawn(line, Vec::new(), None, &confinement).await;
        let mut client = spawned.map_err(SandboxError::io("start"))?;
        let account = Account::default();
        let outcome = tokio::select! {
            outcome = self.watch(engine, container, places, interrupt, &account, &mut client) => outcome,
            () = account.keep(self, engine, container, &places.work) => Ok((None, None)),
        };
        // Whatever happened: nothing stays.
        let verdict = self.verdict(engine, container).await;
        let removed = self.remove(engine, &container.name).await;
        let (forced, code) = outcome?;
        removed?;
        let wall = started.elapsed();
        let seen = account.sample();
        let printed = [&places.stdout, &places.stderr]
            .map(|path| path.metadata().map_or(0, |found| found.len()));
        let usage = Usage {
            wall,
            cpu: seen.cpu,
            max_rss_bytes: seen.rss_bytes,
            written_bytes: printed
                .iter()
                .fold(size(&places.work, u64::MAX).await, |sum, more| sum.saturating_add(*more)),
            ..Usage::default()
        };
        let said = match (forced, verdict) {
            (Some(forced), _) => forced,
            (None, Some(Verdict { is_out_of_memory: true, .. })) => Ending::OutOfMemory,
            (None, Some(Verdict { code, .. })) => natural(code),
            (None, None) if code == Some(NOT_STARTED) => {
                return Err(SandboxError::Setup(last_line(&places.stderr)));
            }
            (None, None) => natural(code.unwrap_or(NOT_STARTED)),
        };
        let ending = account.judge(forced, said, container.limits.memory_bytes);
        Ok(Contained { ending, usage })
    }

    /// Waits until the container has ended, ending it where a limit or somebody demands it. Returns
    /// the ending that was forced, and the client's exit code.
    async fn watch(
        &self,
        engine: &Engine,
        container: &Container,
        places: &Places,
        interrupt: &Interrupt,
        account: &Account,
        client: &mut Child,
    ) -> Result<(Option<Ending>, Option<i32>), SandboxError> {
        let started = Instant::now();
        let (Some(stdout), Some(stderr)) = (client.stdout.take(), client.stderr.take()) else {
            return Err(SandboxError::Setup("no pipes to the container".to_owned()));
        };
        let limits = &container.limits;
        let overflow = CancellationToken::new();
        let captures = async {
            let most = limits.output_bytes;
            tokio::try_join!(
                capture(stdout, &places.stdout, most, overflow.clone()),
                capture(stderr, &places.stderr, most, overflow.clone()),
            )
        };
        let mut disk = Disk::new(places);
        let watching = async {
            let forced = loop {
                tokio::select! {
                    _ = client.wait() => break None,
                    () = interrupt.kill.cancelled() => break Some(Ending::Canceled),
                    () = interrupt.cancel.cancelled() => break Some(Ending::Canceled),
                    () = overflow.cancelled() => break Some(Ending::OutputLimit),
                    () = sleep_until(started + limits.wall) => break Some(Ending::TimedOut),
                    () = sleep(PAUSE) => {
                        // As with our own groups: no job goes on with half of its processes.
                        if account.sample().out_of_memory {
                            break Some(Ending::OutOfMemory);
                        }
                        // Files that have no name any more are not seen: their owner may be hidden.
                        if let Some(ending) = disk.look(limits, None).await {
                            break Some(ending);
                        }
                    }
                }
            };
            if let Some(forced) = forced {
                let asked = matches!(forced, Ending::TimedOut | Ending::Canceled);
                let polite = asked && !interrupt.kill.is_cancelled();
                self.stop(engine, container, polite, &interrupt.kill, client).await;
            }
            client.wait().await.map(|status| (forced, status.code()))
        };
        let (captured, ended) = tokio::join!(captures, watching);
        captured.map_err(SandboxError::io("capture output"))?;
        let (forced, code) = ended.map_err(SandboxError::io("wait"))?;
        let is_too_much = forced.is_none() && exceeds(&places.work, limits.work_bytes).await;
        let is_too_much = is_too_much || (forced.is_none() && overflow.is_cancelled());
        Ok((if is_too_much { Some(Ending::OutputLimit) } else { forced }, code))
    }

    /// Asks the container to end, waits, and kills it.
    async fn stop(
        &self,
        engine: &Engine,
        container: &Container,
        polite: bool,
        kill: &CancellationToken,
        client: &mut Child,
    ) {
        if polite {
            // Where it has ended by itself there is nothing to ask.
            let _ = self.ask(&engine.program, &["kill", "--signal", "TERM", &container.name]).await;
            tokio::select! {
                _ = client.wait() => return,
                () = sleep(container.limits.grace) => {}
                () = kill.cancelled() => {}
            }
        }
        let _ = self.remove(engine, &container.name).await;
        // The client goes with its container; one that does not is of no use any more.
        if timeout(PATIENCE, client.wait()).await.is_err() {
            let _ = client.kill().await;
        }
    }
}

/// What the exit code says: engines pass 128 + n on for a program that signal n ended.
fn natural(code: i32) -> Ending {
    match code - 128 {
        signal @ 1..=64 => Ending::Signaled(signal),
        _ => Ending::Exited(code),
    }
}

async fn exceeds(directory: &Path, most: u64) -> bool {
    size(directory, most).await > most
}

/// What is in `directory`, counted up to `most`, in bytes.
async fn size(directory: &Path, most: u64) -> u64 {
    let directory = directory.to_owned();
    let measured =
        tokio::task::spawn_blocking(move || written(&directory, most, &AtomicBool::new(false)))
            .await;
    measured.unwrap_or(u64::MAX)
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("the engine gave no reason").trim().to_owned()
}

#[cfg(test)]
mod tests;
