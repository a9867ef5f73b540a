//! One run from start to the last process gone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::OptionFuture;
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines, Take};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(super) mod disk;
mod first;
mod judge;
mod watch;

use super::bubblewrap::{Descriptors, command_line};
use super::capture::capture;
use super::confine::Confinement;
use super::door::Door;
use super::gate::Gate;
use super::gpu::VramWatch;
use super::process_tree;
use super::{Command, Ending, Interrupt, Limits, Piece, Places, Run, Sandbox, SandboxError, Usage};
use disk::Disk;
use first::FirstProcess;
use judge::{complaint, natural, was_refused_memory};
use watch::{Peak, Watch};

/// How long a killed tree may take to go away.
const LONGEST_DEATH: Duration = Duration::from_secs(30);

/// The most that bubblewrap reports, in bytes.
const LONGEST_STATUS: u64 = 64 << 10;

impl Sandbox {
    /// Runs `command` and returns when no process of it is left.
    ///
    /// # Errors
    /// Where the program was not started, or the node itself failed; never for what the program did.
    pub async fn run(
        &self,
        command: &Command,
        places: &Places,
        interrupt: &Interrupt,
    ) -> Result<Run, SandboxError> {
        // A few system calls: cheaper here than a detour over another thread.
        let confinement = Arc::new(self.confinement(command, places)?);
        let (reader, status) = io::pipe().map_err(SandboxError::io("status pipe"))?;
        let status = OwnedFd::from(status);
        // Before the start: afterwards an error would have to undo it.
        let reader = pipe::Receiver::from_owned_fd(reader.into());
        let reader = reader.map_err(SandboxError::io("status pipe"))?;
        let (gate, waiting) = Gate::closed().map_err(SandboxError::io("gate"))?;
        let keeper = confinement.isolation.keeper;
        let filter = self.filter.as_ref().ok().map(|filter| filter.open(keeper)).transpose();
        let filter = filter.map_err(SandboxError::io("syscall filter"))?;
        let descriptors = Descriptors {
            status: status.as_raw_fd(),
            gate: waiting.as_raw_fd(),
            filter: filter.as_ref().map(AsRawFd::as_raw_fd),
        };
        let mut line = confinement.prefix.clone();
        let as_root = confinement.as_root;
        line.extend(command_line(&self.tools.bwrap, command, places, &descriptors, as_root));
        let stdin = places.door.as_ref().map(Door::stdin).transpose();
        let stdin = stdin.map_err(SandboxError::io("way out"))?;
        let started = Instant::now();
        let inherited = [status, waiting].into_iter().chain(filter).collect();
        let monitor = self.launcher.spawn(line, inherited, stdin, &confinement).await;
        let monitor = monitor.map_err(SandboxError::io("start"))?;
        let mut running = Running::new(monitor, reader, gate, confinement, command, places)?;
        let forced = running.watch(&command.limits, places, started, interrupt).await?;
        running.finish(forced, started, places, &command.limits).await
    }
}

/// The moving parts of a run: bubblewrap's monitor, its status reports, and the namespace's first
/// process once it is known.
struct Running {
    monitor: Child,
    status: Lines<BufReader<Take<pipe::Receiver>>>,
    first: Option<FirstProcess>,
    /// Closed as long as the first process waits for its limits.
    gate: Option<Gate>,
    confinement: Arc<Confinement>,
    exit_code: Option<i32>,
    captures: [JoinHandle<io::Result<()>>; 2],
    overflow: CancellationToken,
    /// Whether somebody looks at the tree.
    watched: bool,
    peak: Peak,
}

impl Running {
    fn new(
        mut monitor: Child,
        status: pipe::Receiver,
        gate: Gate,
        confinement: Arc<Confinement>,
        command: &Command,
        places: &Places,
    ) -> Result<Self, SandboxError> {
        let overflow = CancellationToken::new();
        let stdout = monitor.stdout.take();
        let stderr = monitor.stderr.take();
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(SandboxError::Setup("no pipes to the program".to_owned()));
        };
        Ok(Self {
            monitor,
            status: BufReader::new(status.take(LONGEST_STATUS)).lines(),
            first: None,
            gate: Some(gate),
            confinement,
            exit_code: None,
            captures: [
                spawn_capture(stdout, &places.stdout, &command.limits, &overflow),
                spawn_capture(stderr, &places.stderr, &command.limits, &overflow),
            ],
            overflow,
            watched: false,
            peak: Peak::default(),
        })
    }

    /// Waits until the monitor has ended, ending it where a limit or somebody demands it. Returns
    /// the ending that was forced.
    async fn watch(
        &mut self,
        limits: &Limits,
        places: &Places,
        started: Instant,
        interrupt: &Interrupt,
    ) -> Result<Option<Ending>, SandboxError> {
        let mut looks = pin!(OptionFuture::default());
        let deadline = started + limits.wall;
        let forced = loop {
            tokio::select! {
                line = self.status.next_line() => {
                    if !self.heard(line.map_err(SandboxError::io("status pipe"))?)? {
                        // End of the reports: the monitor is about to end.
                        self.monitor.wait().await.map_err(SandboxError::io("wait"))?;
                        return Ok(None);
                    }
                    self.let_go().await?;
                    if let Some(watch) = self.eyes(places) {
                        looks.set(Some(watch.until_used_up(limits)).into());
                    }
                }
                _ = self.monitor.wait() => return Ok(None),
                () = interrupt.kill.cancelled() => break Ending::Canceled,
                () = interrupt.cancel.cancelled() => break Ending::Canceled,
                () = self.overflow.cancelled() => break Ending::OutputLimit,
                () = sleep_until(deadline) => break Ending::TimedOut,
                Some(used_up) = &mut looks => break used_up,
            }
        };
        self.end(forced, limits.grace, &interrupt.kill).await?;
        Ok(Some(forced))
    }

    /// Waits until the first process is known, or the monitor has no more to say.
    async fn until_reported(&mut self) -> Result<(), SandboxError> {
        while self.first.is_none() {
            let line = self.status.next_line().await.map_err(SandboxError::io("status pipe"))?;
            if !self.heard(line)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes in one status report; `false` at their end.
    fn heard(&mut self, line: Option<String>) -> Result<bool, SandboxError> {
        let Some(line) = line else { return Ok(false) };
        let report: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(pid) = report["child-pid"].as_i64() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            self.first = pid
                .map(FirstProcess::open)
                .transpose()
                .map_err(|error| {
                    // It waits at the gate, for ever if need be: nobody else would end it.
                    let _ = self.monitor.start_kill();
                    SandboxError::io("first process")(error)
                })?
                .flatten();
        }
        if let Some(code) = report["exit-code"].as_i64() {
            self.exit_code = i32::try_from(code).ok();
        }
        Ok(true)
    }

    /// Has the first process go on, once it is known, under its limits.
    async fn let_go(&mut self) -> Result<(), SandboxError> {
        let Some(pid) = self.first.as_ref().map(|first| first.pid) else { return Ok(()) };
        let Some(gate) = self.gate.take() else { return Ok(()) };
        let confined = if self.confinement.moves() {
            let confinement = Arc::clone(&self.confinement);
            let moved = tokio::task::spawn_blocking(move || confinement.let_go(pid, gate)).await;
            moved.map_err(io::Error::other).flatten()
        } else {
            self.confinement.let_go(pid, gate)
        };
        let Err(error) = confined else { return Ok(()) };
        self.kill().await?;
        if let Some(first) = self.first.take() {
            first.gone().await?;
        }
        Err(SandboxError::io("limits")(error))
    }

    /// What looks at the tree from now on, once its first process is known; only once.
    fn eyes(&mut self, places: &Places) -> Option<Watch> {
        let first = self.first.as_ref().filter(|_| !self.watched)?.pid;
        self.watched = true;
        let disk = Disk::new(places);
        let vram = VramWatch::over(places.gpu.as_ref());
        let (confinement, peak) = (Arc::clone(&self.confinement), Arc::clone(&self.peak));
        Some(Watch { first, confinement, disk, vram, peak })
    }

    /// Asks the tree to end, waits, and kills the monitor, with which the kernel kills the rest.
    async fn end(
        &mut self,
        why: Ending,
        grace: Duration,
        kill: &CancellationToken,
    ) -> Result<(), SandboxError> {
        // What has not begun need not be asked.
        let begun = self.first.is_some();
        // Killed before it has reported its child, bubblewrap would leave it behind: the child ties
        // its life to the monitor's only later.
        let reported = timeout(LONGEST_DEATH, self.until_reported()).await;
        reported.map_err(|_| SandboxError::Stuck)??;
        // Who floods disk or memory gets no time to go on with it.
        let asked = matches!(why, Ending::TimedOut | Ending::CpuLimit | Ending::Canceled);
        let polite = begun && asked && !kill.is_cancelled();
        if let Some(first) = self.first.as_ref().filter(|_| polite) {
            process_tree::terminate(first.pid);
            tokio::select! {
                _ = self.monitor.wait() => {}
                () = sleep(grace) => {}
                () = kill.cancelled() => {}
            }
        }
        self.kill().await
    }

    /// Kills the monitor, with which the kernel kills the rest, but for a first process that still
    /// waits for its limits.
    async fn kill(&mut self) -> Result<(), SandboxError> {
        self.monitor.kill().await.or_else(|error| match error.kind() {
            // It has ended by itself.
            io::ErrorKind::InvalidInput => Ok(()),
            _ => Err(SandboxError::io("kill")(error)),
        })
    }

    /// Waits for the rest of the tree and puts the pieces together.
    async fn finish(
        mut self,
        forced: Option<Ending>,
        started: Instant,
        places: &Places,
        limits: &Limits,
    ) -> Result<Run, SandboxError> {
        while let Some(line) = self.rest_of_status().await? {
            self.heard(Some(line))?;
        }
        let wall = started.elapsed();
        let seen = *self.peak.lock().unwrap_or_else(PoisonError::into_inner);
        let mut peak = seen.sample;
        if let Some(first) = self.first.take() {
            peak.cpu = peak.cpu.max(first.gone().await?);
        }
        for capture in &mut self.captures {
            capture
                .await
                .map_err(|error| SandboxError::Setup(error.to_string()))?
                .map_err(SandboxError::io("capture output"))?;
        }
        let isolation = self.confinement.isolation;
        let confinement = self.confinement;
        let last = tokio::task::spawn_blocking(move || confinement.end());
        let disk = Disk::new(places);
        let (last, work_bytes) = tokio::join!(last, disk.bytes(limits, None));
        peak.take_in(last.unwrap_or_default());
        let ending = match (forced, self.exit_code) {
            (Some(forced), _) => forced,
            (None, _) if peak.out_of_memory => Ending::OutOfMemory,
            (None, _) if self.overflow.is_cancelled() => Ending::OutputLimit,
            (None, Some(_)) if work_bytes > limits.work_bytes => Ending::OutputLimit,
            (None, Some(code)) => {
                let ending = natural(code);
                let limited = limits.memory_bytes.is_some() && !isolation.has(Piece::Cgroup);
                if limited && was_refused_memory(ending, &places.stderr) {
                    Ending::OutOfMemory
                } else {
                    ending
                }
            }
            (None, None) => return Err(SandboxError::Setup(complaint(&places.stderr))),
        };
        let printed = [&places.stdout, &places.stderr]
            .map(|path| path.metadata().map_or(0, |found| found.len()));
        let usage = Usage {
            wall,
            cpu: peak.cpu,
            max_rss_bytes: peak.rss_bytes,
            written_bytes: printed.iter().fold(work_bytes, |sum, more| sum.saturating_add(*more)),
            vram_bytes: seen.vram_bytes,
            joules: None,
            egress_bytes: None,
        };
        Ok(Run { isolation, ending, usage })
    }

    /// The next report that is still in the pipe; the monitor has ended.
    async fn rest_of_status(&mut self) -> Result<Option<String>, SandboxError> {
        // Whoever of the dying tree still holds the pipe's other end lets go of it soon.
        let line = timeout(LONGEST_DEATH, self.status.next_line()).await;
        line.map_err(|_| SandboxError::Stuck)?.map_err(SandboxError::io("status pipe"))
    }
}

fn spawn_capture(
    stream: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    path: &Path,
    limits: &Limits,
    overflow: &CancellationToken,
) -> JoinHandle<io::Result<()>> {
    let (path, limit, overflow) = (path.to_owned(), limits.output_bytes, overflow.clone());
    tokio::spawn(async move { capture(stream, &path, limit, overflow).await })
}

#[cfg(test)]
mod tests;
