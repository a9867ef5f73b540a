//! One run from start to the last process gone.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines, Take};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::bubblewrap::{Descriptors, command_line};
use super::capture::capture;
use super::gate::Gate;
use super::measure::written;
use super::process_tree::{self, Sample};
use super::rlimits::Rlimits;
use super::{Command, Ending, Interrupt, Limits, Places, Run, Sandbox, SandboxError, Usage};

/// How long a killed tree may take to go away.
const LONGEST_DEATH: Duration = Duration::from_secs(30);

/// Pause before the first look at what a tree uses; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two looks at what is written; a look that takes long makes the next one later.
const MEASURE_PAUSE: Duration = Duration::from_secs(1);

/// The most that bubblewrap reports, in bytes.
const LONGEST_STATUS: u64 = 64 << 10;

/// Signals that stand for a limit: processor time and file size.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

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
        let (reader, status) = io::pipe().map_err(SandboxError::io("status pipe"))?;
        let status = OwnedFd::from(status);
        let (gate, waiting) = Gate::closed().map_err(SandboxError::io("gate"))?;
        let descriptors = Descriptors { status: status.as_raw_fd(), gate: waiting.as_raw_fd() };
        let line = command_line(&self.tools.bwrap, command, places, descriptors);
        let started = Instant::now();
        let monitor = self.launcher.spawn(line, vec![status, waiting], None).await;
        let monitor = monitor.map_err(SandboxError::io("start"))?;
        let mut running = Running::new(monitor, reader.into(), places, &command.limits)?;
        running.locked = Some(Locked { gate, rlimits: Rlimits::of(&command.limits, true, false) });
        let forced = running.watch(&command.limits, started, interrupt).await?;
        let (ending, usage) =
            running.finish(forced, started, &places.stderr, command.limits.work_bytes).await?;
        Ok(Run { isolation: self.isolation(), ending, usage })
    }
}

/// The moving parts of a run: bubblewrap's monitor, its status reports, and the namespace's first
/// process once it is known.
struct Running {
    monitor: Child,
    status: Lines<BufReader<Take<pipe::Receiver>>>,
    first: Option<FirstProcess>,
    locked: Option<Locked>,
    exit_code: Option<i32>,
    captures: [JoinHandle<io::Result<()>>; 2],
    overflow: CancellationToken,
    peak: Sample,
    measured: Measured,
}

/// A first process that waits for its limits.
struct Locked {
    gate: Gate,
    rlimits: Rlimits,
}

/// What is known of the size of the work directory.
struct Measured {
    directory: PathBuf,
    due: Instant,
}

/// The first process of the namespace: when it is gone, all are. Dropping it kills it: as long as
/// it waits for its limits, it does not end with its monitor.
struct FirstProcess {
    pid: Pid,
    descriptor: OwnedFd,
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

impl Running {
    fn new(
        mut monitor: Child,
        status: OwnedFd,
        places: &Places,
        limits: &Limits,
    ) -> Result<Self, SandboxError> {
        let overflow = CancellationToken::new();
        let stdout = monitor.stdout.take();
        let stderr = monitor.stderr.take();
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(SandboxError::Setup("no pipes to the program".to_owned()));
        };
        let receiver =
            pipe::Receiver::from_owned_fd(status).map_err(SandboxError::io("status pipe"))?;
        Ok(Self {
            monitor,
            status: BufReader::new(receiver.take(LONGEST_STATUS)).lines(),
            first: None,
            locked: None,
            exit_code: None,
            captures: [
                spawn_capture(stdout, &places.stdout, limits, &overflow),
                spawn_capture(stderr, &places.stderr, limits, &overflow),
            ],
            overflow,
            peak: Sample::default(),
            measured: Measured { directory: places.work.clone(), due: Instant::now() },
        })
    }

    /// Waits until the monitor has ended, ending it where a limit or somebody demands it. Returns
    /// the ending that was forced.
    async fn watch(
        &mut self,
        limits: &Limits,
        started: Instant,
        interrupt: &Interrupt,
    ) -> Result<Option<Ending>, SandboxError> {
        let mut pause = FIRST_PAUSE;
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
                }
                _ = self.monitor.wait() => return Ok(None),
                () = interrupt.kill.cancelled() => break Ending::Canceled,
                () = interrupt.cancel.cancelled() => break Ending::Canceled,
                () = self.overflow.cancelled() => break Ending::OutputLimit,
                () = sleep_until(deadline) => break Ending::TimedOut,
                () = sleep(pause) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if self.look(limits).await {
                        break Ending::CpuLimit;
                    }
                    if self.measured.exceeds(limits.work_bytes).await {
                        break Ending::OutputLimit;
                    }
                }
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
            // Gone already: then there is nothing to wait for either.
            self.first = pid.and_then(|pid| FirstProcess::open(pid).ok());
        }
        if let Some(code) = report["exit-code"].as_i64() {
            self.exit_code = i32::try_from(code).ok();
        }
        Ok(true)
    }

    /// Has the first process go on, once it is known, under its limits.
    async fn let_go(&mut self) -> Result<(), SandboxError> {
        let Some(pid) = self.first.as_ref().map(|first| first.pid) else { return Ok(()) };
        let Some(Locked { gate, rlimits }) = self.locked.take() else { return Ok(()) };
        match rlimits.set(pid).and_then(|()| gate.open()) {
            Ok(()) => Ok(()),
            // It has given up while it set up the namespaces: its monitor is about to say why.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            Err(error) => {
                self.kill().await?;
                if let Some(first) = self.first.take() {
                    first.gone().await?;
                }
                Err(SandboxError::io("limits")(error))
            }
        }
    }

    /// Measures the tree; `true` when it has used up its processor time.
    async fn look(&mut self, limits: &Limits) -> bool {
        let Some(pid) = self.first.as_ref().map(|first| first.pid) else { return false };
        let sampled = tokio::task::spawn_blocking(move || process_tree::sample(pid)).await;
        let sample = sampled.unwrap_or_default();
        self.peak.cpu = self.peak.cpu.max(sample.cpu);
        self.peak.rss_bytes = self.peak.rss_bytes.max(sample.rss_bytes);
        limits.cpu_secs.is_some_and(|secs| sample.cpu >= Duration::from_secs(secs))
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
        // Who floods the disk gets no time to go on with it.
        let polite = begun && why != Ending::OutputLimit && !kill.is_cancelled();
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
        stderr: &Path,
        work_bytes: u64,
    ) -> Result<(Ending, Usage), SandboxError> {
        while let Some(line) = self.rest_of_status().await? {
            self.heard(Some(line))?;
        }
        let wall = started.elapsed();
        let mut cpu = self.peak.cpu;
        if let Some(first) = self.first.take() {
            cpu = cpu.max(first.gone().await?);
        }
        for capture in self.captures {
            capture
                .await
                .map_err(|error| SandboxError::Setup(error.to_string()))?
                .map_err(SandboxError::io("capture output"))?;
        }
        let ending = match (forced, self.exit_code) {
            (None, Some(_)) if self.measured.exceeds_at_last(work_bytes).await => {
                Ending::OutputLimit
            }
            (Some(forced), _) => forced,
            (None, _) if self.overflow.is_cancelled() => Ending::OutputLimit,
            (None, Some(code)) => natural(code),
            (None, None) => return Err(SandboxError::Setup(complaint(stderr))),
        };
        let max_rss_bytes = self.peak.rss_bytes;
        Ok((ending, Usage { wall, cpu, max_rss_bytes, ..Usage::default() }))
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

/// What the exit code says. bubblewrap passes 128 + n on for a program that signal n ended.
fn natural(code: i32) -> Ending {
    match code - 128 {
        SIGXCPU => Ending::CpuLimit,
        SIGXFSZ => Ending::OutputLimit,
        signal @ 1..=64 => Ending::Signaled(signal),
        _ => Ending::Exited(code),
    }
}

/// What bubblewrap wrote before it gave up.
fn complaint(stderr: &Path) -> String {
    let text = std::fs::read(stderr).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => "bwrap ended without a word".to_owned(),
    }
}

impl Measured {
    /// Whether there is more than `most`, if it is time to look.
    async fn exceeds(&mut self, most: u64) -> bool {
        let begun = Instant::now();
        if begun < self.due {
            return false;
        }
        let exceeds = self.exceeds_at_last(most).await;
        // At most a tenth of the time goes into looking.
        self.due = Instant::now() + MEASURE_PAUSE.max(begun.elapsed() * 9);
        exceeds
    }

    /// Whether there is more than `most` now.
    async fn exceeds_at_last(&self, most: u64) -> bool {
        let directory = self.directory.clone();
        let measured = tokio::task::spawn_blocking(move || written(&directory, most)).await;
        measured.unwrap_or(u64::MAX) > most
    }
}

impl FirstProcess {
    fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, descriptor: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Kills it, waits for it, and returns the processor time of everything that it reaped.
    async fn gone(self) -> Result<Duration, SandboxError> {
        // Mostly the kernel did so already when the monitor ended; this costs nothing.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
        let waiting = tokio::task::spawn_blocking(move || self.reap());
        let reaped = timeout(LONGEST_DEATH, waiting).await.map_err(|_| SandboxError::Stuck)?;
        Ok(reaped.unwrap_or_default())
    }

    fn reap(self) -> Duration {
        let descriptor = self.descriptor.as_fd();
        let ended = |options| waitid(WaitId::PidFd(descriptor), WaitIdOptions::EXITED | options);
        // Looked at before it is reaped: afterwards its times are gone. Where the monitor reaped
        // it, there is nothing to be had.
        let cpu = match ended(WaitIdOptions::NOWAIT) {
            Ok(_) => process_tree::cpu_time(self.pid).unwrap_or_default(),
            Err(_) => Duration::ZERO,
        };
        let _ = ended(WaitIdOptions::empty());
        cpu
    }
}

#[cfg(test)]
mod tests;
