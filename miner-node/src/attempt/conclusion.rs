//! The end of one attempt: its files go up, its proof or its failure goes into the outbox.

use protocol::miner::Fail;
use protocol::proof::ArtifactProof;
use protocol::{FailureCode, Proof};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Abandoned, Attempt};
use crate::leases::StopReason;
use crate::outbox::{Body, Settled};
use crate::receipts::{self, Signer, completed_at};
use crate::runners::Refusal;
use crate::tally::Outcome;
use crate::workdir::{Phase, RunRecord};
use crate::{metrics, output};

/// How much of the log a failure report carries, in bytes.
const LOG_TAIL: u64 = 4096;

impl Attempt<'_> {
    pub(super) async fn upload(&self, artifacts: &[ArtifactProof]) -> Result<(), Abandoned> {
        if artifacts.is_empty() {
            return Ok(());
        }
        let output = self.dir.output();
        let call =
            || self.node.coordinator.upload(self.job.id, self.held.token, &output, artifacts);
        match self.persistently(FailureCode::Upload, call).await {
            Err(_) if self.held.stop_reason() == Some(StopReason::Shutdown) => {
                Err(Abandoned::Suspended)
            }
            other => other.map(drop),
        }
    }

    pub(super) fn proof(&self, record: &RunRecord) -> Proof {
        let receipt = self.node.config.wallet.as_ref().and_then(|wallet| {
            let signer = Signer {
                miner: &self.node.identity.node_id,
                wallet,
                key: &self.node.identity.key,
                nonce: self.node.random(),
            };
            receipts::receipt(&self.job, record, &signer)
        });
        Proof {
            id: self.job.id.to_string(),
            mode: record.mode,
            output_sha: record.output_sha,
            metrics: metrics::of_record(record),
            lease_token: Some(self.held.token),
            started_at: Some(record.started_at),
            finished_at: Some(completed_at(record)),
            exit_code: Some(0),
            result: output::inline_text(&self.dir.out_txt()).map(Value::String),
            artifacts: record.artifacts.clone(),
            receipt,
        }
    }

    /// Writes down how the attempt ended and hands the report to the outbox.
    pub(super) fn conclude(
        &self,
        result: Result<Proof, Abandoned>,
    ) -> Option<oneshot::Receiver<Settled>> {
        let id = self.job.id;
        let body = match result {
            Ok(proof) => Body::Proof(Box::new(proof)),
            Err(Abandoned::Refused(refusal)) => {
                warn!(event = "job_failed", job_id = %id, code = %refusal.code,
                    "[JOB] failed id={id} code={} {}", refusal.code, refusal.message);
                if refusal.code == FailureCode::Deny {
                    self.node.audit.denied(self.node.now(), &self.job, &refusal);
                }
                Body::Fail(self.failure(&refusal))
            }
            Err(Abandoned::Lost(why)) => {
                warn!(event = "job_lost", job_id = %id, "[JOB] lost id={id}: {why}");
                self.node.tally.ended(Outcome::Lost);
                self.node.leases.release(id, self.held.token);
                self.node.finish(&self.dir, self.held.token, Phase::Failed, Some(why));
                // A newer attempt waits until this one is over: the directory is still ours.
                self.node.strip(&self.dir);
                return None;
            }
            Err(Abandoned::Suspended) => {
                info!(event = "job_suspended", job_id = %id, "[JOB] suspended id={id}");
                return None;
            }
        };
        self.held.enter(Phase::RetryWait);
        self.node.report(&self.dir, id, self.held.token, body)
    }

    fn failure(&self, refusal: &Refusal) -> Fail {
        let tail = match output::tail(&self.dir.stderr_log(), LOG_TAIL) {
            text if text.is_empty() => output::tail(&self.dir.out_txt(), LOG_TAIL),
            text => text,
        };
        let used = self.used.get();
        Fail {
            lease_token: Some(self.held.token),
            error_code: refusal.code,
            error_message: Some(refusal.message.clone()),
            metrics: used.map_or_else(Map::new, |(used, isolation)| {
                metrics::known(self.node.mode(&self.job), used, isolation)
            }),
            logs_tail: (!tail.is_empty()).then_some(tail),
        }
    }
}
