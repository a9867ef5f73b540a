//! How much a run has written, looked at often enough that it does not come far beyond its limit.
//!
//! To count everything is expensive, to ask for the free space of the file system is not: nobody
//! can have written more than is missing there. So the space is asked for at each look, and
//! everything is counted when it could be too much, and now and then.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

use super::super::measure::{deleted, written};
use super::super::{Ending, Limits, Places};

/// Pause between two counts; one that takes long makes the next one later.
const PAUSE: Duration = Duration::from_secs(1);

/// What is missing in the file system without anybody having written much, in bytes.
const NOISE: u64 = 16 << 20;

/// What is known of the size of the work directory.
pub(in crate::sandbox) struct Disk {
    directory: PathBuf,
    /// Who else wants to know.
    written_bytes: Arc<AtomicU64>,
    /// When everything was counted last, and what else is to be known of that moment.
    counted: Option<Counted>,
}

#[derive(Clone, Copy)]
struct Counted {
    bytes: u64,
    free: u64,
    next: Instant,
}

impl Disk {
    pub(in crate::sandbox) fn new(places: &Places) -> Self {
        let written_bytes = Arc::clone(&places.written_bytes);
        Self { directory: places.work.clone(), written_bytes, counted: None }
    }

    /// The ending that is due where there is more than allowed, as far as it is time to look, or
    /// too little is left; `first` is the process whose descendants may hold files that have no
    /// name any more.
    pub(in crate::sandbox) async fn look(
        &mut self,
        limits: &Limits,
        first: Option<Pid>,
    ) -> Option<Ending> {
        let most = limits.work_bytes;
        let begun = Instant::now();
        let Free { all: free, usable } = self.free();
        if let Some(counted) = self.counted {
            let missing = counted.free.saturating_sub(free);
            let could_be_too_much = missing > NOISE && counted.bytes.saturating_add(missing) > most;
            let is_due = begun >= counted.next || usable < limits.least_free_bytes;
            if !is_due && !could_be_too_much {
                return None;
            }
        }
        let bytes = self.bytes(limits, first).await;
        // At most a tenth of the time goes into counting.
        let next = Instant::now() + PAUSE.max(begun.elapsed() * 9);
        self.counted = Some(Counted { bytes, free, next });
        self.written_bytes.store(bytes, Ordering::Relaxed);
        if bytes > most {
            return Some(Ending::OutputLimit);
        }
        (usable < limits.least_free_bytes).then_some(Ending::DiskFull)
    }

    /// Everything that is there now, counted up to what is allowed. Dropping it ends the count.
    pub(super) async fn bytes(&self, limits: &Limits, first: Option<Pid>) -> u64 {
        let (directory, most) = (self.directory.clone(), limits.work_bytes);
        let largest = limits.output_bytes;
        let stop = Stop::default();
        let stopped = Arc::clone(&stop.0);
        let count = move || {
            let named = written(&directory, most, &stopped);
            if named > most {
                return named;
            }
            named.saturating_add(first.map_or(0, |first| deleted(first, &directory, largest)))
        };
        tokio::task::spawn_blocking(count).await.unwrap_or(u64::MAX)
    }

    fn free(&self) -> Free {
        let Ok(found) = rustix::fs::statvfs(&self.directory) else { return Free::default() };
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Free { all: bytes(found.f_bfree), usable: bytes(found.f_bavail) }
    }
}

/// The free space of a file system, in bytes.
#[derive(Default)]
struct Free {
    all: u64,
    /// What is not set apart for its administrator.
    usable: u64,
}

/// Set when it is dropped: nobody waits for the count any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
