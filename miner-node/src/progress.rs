//! Telling the coordinator about a running job: its log as it grows, how far it is, and hearing
//! whether it shall go on.
//!
//! A program states its progress by a line `progress: 40%` on standard error, with a note behind it
//! if it likes. All of this is best effort: what fails is dropped, and the job goes on.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::miner::{LogChunk, LogStream, Progress};
use serde_json::Map;
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
