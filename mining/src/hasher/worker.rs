//! What one lane does: hashes, one after the other or in batches, and looks between them whether it
//! may go on.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use ::ghostrider::{Header, MAX_BATCH};

use super::{Event, Lane, Share, Shared, Source, Task};
use crate::ghostrider;
use crate::randomx::{self, OutOfMemory};
use crate::work::BadWork;

/// How long a lane with nothing to do waits before it looks again by itself: only for the last
/// steps of others, everything else wakes it.
const LAST_STEPS: Duration = Duration::from_millis(1);

/// When a lane without a scratchpad asks for one again.
const MEMORY_AGAIN: Duration = Duration::from_secs(10);

/// One lane's own state.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    tell: &'a dyn Fn(Event),
    task: Arc<Task>,
    number: usize,
    machine: Option<Machine>,
    /// The bytes to hash, with room for the nonce.
    blob: Vec<u8>,
    /// The nonce of the hash that is begun.
    begun: Option<u32>,
    /// The numbers of the nonces of the batch that is begun.
    batch: Range<u64>,
    /// Whether it is still to be told when this work comes to its end, or that it is none.
    untold: bool,
    /// Whether it told that there is no scratchpad for this source.
    complained: bool,
}

/// What a lane hashes with.
enum Machine {
    RandomX(randomx::Machine),
    GhostRider(ghostrider::Machine),
}

impl Machine {
    fn scratchpad_bytes(&self) -> u64 {
        match self {
            Self::RandomX(_) => randomx::Machine::SCRATCHPAD_BYTES,
            Self::GhostRider(machine) => machine.scratchpad_bytes(),
        }
    }
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, number: usize, tell: &'a dyn Fn(Event)) -> Self {
        // None that was ever set: whatever there is already is taken over like all that comes.
        let task = Task { number: 0, source: None, work: None, next_nonce: Arc::default() };
        Self {
            shared,
            lane: &shared.lanes[number],
            tell,
            task: Arc::new(task),
            number,
            machine: None,
            blob: Vec::new(),
            begun: None,
            batch: 0..0,
            untold: false,
            complained: false,
        }
    }

    pub(super) fn run(&mut self) {
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
            self.equip_with(None);
            self.complained = false;
            self.untold = true;
            self.lane.lacks.store(false, Ordering::Release);
        }
        // The hash that is begun belongs to the task before; it is replaced by the next one.
        self.begun = None;
        if let Some(Machine::RandomX(machine)) = &mut self.machine {
            machine.forget();
        }
        // A batch that was given up is hashed again where only the source changed.
        if !Arc::ptr_eq(&task.next_nonce, &self.task.next_nonce) {
            self.batch = 0..0;
            self.untold = true;
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
        match &self.machine {
            Some(Machine::RandomX(_)) => return self.hash(),
            Some(Machine::GhostRider(_)) => return self.hash_batch(),
            None => {}
        }
        match &self.task.source {
            None => false,
            Some(Source::Building(builder)) if builder.step() => true,
            Some(Source::Building(builder)) => match builder.finish() {
                Some(dataset) => self.equip(randomx::Machine::fast(&dataset)),
                None => false,
            },
            Some(Source::Light(cache)) => self.equip(randomx::Machine::light(cache)),
            Some(Source::Fast(dataset)) => self.equip(randomx::Machine::fast(dataset)),
            Some(Source::GhostRider(plans)) => {
                let machine = ghostrider::Machine::new(plans, self.number);
                self.equip_with(Some(Machine::GhostRider(machine)));
                true
            }
        }
    }

    fn equip_with(&mut self, machine: Option<Machine>) {
        self.machine = machine;
        let bytes = self.machine.as_ref().map_or(0, Machine::scratchpad_bytes);
        self.lane.bytes.store(bytes, Ordering::Relaxed);
    }

    fn equip(&mut self, machine: Result<randomx::Machine, OutOfMemory>) -> bool {
        match machine {
            Ok(machine) => {
                self.lane.lacks.store(false, Ordering::Release);
                self.equip_with(Some(Machine::RandomX(machine)));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    (self.tell)(Event::OutOfMemory(error));
                }
                // Another source, or a little memory, may come meanwhile.
                self.lane.lacks.store(true, Ordering::Release);
                self.lane.parked.store(true, Ordering::Release);
                thread::park_timeout(MEMORY_AGAIN);
                self.lane.parked.store(false, Ordering::Release);
            }
        }
        true
    }

    fn hash(&mut self) -> bool {
        let (Some(Machine::RandomX(machine)), Some(work)) = (&mut self.machine, &self.task.work)
        else {
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
        if nonce.is_none() && std::mem::take(&mut self.untold) {
            (self.tell)(Event::Exhausted { task });
        }
        nonce.is_some()
    }

    /// As many hashes as are computed side by side, or a step towards them. Parked, a batch waits
    /// where it is; with another task it is given up.
    fn hash_batch(&mut self) -> bool {
        let Some(Machine::GhostRider(machine)) = &mut self.machine else { return false };
        if machine.prepare() {
            self.lane.bytes.store(machine.scratchpad_bytes(), Ordering::Relaxed);
            return true;
        }
        let Some(work) = &self.task.work else { return false };
        let task = self.task.number;
        let Ok(header) = Header::try_from(work.blob()) else {
            // Once: whatever wakes this lane brings it here again.
            if std::mem::take(&mut self.untold) {
                let why = BadWork::NoHeader(work.blob().len());
                (self.tell)(Event::BadWork { task, why });
            }
            return false;
        };
        if self.batch.is_empty() {
            let first = self.task.next_nonce.fetch_add(MAX_BATCH as u64, Ordering::Relaxed);
            self.batch = first..first + MAX_BATCH as u64;
        }
        let nonces = || self.batch.clone().filter_map(|index| work.nonces.get(index));
        let mut headers = [header; MAX_BATCH];
        for (header, nonce) in headers.iter_mut().zip(nonces()) {
            work.put_nonce(header, nonce);
        }
        let headers = headers.get(..nonces().count()).unwrap_or_default();
        if headers.is_empty() {
            if std::mem::take(&mut self.untold) {
                (self.tell)(Event::Exhausted { task });
            }
            return false;
        }
        let (shared, lane) = (self.shared, self.lane);
        let mut hashes = [[0; 32]; MAX_BATCH];
        let hashes = machine.hash(headers, &mut hashes, || lane.may_go_on(shared, task));
        // Nothing of a batch that was given up counts: it begins anew, or its work was replaced.
        for (nonce, hash) in nonces().zip(hashes.unwrap_or_default()) {
            self.lane.hashes.fetch_add(1, Ordering::Relaxed);
            if work.target.is_met_by(hash) {
                (self.tell)(Event::Share(Share { task, nonce, hash: *hash }));
            }
        }
        if hashes.is_some() {
            self.batch = 0..0;
        }
        true
    }
}

impl Lane {
    /// Whether the task still holds. Waits, parked, as long as the lane is not wanted.
    fn may_go_on(&self, shared: &Shared, task: u64) -> bool {
        let holds = || shared.current.load(Ordering::Acquire) == task;
        if !self.wanted.load(Ordering::Acquire) {
            self.parked.store(true, Ordering::Release);
            while holds() && !self.wanted.load(Ordering::Acquire) {
                thread::park();
            }
            self.parked.store(false, Ordering::Release);
        }
        holds()
    }
}

fn same_source(one: Option<&Source>, other: Option<&Source>) -> bool {
    match (one, other) {
        (Some(Source::Light(one)), Some(Source::Light(other))) => one.key() == other.key(),
        (Some(Source::Building(one)), Some(Source::Building(other))) => Arc::ptr_eq(one, other),
        (Some(Source::Fast(one)), Some(Source::Fast(other))) => one.key() == other.key(),
        (Some(Source::GhostRider(one)), Some(Source::GhostRider(other))) => one.are(other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

    use ::ghostrider::Plan;
    use ::ghostrider::cryptonight::Kernel;

    use super::*;
    use crate::ghostrider::Plans;
    use crate::randomx::{Cache, Mode};
    use crate::target::Target;
    use crate::work::{NonceRange, Work};

    /// Between its start and its first look a thread may be held up for long.
    #[test]
    fn a_lane_that_begins_late_takes_over_what_there_is() {
        let nonces = NonceRange::ALL;
        let bad = Work::new(vec![0; 76], 39, nonces, Target::of_difficulty(1)).unwrap();
        let plans = Plans::fixed(1, Plan::new(Kernel::PORTABLE));
        let task = Task {
            number: 3,
            source: Some(Source::GhostRider(plans)),
            work: Some(bad),
            next_nonce: Arc::default(),
        };
        let shared = Shared {
            task: Mutex::new(Arc::new(task)),
            tried: Mutex::default(),
            current: AtomicU64::new(3),
            lanes: Box::new([Lane::default()]),
        };
        shared.lanes[0].wanted.store(true, Ordering::Release);
        let (sender, told) = std::sync::mpsc::channel();
        let tell = |event| {
            // It ends where it would wait for the next task.
            shared.current.store(0, Ordering::Release);
            thread::current().unpark();
            sender.send(event).unwrap();
        };
        Worker::new(&shared, 0, &tell).run();
        let bad = Event::BadWork { task: 3, why: BadWork::NoHeader(76) };
        assert_eq!((told.try_recv(), told.try_recv().is_err()), (Ok(bad), true));
        assert_eq!(shared.lanes[0].task.load(Ordering::Acquire), 3);
    }

    #[test]
    fn a_lane_without_a_scratchpad_is_counted_out_and_asks_again() {
        let task = Task { number: 1, source: None, work: None, next_nonce: Arc::default() };
        let shared = Shared {
            task: Mutex::new(Arc::new(task)),
            tried: Mutex::default(),
            current: AtomicU64::new(1),
            lanes: Box::new([Lane::default()]),
        };
        let lane = &shared.lanes[0];
        let machine = || {
            let cache = Cache::new(Mode::fastest(), b"key").unwrap();
            randomx::Machine::light(&cache)
        };
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let complaints = Cell::new(0);
                let tell = |_| complaints.set(complaints.get() + 1);
                let mut worker = Worker::new(&shared, 0, &tell);
                let nothing = || Err(OutOfMemory::of_dataset(Mode::fastest()));
                assert!(worker.equip(nothing()) && worker.machine.is_none());
                assert!(!lane.parked.load(Ordering::Acquire));
                // This once it does not wait.
                thread::current().unpark();
                assert!(worker.equip(nothing()) && lane.lacks.load(Ordering::Acquire));
                assert!(worker.equip(machine()) && worker.machine.is_some());
                complaints.get()
            });
            while !lane.parked.load(Ordering::Acquire) {
                thread::yield_now();
            }
            assert!(lane.lacks.load(Ordering::Acquire));
            worker.thread().unpark();
            assert_eq!(worker.join().unwrap(), 1);
        });
        assert_eq!(lane.bytes.load(Ordering::Relaxed), 2 << 20);
        assert!(!lane.lacks.load(Ordering::Acquire));
    }
}
