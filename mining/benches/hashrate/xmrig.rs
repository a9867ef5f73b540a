//! XMRig's side: its own benchmark, stopped and continued by signals. It prints, once a second, how
//! many hashes are done.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use mining::Algorithm;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Options;
use crate::time::{Moment, Slice, cpu_seconds};

/// Longer than it takes to build a dataset on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many hashes are done, after how many seconds by its own clock: of
/// `bench     0.01% 408/10000000 (1.508s)`.
fn progress(line: &str) -> Option<(u64, f64)> {
    let (_, counts) = line.split_once(" bench ")?.1.split_once('%')?;
    let (hashes, rest) = counts.trim().split_once('/')?;
    let seconds = rest.split_once('(')?.1.split_once("s)")?.0;
    Some((hashes.parse().ok()?, seconds.parse().ok()?))
}

/// A running XMRig, stopped between its slices. Dropping it ends it.
pub(crate) struct Xmrig {
    child: Child,
    pid: Pid,
    lines: Receiver<String>,
    version: String,
    in_force: Vec<String>,
}

impl Xmrig {
    /// Starts it and waits until it hashes.
    pub(crate) fn start(
        path: &Path,
        options: &Options,
        rotation: Option<usize>,
        processors: &[usize],
    ) -> Self {
        // With one thread its benchmark makes every hash depend on the one before, and GhostRider's
        // set of CryptoNights with it. So a second one is there, and never runs: see `idle`.
        let is_lonely = options.algorithm == Algorithm::GhostRider && options.threads == 1;
        let threads = if is_lonely { 2 } else { options.threads };
        let list: Vec<String> = processors.iter().map(usize::to_string).collect();
        #[expect(clippy::disallowed_methods, reason = "what the lanes are compared with")]
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &list.join(",")]).arg(path);
        command.args(["--bench=10M", "--print-time=1", "--no-color", "--threads"]);
        command.args([&threads.to_string(), "--algo", options.algorithm.as_str()]);
        if !options.huge {
            command.arg("--no-huge-pages");
        }
        if let Some(rotation) = rotation {
            command.arg(format!("--rotation={rotation}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("XMRig");
        let output = child.stdout.take().expect("its output");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let pid = Pid::from_child(&child);
        let mut xmrig = Self { child, pid, lines, version: String::new(), in_force: Vec::new() };
        xmrig.wait_until_it_hashes();
        if is_lonely {
            xmrig.idle_one();
        }
        xmrig.signal(Signal::STOP);
        xmrig
    }

    fn wait_until_it_hashes(&mut self) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("XMRig hashes");
            if progress(&line).is_some() {
                return;
            }
            if let Some((_, version)) = line.split_once("ABOUT") {
                self.version = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            }
            let told = [" READY ", "dataset ready", "allocated ", " CPU ", "MSR MOD"];
            if told.iter().any(|told| line.contains(told)) {
                let text = line.split_once(']').map_or(&*line, |(_, text)| text);
                self.in_force.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }

    /// Gives one of its two hashing threads the lowest priority there is (one part in 340), on the
    /// only processor that both have.
    fn idle_one(&self) {
        let directory = format!("/proc/{}/task", self.pid);
        let tasks = std::fs::read_dir(directory).expect("its threads");
        let ticks = |task: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{}/task/{task}/stat", self.pid));
            let stat = stat.unwrap_or_default();
            // User time is the twelfth field after the name (proc_pid_stat(5)).
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(11).and_then(|field| field.parse::<u64>().ok())
        };
        let tasks = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
        let busiest = tasks.max_by_key(|task| ticks(task)).expect("a thread that hashes");
        #[expect(clippy::disallowed_methods, reason = "rustix has no scheduling classes")]
        let status = Command::new("chrt").args(["--idle", "--pid", "0", &busiest]).status();
        assert!(status.is_ok_and(|status| status.success()), "chrt");
    }

    /// Lets it hash for so long.
    pub(crate) fn slice(&mut self, time: Duration) -> Slice {
        // What it said before it was stopped.
        while self.lines.try_recv().is_ok() {}
        self.signal(Signal::CONT);
        let end = Instant::now() + time;
        let (mut first, mut last) = (None, None);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let line = self.lines.recv_timeout(left).unwrap_or_default();
            if let Some((hashes, seconds)) = progress(&line) {
                let cpu_seconds = cpu_seconds(&self.pid.to_string());
                let moment = Moment { hashes, seconds, cpu_seconds };
                first.get_or_insert(moment);
                last = Some(moment);
            }
        }
        self.signal(Signal::STOP);
        let (Some(first), Some(last)) = (first, last) else {
            panic!("XMRig said nothing within {time:?}")
        };
        assert!(last.seconds > first.seconds, "XMRig said too little within {time:?}");
        Slice { first, last }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("XMRig is there");
    }

    /// What it is, in its own words.
    pub(crate) fn describe(&self) -> Value {
        json!({"version": self.version, "in_force": self.in_force.join("; ")})
    }
}

impl Drop for Xmrig {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
