//! Telling the coordinator about a running job: its log as it grows, how far it is, and hearing
//! whether it shall go on.
//!
//! A program states its progress by a line `progress: 40%` on standard error, with a note behind it
//! if it likes, and numbers about its work by lines `metric: NAME=NUMBER`. All of this is best effort:
//! what fails is dropped, and the job goes on.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ErrorCode;
use protocol::miner::{LogChunk, LogStream, Progress};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{CallError, jittered};
use crate::leases::{Held, StopReason};
use crate::node::Node;
use crate::output::printable;
use crate::workdir::JobDir;

/// Pause between two looks at the log.
const PAUSE: Duration = Duration::from_secs(2);

/// Longest time without a word about progress.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// The most that is read at once, in bytes: replaced bytes may triple it, and 64 KiB is the limit.
const PIECE: usize = 20 << 10;

/// The most of a stream that is sent, in bytes.
const MOST: u64 = 1 << 20;

/// The longest note on progress, in characters.
const LONGEST_NOTE: usize = 100;

/// Metrics are looked for in so much of the end of standard error, in bytes.
const STATED_WITHIN: u64 = 64 << 10;

/// The most metrics that a program may state.
const MOST_METRICS: usize = 16;

/// The longest name of a metric, in bytes.
const LONGEST_NAME: usize = 40;

/// How long the rest of the log may take once the program has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Follows the job in `dir` until `ended`, then sends the rest of its log.
pub async fn follow(node: &Node, held: &Held, dir: &JobDir, ended: &CancellationToken) {
    let mut follower = Follower::new(node, held, dir);
    loop {
        let pause = jittered(PAUSE, 10, node.random_u32());
        tokio::select! {
            () = sleep(pause) => {}
            () = ended.cancelled() => break,
        }
        tokio::select! {
            () = follower.tell() => {}
            () = ended.cancelled() => break,
        }
    }
    // Nobody misses the log of a job that is not ours any more.
    if held.stop_reason() != Some(StopReason::LeaseLost) {
        let _ = tokio::time::timeout(LAST_WORDS, follower.logs(true)).await;
    }
}

struct Follower<'a> {
    node: &'a Node,
    held: &'a Held,
    streams: [Stream; 2],
    seq: i64,
    full: bool,
    stated: Option<Stated>,
    told: Option<(Instant, Option<Stated>)>,
    started: Instant,
}

impl<'a> Follower<'a> {
    fn new(node: &'a Node, held: &'a Held, dir: &JobDir) -> Self {
        let streams = [
            Stream::new(LogStream::Stdout, dir.out_txt()),
            Stream::new(LogStream::Stderr, dir.stderr_log()),
        ];
        Self {
            node,
            held,
            streams,
            seq: 0,
            full: false,
            stated: None,
            told: None,
            started: Instant::now(),
        }
    }

    async fn tell(&mut self) {
        self.logs(false).await;
        let due = self
            .told
            .as_ref()
            .is_none_or(|(when, told)| *told != self.stated || when.elapsed() >= LONGEST_SILENCE);
        if due {
            self.progress().await;
        }
    }

    async fn progress(&mut self) {
        self.told = Some((Instant::now(), self.stated.clone()));
        let Stated { pct, note } = self.stated.clone().unwrap_or_default();
        let running = || format!("running for {} s", self.started.elapsed().as_secs());
        let body = Progress {
            lease_token: Some(self.held.token),
            pct,
            note: Some(note.unwrap_or_else(running)),
            metrics: Map::new(),
        };
        match self.node.coordinator.progress(self.held.id, &body).await {
            Ok(reply) if !reply.go_on => self.held.stop(StopReason::Canceled),
            Ok(_) => {}
            Err(error) => self.heed(&error),
        }
    }

    /// Sends what is new in the log; `last`: also a last half character.
    async fn logs(&mut self, last: bool) {
        for index in 0..self.streams.len() {
            while let Some(text) = self.streams[index].read(last) {
                if let Some(stated) = stated_progress(&text) {
                    self.stated = Some(stated);
                }
                if !self.full {
                    self.send(index, text).await;
                }
            }
        }
    }

    async fn send(&mut self, index: usize, text: String) {
        let stream = self.streams[index].name;
        let chunk = LogChunk { lease_token: Some(self.held.token), stream, seq: self.seq, text };
        self.seq += 1;
        match self.node.coordinator.logs(self.held.id, &chunk).await {
            Ok(reply) => self.full = !reply.accepted,
            Err(error) => self.heed(&error),
        }
    }

    fn heed(&self, error: &CallError) {
        tracing::debug!(job_id = %self.held.id, "progress or log not delivered: {error}");
        if error.code() == Some(ErrorCode::LeaseLost) {
            self.held.stop(StopReason::LeaseLost);
        }
    }
}

/// One stream of the log, read as it grows.
struct Stream {
    name: LogStream,
    path: PathBuf,
    offset: u64,
    binary: bool,
}

impl Stream {
    const fn new(name: LogStream, path: PathBuf) -> Self {
        Self { name, path, offset: 0, binary: false }
    }

    /// The next piece of text, if there is one.
    fn read(&mut self, last: bool) -> Option<String> {
        if self.binary || self.offset >= MOST {
            return None;
        }
        let mut bytes = self.next_bytes().ok()?;
        // A result that is no text has no place in a log.
        if bytes.contains(&0) {
            self.binary = true;
            return None;
        }
        if !last {
            bytes.truncate(whole_characters(&bytes));
        }
        self.offset += bytes.len() as u64;
        (!bytes.is_empty()).then(|| printable(&bytes))
    }

    fn next_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(PIECE as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The length without a last character of which the end is still to come.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// How far a program says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stated {
    pct: Option<u8>,
    note: Option<String>,
}

/// The last `progress: N%` of a text, with the note behind it.
fn stated_progress(text: &str) -> Option<Stated> {
    let stated = |line: &str| {
        let rest = line.trim().strip_prefix("progress:")?.trim_start();
        let (number, note) = rest.split_once('%')?;
        let pct = number.parse::<u8>().ok().filter(|pct| *pct <= 100)?;
        let note: String = note.trim().chars().take(LONGEST_NOTE).collect();
        Some(Stated { pct: Some(pct), note: (!note.is_empty()).then_some(note) })
    };
    text.lines().rev().find_map(stated)
}

/// The numbers that a program stated on standard error, by lines such as `metric: tokens=200`; of
/// one name the last. They are evidence, and few.
pub fn stated_metrics(stderr: &Path) -> Map<String, Value> {
    let text = crate::output::tail(stderr, STATED_WITHIN);
    let mut metrics = Map::new();
    for (name, value) in text.lines().filter_map(stated_metric) {
        if metrics.len() < MOST_METRICS || metrics.contains_key(name) {
            metrics.insert(name.to_owned(), value);
        }
    }
    metrics
}

fn stated_metric(line: &str) -> Option<(&str, Value)> {
    let (name, value) = line.trim().strip_prefix("metric:")?.trim_start().split_once('=')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        return None;
    }
    let value: Value = match value.parse::<i64>() {
        Ok(whole) => whole.into(),
        Err(_) => value.parse::<f64>().ok().filter(|value| value.is_finite())?.into(),
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_the_program_says_last() {
        let stated = |pct, note: Option<&str>| {
            Some(Stated { pct: Some(pct), note: note.map(str::to_owned) })
        };
        let half = "a\nprogress: 10%\nprogress: 40% half\nb";
        assert_eq!(stated_progress(half), stated(40, Some("half")));
        assert_eq!(stated_progress("progress:7%"), stated(7, None));
        assert_eq!(stated_progress("progress: 101%\nprogress 10%\n10%"), None);
    }

    #[test]
    fn numbers_that_a_program_states() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let text = "metric: tokens=1\nmetric: tokens=200\nmetric:speed=1.5\n metric: a b=1\n\
                    metric: big=NaN\nmetric: x=inf\nmetric: =1\nmetric: tokens\n";
        std::fs::write(&path, text).unwrap();
        let wanted = serde_json::json!({"tokens": 200, "speed": 1.5});
        assert_eq!(Value::Object(stated_metrics(&path)), wanted);
        let many: String = (0..100).map(|n| format!("metric: m{n}={n}\n")).collect();
        std::fs::write(&path, many + "metric: m3=7\n").unwrap();
        let stated = stated_metrics(&path);
        assert_eq!((stated.len(), &stated["m3"]), (MOST_METRICS, &Value::from(7)));
        assert!(stated_metrics(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn a_growing_file_is_read_once_and_in_whole_characters() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut stream = Stream::new(LogStream::Stdout, path.clone());
        assert_eq!(stream.read(false), None);
        std::fs::write(&path, b"a\xc3").unwrap();
        assert_eq!(stream.read(false).as_deref(), Some("a"));
        assert_eq!(stream.read(false), None);
        std::fs::write(&path, b"a\xc3\xa9b\xc3").unwrap();
        assert_eq!(stream.read(false).as_deref(), Some("éb"));
        assert_eq!(stream.read(true).as_deref(), Some("\u{fffd}"));
        assert_eq!(stream.read(true), None);
    }

    #[test]
    fn binary_output_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, b"\x1f\x8b\0\0").unwrap();
        assert_eq!(Stream::new(LogStream::Stdout, path).read(true), None);
    }
}
