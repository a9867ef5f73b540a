//! The end of a job on this node: its report goes into the outbox, its room is given back.

use std::io;

use protocol::miner::Fail;
use protocol::{FailureCode, Job, JobId, LeaseToken};
use serde_json::Map;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::Node;
use crate::outbox::{Body, Outbox, Report, Settled};
use crate::workdir::{JobDir, Phase, State};

impl Node {
    /// Puts the report about a job's end in the outbox. The receiver learns what became of it.
    pub fn report(
        &self,
        dir: &JobDir,
        id: JobId,
        token: LeaseToken,
        body: Body,
    ) -> Option<oneshot::Receiver<Settled>> {
        if !self.leases.holds(id, token) {
            // Leased anew meanwhile: the directory belongs to the new attempt.
            return None;
        }
        let report = Report { job_id: id, lease_token: token, idempotency_key: self.uuid(), body };
        if matches!(report.body, Body::Fail(_)) {
            // First, because the report may need the room.
            self.strip(dir);
        }
        if let Err(error) = Outbox::save(dir, &report) {
            error!(event = "report_unsaved", job_id = %id, "report cannot be written: {error}");
            self.strip(dir);
            if let Err(error) = Outbox::save(dir, &report) {
                // Better told and forgotten in a crash than not told at all.
                error!(event = "report_unsaved", job_id = %id, "it is sent unsaved: {error}");
            }
        }
        self.finish(dir, token, Phase::RetryWait, None);
        self.strip(dir);
        // Last: once it is answered, the job may be leased anew, and the directory with it.
        Some(self.outbox.send(dir, report))
    }

    /// Has a job that could not be begun given back at once, though nothing of it is on disk.
    pub fn report_not_begun(
        &self,
        id: JobId,
        token: LeaseToken,
        code: FailureCode,
        why: String,
    ) -> oneshot::Receiver<Settled> {
        let fail = Fail {
            lease_token: Some(token),
            error_code: code,
            error_message: Some(why),
            metrics: Map::new(),
            logs_tail: None,
        };
        let (job_id, idempotency_key) = (id, self.uuid());
        let report = Report { job_id, lease_token: token, idempotency_key, body: Body::Fail(fail) };
        self.outbox.send(&self.workspace.job(id), report)
    }

    /// Gives a job back that came after the owner had said no.
    pub async fn give_back(&self, job: &Job) {
        let why = self.sharing.not_taking().unwrap_or_else(|| "no jobs for a moment".to_owned());
        let why = format!("the node's owner wants no jobs now: {why}");
        warn!(event = "given_back", job_id = %job.id, "{why}");
        let (held, older) = self.leases.take(job);
        // Nobody but the coordinator waits for the outcome.
        drop(self.report_not_begun(job.id, held.token, FailureCode::Canceled, why));
        if let Some(older) = older {
            older.over.cancelled().await;
        }
        held.over.cancel();
    }

    /// Gives back the room that a job took which has ended.
    pub fn strip(&self, dir: &JobDir) {
        if let Err(error) = self.workspace.strip(dir) {
            warn!(event = "strip_failed", "{}: {error}", dir.path().display());
        }
    }

    /// Writes down a late phase of the job, if its directory still belongs to that lease.
    pub fn finish(&self, dir: &JobDir, token: LeaseToken, phase: Phase, why: Option<String>) {
        let written = self.workspace.if_still(dir, token, |state| {
            dir.save(&State { phase, updated_at: self.now(), error: why, ..state })
        });
        // A job whose directory could not be made has no state either; that is told already.
        if let Err(error) = written.or_else(missing_is_fine) {
            error!(event = "state_lost", "{}: {error}", dir.path().display());
        }
    }
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
        _ => Err(error),
    }
}
