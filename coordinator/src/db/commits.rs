//! Which jobs have new events by transactions of this process, told once these have committed: for
//! whoever follows jobs. A hint, as notices are: whoever waits for one looks for itself now and then.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use protocol::JobId;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::app;

/// The most jobs that are kept for somebody who does not come for them.
const MAX_JOBS: usize = 10_000;

/// What committed since somebody last looked.
#[derive(Debug, Default)]
pub struct Changes {
    /// Jobs that have new events.
    pub jobs: HashSet<JobId>,
    /// Those of them that somebody follows at another replica.
    pub elsewhere: HashSet<JobId>,
    /// There were more than are named.
    pub missed: bool,
}

/// Gathers the changes of transactions that committed.
#[derive(Debug)]
pub struct Commits {
    replica: Uuid,
    changes: Mutex<Changes>,
    more: Notify,
}

impl Commits {
    pub(super) fn new() -> Self {
        let replica = Uuid::from_u128(app::random_u128());
        Self { replica, changes: Mutex::default(), more: Notify::new() }
    }

    /// Who this process is among those that share the database.
    pub const fn replica(&self) -> Uuid {
        self.replica
    }

    /// What committed since the last call, waiting for something. For one caller at a time.
    pub async fn next(&self) -> Changes {
        self.more.notified().await;
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, changed: Vec<(JobId, bool)>) {
        if changed.is_empty() {
            return;
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        for (job, elsewhere) in changed {
            changes.jobs.insert(job);
            if elsewhere {
                changes.elsewhere.insert(job);
            }
        }
        if changes.jobs.len() > MAX_JOBS {
            *changes = Changes { missed: true, ..Changes::default() };
        }
        drop(changes);
        self.more.notify_one();
    }
}
