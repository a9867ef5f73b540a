//! The threads that search for shares, and let go of their processor between two hashes.
//!
//! Each thread is a *lane*. A lane is parked and woken by a flag that it reads before each hash and
//! before each small step of building a dataset: no lock, no allocation, nothing lost. What a lane
//! works on comes from a [`Task`], which is exchanged as a whole.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::randomx::{Builder, Cache, Dataset, Machine, OutOfMemory};
use crate::work::Work;

/// How long a lane with nothing to do waits before it looks again by itself: only for the last
/// steps of others, everything else wakes it.
const LAST_STEPS: Duration = Duration::from_millis(1);

/// What the lanes hash with.
#[derive(Debug, Clone)]
pub enum Source {
    /// Without a dataset: slow.
    Light(Cache),
    /// A dataset that the lanes build first.
    Building(Arc<Builder>),
    /// With a dataset.
    Fast(Dataset),
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
    /// It cannot work: its scratchpad's memory cannot be had.
    OutOfMemory(OutOfMemory),
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
}

/// The lanes. Dropping it ends them.
pub struct Hasher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Hasher {
    /// Starts `lanes` threads, all of them parked. `prepare` is called first in each, with the
    /// lane's number: for its priority and processor. `events` may be of something wider.
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
            current: AtomicU64::new(1),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
        });
        let mut hasher = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for lane in 0..lanes {
            let (shared, events, prepare) = (Arc::clone(&shared), events.clone(), prepare.clone());
            let thread = thread::Builder::new().name(format!("hash-{lane}")).spawn(move || {
                prepare(lane);
                // Nobody listens any more: the lanes are about to be ended.
                let tell = move |event: Event| drop(events.send(event.into()));
                Worker::new(&shared, lane, &tell).run();
            })?;
            hasher.threads.push(thread);
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
    /// stale.
    pub fn set_work(&self, work: Option<Work>) -> u64 {
        self.exchange(|task| Task { work, next_nonce: Arc::default(), ..task })
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

/// One lane's own state.
struct Worker<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    tell: &'a dyn Fn(Event),
    task: Arc<Task>,
    machine: Option<Machine>,
    /// The bytes to hash, with room for the nonce.
    blob: Vec<u8>,
    /// The nonce of the hash that is begun.
    begun: Option<u32>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, lane: usize, tell: &'a dyn Fn(Event)) -> Self {
        let task = Arc::clone(&shared.task.lock().unwrap_or_else(PoisonError::into_inner));
        let lane = &shared.lanes[lane];
        Self { shared, lane, tell, task, machine: None, blob: Vec::new(), begun: None }
    }

    fn run(&mut self) {
        loop {
            let current = self.shared.current.load(Ordering::Acquire);
            if current == 0 {
                return;
            }
            if !self.lane.wanted.load(Ordering::Acquire) {
                self.park();
            } else if current != self.task.number {
                self.take_over();
            } else if !self.advance() {
                self.idle();
            }
        }
    }

    /// Lets go of the processor until it is wanted again.
    fn park(&mut self) {
        self.lane.parked.store(true, Ordering::Release);
        while !self.lane.wanted.load(Ordering::Acquire) {
            match self.shared.current.load(Ordering::Acquire) {
                0 => break,
                current if current == self.task.number => thread::park(),
                // What it holds may be what somebody wants to have back.
                _ => self.take_over(),
            }
        }
        self.lane.parked.store(false, Ordering::Release);
    }

    /// Waits for another task.
    fn idle(&self) {
        match &self.task.source {
            Some(Source::Building(_)) if self.machine.is_none() => thread::park_timeout(LAST_STEPS),
            _ => thread::park(),
        }
    }

    fn take_over(&mut self) {
        let task = Arc::clone(&self.shared.task.lock().unwrap_or_else(PoisonError::into_inner));
        if !same_source(task.source.as_ref(), self.task.source.as_ref()) {
            self.machine = None;
        }
        // The hash that is begun belongs to the task before; it is replaced by the next one.
        self.begun = None;
        if let Some(machine) = &mut self.machine {
            machine.forget();
        }
        self.blob.clear();
        self.blob.extend_from_slice(task.work.as_ref().map_or(&[], |work| work.blob()));
        let number = task.number;
        self.task = task;
        // Last: from here on this lane holds nothing of the tasks before.
        self.lane.task.store(number, Ordering::Release);
    }

    /// One hash or one step; `false` where there is nothing to do.
    fn advance(&mut self) -> bool {
        if self.machine.is_some() {
            return self.hash();
        }
        match &self.task.source {
            None => false,
            Some(Source::Building(builder)) if builder.step() => true,
            Some(Source::Building(builder)) => match builder.finish() {
                Some(dataset) => self.equip(Machine::fast(&dataset)),
                None => false,
            },
            Some(Source::Light(cache)) => self.equip(Machine::light(cache)),
            Some(Source::Fast(dataset)) => self.equip(Machine::fast(dataset)),
        }
    }

    fn equip(&mut self, machine: Result<Machine, OutOfMemory>) -> bool {
        match machine {
            Ok(machine) => self.machine = Some(machine),
            Err(error) => {
                (self.tell)(Event::OutOfMemory(error));
                // Until somebody gives another source.
                thread::park();
            }
        }
        true
    }

    fn hash(&mut self) -> bool {
        let (Some(machine), Some(work)) = (&mut self.machine, &self.task.work) else {
            return false;
        };
        let index = self.task.next_nonce.fetch_add(1, Ordering::Relaxed);
        let nonce = work.nonces.get(index);
        let hash = match nonce {
            Some(nonce) => {
                work.put_nonce(&mut self.blob, nonce);
                machine.feed(&self.blob)
            }
            None => machine.finish(),
        };
        let ended = std::mem::replace(&mut self.begun, nonce);
        let task = self.task.number;
        if let (Some(nonce), Some(hash)) = (ended, hash) {
            self.lane.hashes.fetch_add(1, Ordering::Relaxed);
            if work.target.is_met_by(&hash) {
                (self.tell)(Event::Share(Share { task, nonce, hash }));
            }
        }
        if nonce.is_none() && ended.is_some() {
            (self.tell)(Event::Exhausted { task });
        }
        nonce.is_some()
    }
}

fn same_source(one: Option<&Source>, other: Option<&Source>) -> bool {
    match (one, other) {
        (Some(Source::Light(one)), Some(Source::Light(other))) => one.key() == other.key(),
        (Some(Source::Building(one)), Some(Source::Building(other))) => Arc::ptr_eq(one, other),
        (Some(Source::Fast(one)), Some(Source::Fast(other))) => one.key() == other.key(),
        _ => false,
    }
}
