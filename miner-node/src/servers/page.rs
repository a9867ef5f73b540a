//! What a call leaves behind: its answer as standard output, how far it is as standard error, both
//! as a program of the sandbox leaves them.

use std::io;

use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::sandbox::Places;

/// The two files, being written.
pub(super) struct Page {
    output: File,
    log: File,
    room: u64,
    told_pct: Option<u64>,
}

impl Page {
    /// Makes both; `most` is the size of the answer in bytes.
    pub(super) async fn create(places: &Places, most: u64) -> io::Result<Self> {
        Ok(Self {
            output: File::create(&places.stdout).await?,
            log: File::create(&places.stderr).await?,
            room: most,
            told_pct: None,
        })
    }

    /// Adds to the answer; `false` where there is no room for all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let kept = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        self.output.write_all(&bytes[..kept]).await?;
        // Whoever follows the log reads it from the disk.
        self.output.flush().await?;
        self.room -= kept as u64;
        Ok(kept == bytes.len())
    }

    /// Notes that `done` of at most `most` is done, where that is news.
    pub(super) async fn progress(&mut self, done: u64, most: u64, what: &str) -> io::Result<()> {
        // What is not over is not complete, whatever the sum says.
        let pct = (done.saturating_mul(100) / most.max(1)).min(99);
        if self.told_pct == Some(pct) {
            return Ok(());
        }
        self.told_pct = Some(pct);
        self.log.write_all(format!("progress: {pct}% {done} {what}\n").as_bytes()).await?;
        self.log.flush().await
    }

    /// Has both on the disk.
    pub(super) async fn close(self) -> io::Result<()> {
        self.output.sync_all().await?;
        self.log.sync_all().await
    }
}
