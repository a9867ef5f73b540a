//! What the jobs of this node take of its memory, its processors and its disk, added up. A job
//! begins when what it asks for fits beside the others; of those that wait for room, in the order in
//! which jobs came. None is run with less than that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Pause between two looks at a disk that others fill and empty, too.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a job waits for which the disk is too small even without the others: what those leave
/// that have just ended is removed a moment later.
const HOPE: Duration = Duration::from_secs(10);

/// What a job takes, or what there is for jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Memory, in MiB.
    pub ram_mb: u64,
    /// Processor threads that are asked for. Who asks for none shares what there is with the
    /// others.
    pub threads: u64,
    /// Scratch space, in MiB.
    pub disk_mb: u64,
}

/// What jobs take, and what there is.
#[derive(Debug)]
pub struct Capacity {
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Debug)]
struct Books {
    /// What the machine has for all jobs together; of its disk nothing is known in advance.
    machine: Footprint,
    /// The jobs that were taken in, oldest first.
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    footprint: Footprint,
    /// Of its scratch space, what is used: the disk does not have that any more.
    written_bytes: Arc<AtomicU64>,
    stage: Stage,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was taken in. Whatever it waits for, it is not room.
    Taken,
    /// It waits for room.
    Waiting,
    Begun,
}

/// The place of one job in the books, until it is dropped.
#[derive(Debug)]
pub struct Booking {
    capacity: Arc<Capacity>,
    number: u64,
    written_bytes: Arc<AtomicU64>,
}

/// What does not fit now: how much is asked for, and how much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    what: &'static str,
    unit: &'static str,
    asked: u64,
    left: u64,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, asked, left } = self;
        write!(f, "{asked} {unit} of {what} are needed, {left} are left beside the jobs that run")
    }
}

impl Footprint {
    fn plus(self, other: Self) -> Self {
        Self {
            ram_mb: self.ram_mb.saturating_add(other.ram_mb),
            threads: self.threads.saturating_add(other.threads),
            disk_mb: self.disk_mb.saturating_add(other.disk_mb),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            ram_mb: self.ram_mb.saturating_sub(other.ram_mb),
            threads: self.threads.saturating_sub(other.threads),
            disk_mb: self.disk_mb.saturating_sub(other.disk_mb),
        }
    }

    /// The first thing of which `left` has too little.
    pub fn lacks(self, left: Self) -> Option<Lack> {
        [
            ("memory", "MiB", self.ram_mb, left.ram_mb),
            ("processor", "threads", self.threads, left.threads),
            ("scratch space", "MiB", self.disk_mb, left.disk_mb),
        ]
        .into_iter()
        .find(|(_, _, asked, left)| asked > left)
        .map(|(what, unit, asked, left)| Lack { what, unit, asked, left })
    }
}

impl Entry {
    /// What it still takes of what is there now.
    fn outstanding(&self) -> Footprint {
        let written_mb = self.written_bytes.load(Ordering::Relaxed) >> 20;
        let disk_mb = self.footprint.disk_mb.saturating_sub(written_mb);
        Footprint { disk_mb, ..self.footprint }
    }
}

impl Books {
    /// What is left beside those of `entries` that `count`, with so much room on the disk.
    fn left(&self, free_mb: u64, count: impl Fn(u64, &Entry) -> bool) -> Footprint {
        let counted = self.entries.iter().filter(|(number, entry)| count(**number, entry));
        let taken = counted
            .map(|(_, entry)| entry.outstanding())
            .fold(Footprint::default(), Footprint::plus);
        Footprint { disk_mb: free_mb, ..self.machine }.minus(taken)
    }

    /// What the jobs that are here have written, in MiB.
    fn written_mb(&self) -> u64 {
        let written =
            self.entries.values().map(|entry| entry.written_bytes.load(Ordering::Relaxed));
        written.fold(0, u64::saturating_add) >> 20
    }

    /// What there would be without any job.
    fn all(&self, free_mb: u64) -> Footprint {
        Footprint { disk_mb: free_mb.saturating_add(self.written_mb()), ..self.machine }
    }
}

impl Capacity {
    /// Of a machine that has so much memory and so many processor threads for jobs.
    pub fn new(ram_mb: u64, threads: u64) -> Self {
        let machine = Footprint { ram_mb, threads, disk_mb: 0 };
        let books = Mutex::new(Books { machine, entries: BTreeMap::new(), next: 0 });
        Self { books, changed: Notify::new() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's memory for all jobs together, in MiB.
    pub fn ram_mb(&self) -> u64 {
        self.books().machine.ram_mb
    }

    /// What the jobs that are here have written, in MiB.
    pub fn written_mb(&self) -> u64 {
        self.books().written_mb()
    }

    /// Enters a job that was taken in, behind those that were before.
    pub fn enter(self: &Arc<Self>, footprint: Footprint) -> Booking {
        let written_bytes = Arc::new(AtomicU64::new(0));
        let mut books = self.books();
        // Who may ask for all of it may do so although the machine has lost some since.
        let footprint = Footprint {
            ram_mb: footprint.ram_mb.min(books.machine.ram_mb),
            threads: footprint.threads.min(books.machine.threads),
            ..footprint
        };
        let number = books.next;
        books.next += 1;
        let entry =
            Entry { footprint, written_bytes: Arc::clone(&written_bytes), stage: Stage::Taken };
        books.entries.insert(number, entry);
        Booking { capacity: Arc::clone(self), number, written_bytes }
    }

    /// What is left for jobs that are not here yet, with `free_mb` on the disk.
    pub fn left(&self, free_mb: u64) -> Footprint {
        self.books().left(free_mb, |_, _| true)
    }

    /// Waits until a job that was here has gone, or a while.
    pub async fn moment(&self) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep(PAUSE) => {}
        }
    }
}

impl Booking {
    /// Where what the job has written is kept up to date, in bytes.
    pub fn written_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written_bytes)
    }

    /// Begins if the job fits beside those that have begun, and those that came before it and wait
    /// for room. One that waits for a slot does not count: it may be this job that has the slot. Nor
    /// does one for which there is not enough even without the others.
    ///
    /// # Errors
    /// What there is too little of now.
    pub fn begin(&self, free_mb: u64) -> Result<(), Lack> {
        let mut books = self.capacity.books();
        let all = books.all(free_mb);
        let left = books.left(free_mb, |number, entry| match entry.stage {
            Stage::Taken => false,
            Stage::Waiting => number < self.number && entry.footprint.lacks(all).is_none(),
            Stage::Begun => true,
        });
        let Some(entry) = books.entries.get_mut(&self.number) else { return Ok(()) };
        let lack = entry.footprint.lacks(left);
        entry.stage = if lack.is_some() { Stage::Waiting } else { Stage::Begun };
        lack.map_or(Ok(()), Err)
    }

    /// What the job would lack even without the others.
    fn lacks_without_others(&self, free_mb: u64) -> Option<Lack> {
        let books = self.capacity.books();
        books.entries.get(&self.number)?.footprint.lacks(books.all(free_mb))
    }

    /// Waits until it has begun. `lack` is kept up to date meanwhile.
    ///
    /// # Errors
    /// What there is too little of without the others, too, and has been for a while.
    pub async fn begun(
        &self,
        free_mb: impl Fn() -> u64,
        lack: &mut Option<Lack>,
    ) -> Result<(), Lack> {
        let mut hopeless = None;
        loop {
            // Listening before looking: a job that goes in between is not missed.
            let mut changed = std::pin::pin!(self.capacity.changed.notified());
            changed.as_mut().enable();
            let free_mb = free_mb();
            match self.begin(free_mb) {
                Ok(()) => return Ok(()),
                Err(why) => *lack = Some(why),
            }
            match self.lacks_without_others(free_mb) {
                Some(lack) if hopeless.get_or_insert_with(Instant::now).elapsed() >= HOPE => {
                    return Err(lack);
                }
                Some(_) => {}
                None => hopeless = None,
            }
            tokio::select! {
                () = changed => {}
                () = sleep(PAUSE) => {}
            }
        }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.capacity.books().entries.remove(&self.number);
        self.capacity.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const FREE_MB: u64 = 1000;

    fn machine() -> Arc<Capacity> {
        Arc::new(Capacity::new(100, 4))
    }

    fn asks(ram_mb: u64, threads: u64, disk_mb: u64) -> Footprint {
        Footprint { ram_mb, threads, disk_mb }
    }

    #[test]
    fn what_parallel_jobs_ask_for_is_added_up() {
        let machine = machine();
        let first = machine.enter(asks(60, 2, 700));
        assert_eq!(first.begin(FREE_MB), Ok(()));
        for (more, text) in [
            (asks(41, 0, 0), "41 MiB of memory are needed, 40 are left"),
            (asks(0, 3, 0), "3 threads of processor are needed, 2 are left"),
            (asks(0, 0, 301), "301 MiB of scratch space are needed, 300 are left"),
        ] {
            let lack = machine.enter(more).begin(FREE_MB).unwrap_err().to_string();
            assert!(lack.starts_with(text), "{lack}");
        }
        let second = machine.enter(asks(40, 2, 300));
        assert_eq!(second.begin(FREE_MB), Ok(()));
        assert_eq!(machine.left(FREE_MB), Footprint::default());
        drop(first);
        assert_eq!(machine.left(FREE_MB), asks(60, 2, 700));
    }

    #[test]
    fn what_is_written_is_missing_on_the_disk_already() {
        let machine = machine();
        let first = machine.enter(asks(0, 0, 700));
        first.written_bytes().store(500 << 20, Ordering::Relaxed);
        assert_eq!(machine.left(FREE_MB - 500).disk_mb, 300);
        first.written_bytes().store(u64::MAX, Ordering::Relaxed);
        assert_eq!(machine.left(300).disk_mb, 300);
    }

    #[test]
    fn nobody_is_overtaken() {
        let machine = machine();
        let first = machine.enter(asks(60, 0, 0));
        assert_eq!(first.begin(FREE_MB), Ok(()));
        let large = machine.enter(asks(90, 0, 0));
        let small = machine.enter(asks(20, 0, 0));
        assert!(large.begin(FREE_MB).is_err());
        assert!(small.begin(FREE_MB).is_err());
        // What is told to the coordinator counts those that wait.
        assert_eq!(machine.left(FREE_MB).ram_mb, 0);
        drop(large);
        assert_eq!(small.begin(FREE_MB), Ok(()));
    }

    /// The earlier one waits for the slot that the later one has.
    #[test]
    fn who_waits_for_a_slot_is_in_nobodys_way() {
        let machine = machine();
        let earlier = machine.enter(asks(60, 0, 0));
        let later = machine.enter(asks(60, 0, 0));
        assert_eq!(later.begin(FREE_MB), Ok(()));
        assert!(earlier.begin(FREE_MB).is_err());
        // Now it waits for room, and keeps its place before those that came after it.
        let last = machine.enter(asks(50, 0, 0));
        drop(later);
        assert!(last.begin(FREE_MB).is_err());
        assert_eq!(earlier.begin(FREE_MB), Ok(()));
    }

    #[test]
    fn who_waits_hears_of_those_who_go() {
        let machine = machine();
        let first = machine.enter(asks(60, 0, 0));
        assert_eq!(first.begin(FREE_MB), Ok(()));
        let second = machine.enter(asks(60, 0, 0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut lack = None;
        let mut waiting = Box::pin(second.begun(|| FREE_MB, &mut lack));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(waiting.as_mut().now_or_never(), Some(Ok(())));
        drop(waiting);
        assert!(lack.unwrap().to_string().contains("40 are left"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fits_into_no_disk_neither_waits_nor_keeps_anything() {
        let machine = machine();
        let first = machine.enter(asks(0, 0, 500));
        assert_eq!(first.begin(FREE_MB), Ok(()));
        first.written_bytes().store(200 << 20, Ordering::Relaxed);
        let large = machine.enter(asks(50, 0, FREE_MB + 1));
        let lack = large.begun(|| FREE_MB - 200, &mut None).await.unwrap_err().to_string();
        assert!(lack.starts_with("1001 MiB of scratch space are needed, 1000 are left"), "{lack}");
        assert_eq!(machine.enter(asks(100, 0, 500)).begin(FREE_MB - 200), Ok(()));
        // Without the first there is enough.
        let whole = machine.enter(asks(0, 0, FREE_MB));
        assert!(whole.begin(FREE_MB - 200).is_err());
        assert_eq!(whole.lacks_without_others(FREE_MB - 200), None);
    }

    #[test]
    fn a_machine_that_shrank_still_serves_who_may_have_all() {
        let booking = machine().enter(asks(500, 9, 10));
        assert_eq!(booking.begin(FREE_MB), Ok(()));
    }
}
