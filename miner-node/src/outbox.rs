//! Reports that have to reach the coordinator: each is on disk before it is sent, and stays there
//! until it is answered. The sending itself is `loops/reporter`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::miner::Fail;
use protocol::{JobId, LeaseToken, Proof};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::coordinator::Backoff;
use crate::workdir::{JobDir, read_json, write_json};

/// A report about the end of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The job.
    pub job_id: JobId,
    /// Its lease.
    pub lease_token: LeaseToken,
    /// The same for every repetition, another one for every other content.
    pub idempotency_key: String,
    /// What is reported.
    pub body: Body,
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// It is done.
    Proof(Box<Proof>),
    /// It failed.
    Fail(Fail),
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The proof was accepted.
    Credited,
    /// The failure was taken note of.
    Failed,
    /// The coordinator wants it no more, and says why.
    Refused(String),
}

/// Something to be delivered now.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where the job lives.
    pub dir: JobDir,
    /// What to send.
    pub report: Report,
}

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    due: Instant,
    backoff: Backoff,
    /// How often it was sent in vain.
    tries: u32,
    /// Whether the last time there was no answer at all.
    cut_off: bool,
    settled: Option<oneshot::Sender<Settled>>,
}

/// Who waits for a report's outcome.
#[derive(Debug)]
pub struct Waiting(Option<oneshot::Sender<Settled>>);

impl Waiting {
    /// Tells them. To be called when the outcome is on disk.
    pub fn tell(self, settled: Settled) {
        if let Some(waiting) = self.0 {
            // Nobody need be interested.
            let _ = waiting.send(settled);
        }
    }
}

/// The entry that still has this very report.
fn current<'a>(entries: &'a mut BTreeMap<JobId, Entry>, report: &Report) -> Option<&'a mut Entry> {
    let same = |entry: &&mut Entry| entry.delivery.report.idempotency_key == report.idempotency_key;
    entries.get_mut(&report.job_id).filter(same)
}

/// All reports that are not answered.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: Mutex<BTreeMap<JobId, Entry>>,
    changed: Notify,
    answered: Notify,
    tried: Notify,
}

impl Outbox {
    /// Puts a report on disk, so that a crash does not lose it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(dir: &JobDir, report: &Report) -> io::Result<()> {
        write_json(&dir.report_file(), report)
    }

    /// Has a report sent, which should be on disk by now. The receiver learns what became of it.
    pub fn send(&self, dir: &JobDir, report: Report) -> oneshot::Receiver<Settled> {
        self.queue(dir.clone(), report)
    }

    /// Has a report sent that is on disk already.
    ///
    /// # Errors
    /// Where it is not.
    pub fn resume(&self, dir: &JobDir) -> io::Result<Report> {
        let report: Report = read_json(&dir.report_file())?;
        drop(self.queue(dir.clone(), report.clone()));
        Ok(report)
    }

    fn queue(&self, dir: JobDir, report: Report) -> oneshot::Receiver<Settled> {
        let (settled, receiver) = oneshot::channel();
        let entry = Entry {
            delivery: Delivery { dir, report },
            due: Instant::now(),
            backoff: Backoff::standard(),
            tries: 0,
            cut_off: false,
            settled: Some(settled),
        };
        self.lock().insert(entry.delivery.report.job_id, entry);
        self.changed.notify_one();
        receiver
    }

    /// Replaces the content of `old`, which was refused in that form.
    ///
    /// # Errors
    /// Of the file system.
    pub fn replace(&self, old: &Delivery, report: Report) -> io::Result<()> {
        let mut entries = self.lock();
        if let Some(entry) = current(&mut entries, &old.report) {
            write_json(&old.dir.report_file(), &report)?;
            entry.delivery.report = report;
            // Still to be sent before anything else, if that was so.
            entry.due = Instant::now();
        }
        drop(entries);
        self.changed.notify_one();
        Ok(())
    }

    /// What has to be sent now.
    pub fn due(&self) -> Vec<Delivery> {
        let now = Instant::now();
        let entries = self.lock();
        entries.values().filter(|entry| entry.due <= now).map(|e| e.delivery.clone()).collect()
    }

    /// Tries again later: after the entry's own pause, at least `least`. `cut_off` says that there
    /// was no answer at all.
    pub fn postpone(
        &self,
        report: &Report,
        least: Option<Duration>,
        cut_off: bool,
        random: u32,
    ) -> Option<Duration> {
        let mut entries = self.lock();
        let entry = current(&mut entries, report)?;
        let pause = entry.backoff.pause(least, random);
        entry.due = Instant::now() + pause;
        entry.tries = entry.tries.saturating_add(1);
        entry.cut_off = cut_off;
        drop(entries);
        self.tried.notify_waiters();
        Some(pause)
    }

    /// Has everything sent once more that got no answer, and waits until each was tried. Says
    /// whether all of it got one.
    pub async fn reconnect(&self) -> bool {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for (id, entry) in self.lock().iter_mut().filter(|(_, entry)| entry.cut_off) {
            entry.due = now;
            waiting.push((*id, entry.tries));
        }
        if waiting.is_empty() {
            return true;
        }
        self.changed.notify_one();
        let untried = |(id, tries): &(JobId, u32)| {
            self.lock().get(id).is_some_and(|entry| entry.cut_off && entry.tries == *tries)
        };
        loop {
            let tried = self.tried.notified();
            if !waiting.iter().any(untried) {
                break;
            }
            tried.await;
        }
        !self.lock().values().any(|entry| entry.cut_off)
    }

    /// Tries everything at once, for example because the node is about to end.
    pub fn hurry(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|entry| entry.due = now);
        self.changed.notify_one();
    }

    /// The report was answered: takes it out and returns who waits for it; `None` where the job
    /// was leased anew meanwhile, so that nothing of the old lease is to be touched.
    pub fn settle(&self, report: &Report) -> Option<Waiting> {
        let mut entries = self.lock();
        current(&mut entries, report)?;
        let entry = entries.remove(&report.job_id)?;
        drop(entries);
        self.tried.notify_waiters();
        self.answered.notify_one();
        Some(Waiting(entry.settled))
    }

    /// Forgets a report because its job was leased anew.
    pub fn forget(&self, id: JobId) {
        self.lock().remove(&id);
        self.tried.notify_waiters();
    }

    /// How many reports are not answered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether everything is answered.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until a report was answered.
    pub async fn emptier(&self) {
        self.answered.notified().await;
    }

    /// Waits until something is due or has changed.
    pub async fn wait(&self) {
        let next = self.lock().values().map(|entry| entry.due).min();
        let due = async {
            match next {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.changed.notified() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        // Every change is a single step: a panic elsewhere leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{FailureCode, Timestamp};

    use super::*;
    use crate::runners::tests::job;
    use crate::workdir::Workspace;

    fn put(outbox: &Outbox, dir: &JobDir) -> oneshot::Receiver<Settled> {
        Outbox::save(dir, &report()).unwrap();
        outbox.send(dir, report())
    }

    fn report() -> Report {
        let job = job("hash");
        Report {
            job_id: job.id,
            lease_token: job.lease.token,
            idempotency_key: "k".to_owned(),
            body: Body::Fail(Fail {
                lease_token: Some(job.lease.token),
                error_code: FailureCode::Exit,
                error_message: None,
                metrics: serde_json::Map::new(),
                logs_tail: None,
            }),
        }
    }

    fn job_dir() -> (tempfile::TempDir, JobDir) {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(root.path()).unwrap();
        let dir = workspace.create(&job("hash"), Timestamp::from_micros(0)).unwrap();
        (root, dir)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_on_disk_and_due_until_it_is_answered() {
        let (_root, dir) = job_dir();
        let outbox = Outbox::default();
        let settled = put(&outbox, &dir);
        assert_eq!(read_json::<Report>(&dir.report_file()).unwrap(), report());
        assert_eq!(outbox.due().len(), 1);
        let pause = outbox.postpone(&report(), None, true, 0).unwrap();
        assert!(outbox.due().is_empty() && !outbox.is_empty());
        tokio::time::advance(pause).await;
        assert_eq!(outbox.due()[0].report, report());
        outbox.settle(&report()).unwrap().tell(Settled::Failed);
        assert!(outbox.is_empty());
        assert_eq!(settled.await, Ok(Settled::Failed));
    }

    #[tokio::test]
    async fn what_got_no_answer_is_sent_again_before_anything_else() {
        let (_root, dir) = job_dir();
        let outbox = Outbox::default();
        let _settled = put(&outbox, &dir);
        assert!(outbox.reconnect().await, "nothing was sent in vain yet");
        outbox.postpone(&report(), None, true, 0).unwrap();
        assert!(outbox.due().is_empty());
        let still_cut_off = async {
            outbox.wait().await;
            assert_eq!(outbox.due().len(), 1);
            outbox.postpone(&report(), None, true, 0).unwrap();
        };
        assert!(!tokio::join!(outbox.reconnect(), still_cut_off).0);
        let answered = async {
            outbox.wait().await;
            // An answer, though none that ends it.
            outbox.postpone(&report(), None, false, 0).unwrap();
        };
        assert!(tokio::join!(outbox.reconnect(), answered).0);
    }

    #[tokio::test]
    async fn a_report_that_has_to_be_changed_goes_first_all_the_same() {
        let (_root, dir) = job_dir();
        let outbox = Outbox::default();
        let _settled = put(&outbox, &dir);
        outbox.postpone(&report(), None, true, 0).unwrap();
        let lower = Report { idempotency_key: "lower".to_owned(), ..report() };
        let mut reconnect = std::pin::pin!(outbox.reconnect());
        assert!(futures_util::poll!(reconnect.as_mut()).is_pending());
        outbox.replace(&outbox.due()[0].clone(), lower.clone()).unwrap();
        assert!(futures_util::poll!(reconnect.as_mut()).is_pending(), "it is not answered yet");
        outbox.settle(&lower).unwrap().tell(Settled::Credited);
        assert!(reconnect.await);
    }

    #[test]
    fn an_answer_to_an_older_report_changes_nothing() {
        let (_root, dir) = job_dir();
        let outbox = Outbox::default();
        drop(put(&outbox, &dir));
        let older = Report { idempotency_key: "older".to_owned(), ..report() };
        assert!(outbox.settle(&older).is_none());
        assert!(outbox.postpone(&older, None, true, 0).is_none());
        assert_eq!(outbox.due().len(), 1);
    }

    #[tokio::test]
    async fn after_a_restart_it_is_the_same_report() {
        let (_root, dir) = job_dir();
        drop(put(&Outbox::default(), &dir));
        let outbox = Outbox::default();
        assert_eq!(outbox.resume(&dir).unwrap(), report());
        assert_eq!(outbox.due()[0].report, report());
    }
}
