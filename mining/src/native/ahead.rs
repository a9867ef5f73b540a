//! The dataset of the seed that comes next, built by one thread at a low share while the lanes hash:
//! the change of the seed then costs nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::host;
use crate::randomx::Builder;

/// For how many times the length of a step it rests after one: a quarter of a processor.
const REST: u32 = 3;

/// How long it waits before it looks again whether it may work.
const LOOK: Duration = Duration::from_millis(200);

/// Whether work ahead may be done, and is being done: flags, so that nobody has to wait.
#[derive(Debug, Default)]
pub(super) struct Leave {
    given: AtomicBool,
    busy: AtomicBool,
}

impl Leave {
    pub(super) fn set(&self, given: bool) {
        self.given.store(given, Ordering::Release);
    }

    /// Whether a step is being done.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }
}

/// A thread that builds. Dropping it ends it after its step.
pub(super) struct Ahead {
    builder: Arc<Builder>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    pub(super) fn start(builder: Builder, leave: &Arc<Leave>) -> io::Result<Self> {
        let builder = Arc::new(builder);
        let ended = Arc::new(AtomicBool::new(false));
        let (leave, building, end) = (Arc::clone(leave), Arc::clone(&builder), Arc::clone(&ended));
        let thread = thread::Builder::new().name("ahead".to_owned()).spawn(move || {
            host::yield_to_all();
            while !end.load(Ordering::Acquire) {
                if !leave.given.load(Ordering::Acquire) {
                    thread::park_timeout(LOOK);
                    continue;
                }
                leave.busy.store(true, Ordering::Release);
                let begun = Instant::now();
                let more = building.step();
                leave.busy.store(false, Ordering::Release);
                if !more {
                    return;
                }
                thread::park_timeout(begun.elapsed() * REST);
            }
        })?;
        Ok(Self { builder, ended, thread: Some(thread) })
    }

    /// What it builds.
    pub(super) fn builder(&self) -> &Arc<Builder> {
        &self.builder
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panicked has nothing more to end.
            let _ = thread.join();
        }
    }
}
