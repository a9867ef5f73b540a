//! The jobs that this node holds at the moment: named in heartbeats, and stopped from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::job::SlotKind;
use protocol::miner::ActiveJob;
use protocol::{Job, JobId, LeaseToken, Name};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sandbox::Interrupt;
use crate::workdir::Phase;

/// Why a job is being stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The coordinator said so: canceled, or ended by somebody else.
    Canceled,
    /// The lease is not ours any more.
    LeaseLost,
    /// The node is shutting down.
    Shutdown,
}

/// A job that the node holds.
#[derive(Debug)]
pub struct Held {
    /// The job.
    pub id: JobId,
    /// Its lease.
    pub token: LeaseToken,
    /// What kind of work it is.
    pub workload: Name,
    /// On what it runs.
    pub slot: SlotKind,
    /// When it was taken in.
    pub since: Instant,
    /// Ends its program.
    pub interrupt: Interrupt,
    /// Raised when nothing of the node works on it under this lease any more.
    pub over: CancellationToken,
    reason: Mutex<Option<StopReason>>,
    phase: Mutex<Phase>,
}

impl Held {
    /// Notes how far it has come.
    pub fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Why it is being stopped, if it is.
    pub fn stop_reason(&self) -> Option<StopReason> {
        *lock(&self.reason)
    }

    /// Stops it; the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        lock(&self.reason).get_or_insert(reason);
        self.interrupt.cancel.cancel();
    }
}

/// All jobs that the node holds.
#[derive(Debug, Default)]
pub struct Leases(Mutex<BTreeMap<JobId, Arc<Held>>>);

impl Leases {
    /// Takes a job in. An older lease of the same job is lost with it: that attempt, which is
    /// returned too, has to be over before the new one may touch the job's directory.
    pub fn take(&self, job: &Job) -> (Arc<Held>, Option<Arc<Held>>) {
        let held = Arc::new(Held {
            id: job.id,
            token: job.lease.token,
            workload: job.workload.clone(),
            slot: job.slot,
            since: Instant::now(),
            interrupt: Interrupt::default(),
            over: CancellationToken::new(),
            reason: Mutex::new(None),
            phase: Mutex::new(Phase::Pulling),
        });
        let older = lock(&self.0).insert(job.id, Arc::clone(&held));
        if let Some(older) = &older {
            older.stop(StopReason::LeaseLost);
            older.interrupt.kill.cancel();
        }
        (held, older)
    }

    /// Whether a job is held by this very lease.
    pub fn holds(&self, id: JobId, token: LeaseToken) -> bool {
        lock(&self.0).get(&id).is_some_and(|held| held.token == token)
    }

    /// Forgets a job whose report was answered, unless it was leased anew meanwhile.
    pub fn release(&self, id: JobId, token: LeaseToken) {
        let mut leases = lock(&self.0);
        if leases.get(&id).is_some_and(|held| held.token == token) {
            leases.remove(&id);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.0).len()
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Held>> {
        let mut all: Vec<_> = lock(&self.0).values().cloned().collect();
        all.sort_by_key(|held| held.since);
        all
    }

    /// As heartbeats name them.
    pub fn active(&self) -> Vec<ActiveJob> {
        let leased =
            |held: &Arc<Held>| ActiveJob::Leased { id: held.id, lease_token: Some(held.token) };
        lock(&self.0).values().map(leased).collect()
    }

    /// Stops those of `ids` that the node still holds by the lease that it had `named`: a reply
    /// about an earlier lease says nothing about one that was taken meanwhile.
    pub fn stop(&self, ids: &[JobId], named: &[ActiveJob], reason: StopReason) {
        let leases = lock(&self.0);
        for job in named.iter().filter(|job| ids.contains(&job.id())) {
            if let Some(held) = leases.get(&job.id()).filter(|held| Some(held.token) == job.token())
            {
                held.stop(reason);
            }
        }
    }

    /// Stops all: politely, or at once.
    pub fn stop_all(&self, reason: StopReason, at_once: bool) {
        for held in lock(&self.0).values() {
            held.stop(reason);
            if at_once {
                held.interrupt.kill.cancel();
            }
        }
    }
}

/// A panic elsewhere does not make these values wrong: each change is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::tests::job;

    #[test]
    fn a_new_lease_of_the_same_job_stops_the_old_one() {
        let leases = Leases::default();
        let (old, none) = leases.take(&job("hash"));
        assert!(none.is_none());
        let mut again = job("hash");
        again.lease.token = LeaseToken::from_u128(9);
        let (new, older) = leases.take(&again);
        assert_eq!(older.map(|older| older.token), Some(old.token));
        assert!(leases.holds(new.id, new.token) && !leases.holds(old.id, old.token));
        assert_eq!(old.stop_reason(), Some(StopReason::LeaseLost));
        assert_eq!(new.stop_reason(), None);
        leases.release(old.id, old.token);
        assert_eq!(leases.active().first().and_then(ActiveJob::token), Some(new.token));
        leases.release(new.id, new.token);
        assert_eq!(leases.count(), 0);
    }

    #[test]
    fn a_reply_about_an_older_lease_does_not_stop_the_new_one() {
        let leases = Leases::default();
        leases.take(&job("hash"));
        let named = leases.active();
        let mut again = job("hash");
        again.lease.token = LeaseToken::from_u128(9);
        let (new, _) = leases.take(&again);
        leases.stop(&[new.id], &named, StopReason::Canceled);
        assert_eq!(new.stop_reason(), None);
        leases.stop(&[new.id], &leases.active(), StopReason::Canceled);
        assert_eq!(new.stop_reason(), Some(StopReason::Canceled));
    }

    #[test]
    fn the_first_reason_counts() {
        let leases = Leases::default();
        let (held, _) = leases.take(&job("hash"));
        leases.stop(&[held.id], &leases.active(), StopReason::Canceled);
        leases.stop_all(StopReason::Shutdown, true);
        assert_eq!(held.stop_reason(), Some(StopReason::Canceled));
        assert!(held.interrupt.cancel.is_cancelled() && held.interrupt.kill.is_cancelled());
    }
}
