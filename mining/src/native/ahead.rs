//! The dataset of the seed that comes next, built by one thread at a low share while the lanes hash:
//! the change of the seed then costs nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Common;
use crate::host;
use crate::randomx::Builder;

/// For how many times the length of a step it rests after one: a quarter of a processor.
const REST: u32 = 3;

/// How long it waits before it looks again whether it may work.
const LOOK: Duration = Duration::from_millis(200);

/// Whether work beside the lanes may be done, and is being done: flags, so that nobody has to wait.
#[derive(Debug, Default)]
pub(super) struct Leave {
    given: AtomicBool,
    stepping: AtomicBool,
    forging: AtomicBool,
}

impl Leave {
    pub(super) fn set(&self, given: bool) {
        self.given.store(given, Ordering::SeqCst);
    }

    /// That the forge begins or ends.
    pub(super) fn forging(&self, is: bool) {
        self.forging.store(is, Ordering::SeqCst);
    }

    /// How many threads beside the lanes are at work.
    pub(super) fn busy(&self) -> usize {
        let busy = |flag: &AtomicBool| usize::from(flag.load(Ordering::SeqCst));
        busy(&self.stepping) + busy(&self.forging)
    }

    /// Does it where it may be done; `None` where not. In this order: who takes the leave away and then sees nobody at
    /// work can rely on it.
    fn within(&self, step: impl FnOnce() -> Option<bool>) -> Option<bool> {
        self.stepping.store(true, Ordering::SeqCst);
        let done = self.given.load(Ordering::SeqCst).then(step).flatten();
        self.stepping.store(false, Ordering::SeqCst);
        done
    }
}

/// A thread that builds. Dropping it ends it after its step.
pub(super) struct Ahead {
    builder: Arc<Builder>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Begins to build, on the processors that are allowed, whenever some are.
    pub(super) fn start(builder: Builder, common: &Arc<Common>) -> io::Result<Self> {
        let builder = Arc::new(builder);
        let ended = Arc::new(AtomicBool::new(false));
        let (common, building, end) =
            (Arc::clone(common), Arc::clone(&builder), Arc::clone(&ended));
        let thread = thread::Builder::new().name("ahead".to_owned()).spawn(move || {
            host::yield_to_all();
            while !end.load(Ordering::Acquire) {
                let begun = Instant::now();
                // Looked up each time: they change as jobs come and go.
                let step = || {
                    host::pin(&common.processors()).ok()?;
                    Some(building.step())
                };
                match common.leave.within(step) {
                    Some(true) => thread::park_timeout(begun.elapsed() * REST),
                    Some(false) => return,
                    None => thread::park_timeout(LOOK),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_leave_away_sees_who_is_still_at_it() {
        let leave = Leave::default();
        assert_eq!(leave.within(|| Some(true)), None);
        leave.set(true);
        let within = leave.within(|| {
            // Taken away in the middle of a step.
            leave.set(false);
            Some(leave.busy() == 1)
        });
        assert_eq!(within, Some(true));
        assert_eq!(leave.busy(), 0);
        assert_eq!(leave.within(|| Some(true)), None);
        leave.forging(true);
        assert_eq!(leave.busy(), 1);
    }
}
