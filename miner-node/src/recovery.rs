//! After a crash: every job that an earlier life of the node left unfinished gets its one outcome.
//!
//! What was not run to its end is reported as `E_CRASH`; what was is uploaded and proven; a report
//! that may or may not have arrived is sent again under its old key.

use std::io;
use std::sync::Arc;

use protocol::FailureCode;
use protocol::miner::Fail;
use serde_json::Map;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::attempt::Attempt;
use crate::node::Node;
use crate::outbox::Body;
use crate::sandbox::kill_orphans;
use crate::workdir::{JobDir, Phase, State};

/// Takes up every unfinished job. What has to be uploaded first goes on in `crew`.
///
/// # Errors
/// Where the work directory cannot be listed.
pub fn recover(node: &Arc<Node>, crew: &TaskTracker) -> io::Result<()> {
    let killed = kill_orphans(&node.workspace.root().join("jobs"));
    if killed > 0 {
        warn!(event = "orphans", killed, "killed {killed} processes of an earlier run");
    }
    for dir in node.workspace.jobs()? {
        match dir.state() {
            Ok(state) if state.phase.is_over() => node.strip(&dir),
            Ok(state) => take_up(node, crew, dir, state),
            // It is written before the job is acknowledged: the lease goes back by itself.
            Err(error) => {
                warn!(event = "bad_state", "{}: {error}", dir.path().display());
                if is_no_state(&error) {
                    node.workspace.trash().toss(dir.path())?;
                }
            }
        }
    }
    Ok(())
}

/// Whether there is no state, or one that will never be readable.
fn is_no_state(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn take_up(node: &Arc<Node>, crew: &TaskTracker, dir: JobDir, state: State) {
    let State { phase, job, run, .. } = state;
    let (id, token) = (job.id, job.lease.token);
    info!(event = "recovered", job_id = %id, "[JOB] recovered id={id} phase={phase:?}");
    let (held, _) = node.leases.take(&job);
    if dir.report_file().exists() {
        match node.outbox.resume(&dir) {
            Ok(_) => return held.over.cancel(),
            Err(error) => warn!(event = "bad_report", job_id = %id, "{error}"),
        }
    }
    match run {
        Some(record) if phase == Phase::Uploading => {
            let node = Arc::clone(node);
            crew.spawn(async move {
                let attempt = Attempt::resume(&node, job, dir, held);
                drop(attempt.prove(&record).await);
            });
        }
        _ => {
            drop(node.report(&dir, id, token, crashed(token)));
            held.over.cancel();
        }
    }
}

fn crashed(token: protocol::LeaseToken) -> Body {
    Body::Fail(Fail {
        lease_token: Some(token),
        error_code: FailureCode::Crash,
        error_message: Some("the node died while it had the job".to_owned()),
        metrics: Map::new(),
        logs_tail: None,
    })
}
