//! What the node has done in all its lives: counted here, kept in one file of the state directory so
//! that the counters go on after a restart, however the node ended. Nothing is decided by it; what
//! was earned is in the coordinator's books.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mining::engine::Status;
use protocol::job::SlotKind;
use protocol::{Amount, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::workdir::{read_json, write_json};
pub use counts::{BOUNDS, Counts, Durations, Mined, Outcome, Reply, Requests};

mod counts;

/// The file, in the state directory.
const FILE: &str = "counters.json";

/// Of so many models requests are counted; of others that servers have later, none.
const MOST_MODELS: usize = 256;

/// The counters of a node.
#[derive(Debug)]
pub struct Tally {
    path: PathBuf,
    began: Instant,
    running: AtomicU32,
    book: Mutex<Book>,
    /// A job has ended: worth a write at once.
    pub ended: Notify,
}

#[derive(Debug)]
struct Book {
    counts: Counts,
    /// What of this life's time is counted already.
    counted: Duration,
    /// What the engine said last.
    seen: Mined,
    /// When a heartbeat was answered last, and the wallet's balance as it was told last.
    heard: Option<Timestamp>,
    balance: Option<Amount>,
}

/// A program that runs, until this is dropped.
#[derive(Debug)]
pub struct Running<'a>(&'a Tally);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// The counters that an earlier life left in `state_dir`; without any, all begin at 0.
    pub fn open(state_dir: &std::path::Path) -> Self {
        let path = state_dir.join(FILE);
        let mut counts = match read_json::<Counts>(&path) {
            Ok(counts) => counts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Counts::default(),
            Err(error) => {
                let path = path.display();
                warn!(event = "counters_lost", "{path}: {error}; the counters begin anew");
                Counts::default()
            }
        };
        counts.starts += 1;
        let book = Book {
            counts,
            counted: Duration::ZERO,
            seen: Mined::default(),
            heard: None,
            balance: None,
        };
        let (running, ended) = (AtomicU32::new(0), Notify::new());
        Self { path, began: Instant::now(), running, book: Mutex::new(book), ended }
    }

    /// A program begins to run.
    pub fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    /// How many programs run.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// A program ran for `wall` on a slot of `kind`.
    pub fn ran(&self, kind: SlotKind, wall: Duration) {
        let mut book = self.book();
        let micros = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let sum = match kind {
            SlotKind::Cpu => &mut book.counts.cpu_us,
            SlotKind::Gpu => &mut book.counts.gpu_us,
        };
        *sum = sum.saturating_add(micros);
        book.counts.durations.note(wall);
    }

    /// An inference server was asked for `model`.
    pub fn asked(&self, model: &str, reply: Reply) {
        let models = &mut self.book().counts.models;
        if models.len() < MOST_MODELS || models.contains_key(model) {
            models.entry(model.to_owned()).or_default().note(reply);
        }
    }

    /// A job has ended for this node.
    pub fn ended(&self, outcome: Outcome) {
        *self.book().counts.jobs.entry(outcome).or_default() += 1;
        self.ended.notify_one();
    }

    /// The wallet got `amount`, and holds `balance` now.
    pub fn earned(&self, amount: Amount, balance: Amount) {
        let mut book = self.book();
        book.counts.earned = book.counts.earned.checked_add(amount).unwrap_or(Amount::MAX);
        book.balance = Some(balance);
    }

    /// A heartbeat was answered.
    pub fn heard(&self, now: Timestamp) {
        self.book().heard = Some(now);
    }

    /// A heartbeat was not.
    pub fn unheard(&self) {
        self.book().counts.heartbeats_failed += 1;
    }

    /// When a heartbeat was answered last in this life, and the wallet's balance as it was told
    /// last.
    pub fn contact(&self) -> (Option<Timestamp>, Option<Amount>) {
        let book = self.book();
        (book.heard, book.balance)
    }

    /// How long this life has lasted.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The counters now, with what the engine says.
    pub fn counts(&self, engine: Option<&Status>) -> Counts {
        let mut book = self.book();
        if let Some(status) = engine {
            let now = Mined::of(status);
            let before = std::mem::replace(&mut book.seen, now.clone());
            book.counts.mined.add(&before, &now);
        }
        let uptime = self.began.elapsed();
        let new = uptime.saturating_sub(book.counted);
        let millis = u64::try_from(new.as_millis()).unwrap_or(u64::MAX);
        book.counts.uptime_ms = book.counts.uptime_ms.saturating_add(millis);
        // What is less than a millisecond is counted the next time.
        book.counted += Duration::from_millis(millis);
        book.counts.clone()
    }

    /// Writes the counters down.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(&self, engine: Option<&Status>) -> io::Result<()> {
        write_json(&self.path, &self.counts(engine))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic elsewhere leaves at worst one count too few.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn another_life_goes_on_where_the_last_one_was() {
        let dir = tempfile::tempdir().unwrap();
        let first = Tally::open(dir.path());
        first.ran(SlotKind::Cpu, Duration::from_secs(2));
        first.ended(Outcome::Completed);
        first.earned(amount("0.5"), amount("7"));
        first.save(None).unwrap();
        first.ended(Outcome::Failed);
        // Killed: what was not written is lost, what was is not.
        drop(first);
        let second = Tally::open(dir.path());
        second.ended(Outcome::Completed);
        second.earned(amount("0.25"), amount("7.25"));
        let counts = second.counts(None);
        assert_eq!(counts.jobs, BTreeMap::from([(Outcome::Completed, 2)]));
        assert_eq!((counts.starts, counts.earned), (2, amount("0.75")));
        assert_eq!((counts.cpu_us, counts.durations.count()), (2_000_000, 1));
        assert_eq!(second.contact().1, Some(amount("7.25")));
    }

    #[test]
    fn requests_are_counted_by_model_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::open(dir.path());
        let answered = Reply::Answered { wall: Duration::from_millis(500), tokens: 20 };
        for reply in [answered, answered, Reply::Refused, Reply::Failed] {
            tally.asked("tiny", reply);
        }
        tally.save(None).unwrap();
        let again = Tally::open(dir.path());
        again.asked("tiny", answered);
        let counted =
            Requests { answered: 3, refused: 1, failed: 1, answered_us: 1_500_000, tokens: 60 };
        assert_eq!(again.counts(None).models, BTreeMap::from([("tiny".to_owned(), counted)]));
        for number in 0..MOST_MODELS {
            again.asked(&format!("model {number}"), Reply::Failed);
        }
        again.asked("tiny", answered);
        let models = again.counts(None).models;
        assert_eq!((models.len(), models["tiny"].answered), (MOST_MODELS, 4));
    }

    #[test]
    fn a_damaged_file_is_no_reason_not_to_count() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"starts\": ").unwrap();
        assert_eq!(Tally::open(dir.path()).counts(None).starts, 1);
        std::fs::write(dir.path().join(FILE), "{\"starts\": 4, \"of later\": 1}").unwrap();
        assert_eq!(Tally::open(dir.path()).counts(None).starts, 5);
    }

    #[test]
    fn an_engine_that_begins_anew_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::open(dir.path());
        let with = |hashes| Status { hashes, ..Status::unknown("native") };
        for (said, counted) in [(100, 100), (150, 150), (150, 150), (20, 170), (30, 180)] {
            assert_eq!(tally.counts(Some(&with(said))).mined.hashes, counted);
        }
        tally.save(Some(&with(40))).unwrap();
        let again = Tally::open(dir.path());
        assert_eq!(again.counts(Some(&with(5))).mined.hashes, 195);
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::open(dir.path());
        tokio::time::advance(Duration::from_millis(1500)).await;
        tally.save(None).unwrap();
        assert_eq!(tally.counts(None).uptime_ms, 1500);
        let again = Tally::open(dir.path());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(again.counts(None).uptime_ms, 2000);
    }

    #[test]
    fn what_runs_is_counted_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally::open(dir.path());
        let running = (tally.begin(), tally.begin());
        assert_eq!(tally.running(), 2);
        drop(running);
        assert_eq!(tally.running(), 0);
    }
}
