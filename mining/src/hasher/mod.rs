//! The threads that search for shares, and let go of their processor between two hashes.
//!
//! Each thread is a *lane*. A lane is parked and woken by a flag that it reads before each hash and
//! before each small step of building a dataset: no lock, no allocation, nothing lost. What a lane
//! works on comes from a [`Task`], which is exchanged as a whole.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

mod tried;
mod worker;

use crate::ghostrider::Plans;
use crate::randomx::{Builder, Cache, Dataset, OutOfMemory};
use crate::work::{BadWork, Work};
use tried::Tried;
use worker::Worker;

/// What the lanes hash with.
#[derive(Debug, Clone)]
pub enum Source {
    /// RandomX without a dataset: slow.
    Light(Cache),
    /// RandomX with a dataset that the lanes build first.
    Building(Arc<Builder>),
    /// RandomX with a dataset.
    Fast(Dataset),
    /// GhostRider.
    GhostRider(Plans),
}

/// A share that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of the task that it belongs to.
    pub task: u64,
    /// The nonce.
    pub nonce: u32,
    /// The hash.
    pub hash: [u8; 32],
}

/// What a lane tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It found a share.
    Share(Share),
    /// All nonces of the task are tried.
    Exhausted {
        /// The number of the task.
        task: u64,
    },
    /// It cannot work: its scratchpad's memory cannot be had. Told once per source; it tries again
    /// from time to time.
    OutOfMemory(OutOfMemory),
    /// The work is none for what it hashes with. Each lane tells it once per work and source.
    BadWork {
        /// The number of the task.
        task: u64,
        /// Why.
        why: BadWork,
    },
}

/// What all lanes work on.
struct Task {
    number: u64,
    source: Option<Source>,
    work: Option<Work>,
    /// Which nonce comes next, over all lanes and all tasks with this work: none is tried twice.
    next_nonce: Arc<AtomicU64>,
}

struct Shared {
    task: Mutex<Arc<Task>>,
    tried: Mutex<Tried>,
    /// The number of the task in `task`; 0 ends the lanes.
    current: AtomicU64,
    lanes: Box<[Lane]>,
}

#[derive(Default)]
struct Lane {
    wanted: AtomicBool,
    parked: AtomicBool,
    /// The number of the task that it has taken over.
    task: AtomicU64,
    hashes: AtomicU64,
    /// How large its scratchpad is, in bytes.
    bytes: AtomicU64,
    /// Whether it is without a scratchpad.
    lacks: AtomicBool,
}

/// When it is dropped, however that comes about, nobody waits for this lane any more.
struct Ended(Arc<Shared>, usize);

impl Drop for Ended {
    fn drop(&mut self) {
        let lane = &self.0.lanes[self.1];
        lane.bytes.store(0, Ordering::Relaxed);
        lane.task.store(u64::MAX, Ordering::Release);
        lane.parked.store(true, Ordering::Release);
    }
}

/// The lanes. Dropping it ends them.
pub struct Hasher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Hasher {
    /// Starts `lanes` threads, all of them parked. `prepare` is called first in each, with the
    /// lane's number, and has returned in all of them when this does: for their priority, and for
    /// who they are. `events` may be of something wider.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start<E: From<Event> + Send + 'static>(
        lanes: usize,
        events: &Sender<E>,
        prepare: impl Fn(usize) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let task = Task { number: 1, source: None, work: None, next_nonce: Arc::default() };
        let shared = Arc::new(Shared {
            task: Mutex::new(Arc::new(task)),
            tried: Mutex::default(),
            current: AtomicU64::new(1),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
        });
        let mut hasher = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let (entered, entering) = channel();
        for lane in 0..lanes {
            let entered = entered.clone();
            let (shared, events, prepare) = (Arc::clone(&shared), events.clone(), prepare.clone());
            let thread = thread::Builder::new().name(format!("hash-{lane}")).spawn(move || {
                // First, so that it is dropped last.
                let _ended = Ended(Arc::clone(&shared), lane);
                prepare(lane);
                // Whoever started it waits for it.
                let _ = entered.send(());
                drop(entered);
                // Nobody listens any more: the lanes are about to be ended.
                let tell = move |event: Event| drop(events.send(event.into()));
                Worker::new(&shared, lane, &tell).run();
            })?;
            hasher.threads.push(thread);
        }
        drop(entered);
        if entering.iter().count() < lanes {
            return Err(io::Error::other("a thread ended before it began"));
        }
        Ok(hasher)
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.threads.len()
    }

    /// Gives the lanes something else to hash with, or nothing. Returns the task's number.
    pub fn set_source(&self, source: Option<Source>) -> u64 {
        self.exchange(|task| Task { source, ..task })
    }

    /// Gives the lanes other work, or none. Returns the task's number: shares of an older one are
    /// stale. Work on bytes that it had lately, with another target or after a pause, say, goes on
    /// behind the nonces that are tried: they would only give the same shares.
    pub fn set_work(&self, work: Option<Work>) -> u64 {
        self.exchange(|task| {
            let mut tried = self.shared.tried.lock().unwrap_or_else(PoisonError::into_inner);
            let next_nonce = work.as_ref().map(|work| tried.next_nonce(work.blob()));
            Task { work, next_nonce: next_nonce.unwrap_or_default(), ..task }
        })
    }

    fn exchange(&self, change: impl FnOnce(Task) -> Task) -> u64 {
        let mut task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        let number = task.number + 1;
        let old = Task {
            number,
            source: task.source.clone(),
            work: task.work.clone(),
            next_nonce: Arc::clone(&task.next_nonce),
        };
        *task = Arc::new(change(old));
        self.shared.current.store(number, Ordering::Release);
        drop(task);
        self.wake();
        number
    }

    /// Whether all lanes have let go of what came before the task of this number; parked ones do
    /// that, too.
    pub fn has_taken_over(&self, task: u64) -> bool {
        self.shared.lanes.iter().all(|lane| lane.task.load(Ordering::Acquire) >= task)
    }

    /// Lets the first `wanted` lanes run and parks the others.
    pub fn set_running(&self, wanted: usize) {
        self.set_lanes(|lane| lane < wanted);
    }

    /// Lets the lanes run for whose number it holds, and parks the others.
    pub fn set_lanes(&self, wanted: impl Fn(usize) -> bool) {
        for (number, lane) in self.shared.lanes.iter().enumerate() {
            lane.wanted.store(wanted(number), Ordering::Release);
        }
        // Those that are parked from now on, too: they may be waiting for work.
        self.wake();
    }

    /// How many lanes are parked now: those let go of their processor.
    pub fn parked(&self) -> usize {
        self.shared.lanes.iter().filter(|lane| lane.parked.load(Ordering::Acquire)).count()
    }

    /// How large the scratchpads of all lanes are, in bytes.
    pub fn scratchpad_bytes(&self) -> u64 {
        self.shared.lanes.iter().map(|lane| lane.bytes.load(Ordering::Relaxed)).sum()
    }

    /// How many lanes have ended, which none should.
    pub fn fallen(&self) -> usize {
        self.threads.iter().filter(|thread| thread.is_finished()).count()
    }

    /// Whether all lanes that are to run, and there are some, are without a scratchpad.
    pub fn is_lacking(&self) -> bool {
        let wanted = |lane: &&Lane| lane.wanted.load(Ordering::Acquire);
        let mut wanted = self.shared.lanes.iter().filter(wanted).peekable();
        wanted.peek().is_some() && wanted.all(|lane| lane.lacks.load(Ordering::Acquire))
    }

    /// Whether this lane is to run.
    #[cfg(test)]
    pub(crate) fn wants(&self, lane: usize) -> bool {
        self.shared.lanes[lane].wanted.load(Ordering::Acquire)
    }

    /// How many hashes all lanes have computed since they were started.
    pub fn hashes(&self) -> u64 {
        self.shared.lanes.iter().map(|lane| lane.hashes.load(Ordering::Relaxed)).sum()
    }

    fn wake(&self) {
        for thread in &self.threads {
            thread.thread().unpark();
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.current.store(0, Ordering::Release);
        self.wake();
        for thread in self.threads.drain(..) {
            // A lane that panicked has nothing more to end.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomx::Mode;
    use crate::target::Target;
    use crate::work::{MONERO_NONCE_AT, NonceRange};

    /// Nobody survives telling it.
    struct Fault;

    impl From<Event> for Fault {
        fn from(_: Event) -> Self {
            panic!("a fault")
        }
    }

    #[test]
    fn nobody_waits_for_a_lane_that_fell() {
        let (sender, _events) = channel::<Fault>();
        let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
        let cache = Cache::new(Mode::fastest(), b"key").unwrap();
        hasher.set_source(Some(Source::Light(cache)));
        let (bytes, target) = (vec![7; 76], Target::of_difficulty(1));
        let work = Work::new(bytes, MONERO_NONCE_AT, NonceRange::ALL, target).unwrap();
        hasher.set_work(Some(work));
        hasher.set_running(1);
        while hasher.fallen() == 0 {
            thread::yield_now();
        }
        assert_eq!((hasher.fallen(), hasher.parked()), (1, 2));
        let task = hasher.set_source(None);
        while !hasher.has_taken_over(task) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_lane_that_does_not_begin_is_an_error() {
        let (sender, _events) = channel::<Event>();
        let begin = |lane| assert_ne!(lane, 1, "a fault");
        let error = Hasher::start(2, &sender, begin).err().unwrap();
        assert_eq!(error.to_string(), "a thread ended before it began");
    }
}
