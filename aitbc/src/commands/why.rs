//! Why a job waits or a miner idles: the coordinator's answers, laid out.

use protocol::why::{JobWhy, MinerWhy, Reach, Reason};

use super::or_dash;
use crate::ending::Failure;
use crate::output::Output;

/// Lays out the answer about a job.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn job(output: &Output, why: JobWhy) -> Result<(), Failure> {
    output.line(&crate::output::printable(&why.summary))?;
    if let Some(ahead) = why.ahead {
        output.fields(&[("jobs before it", ahead.to_string())])?;
    }
    if let Some(found) = &why.reach {
        reach(output, found)?;
    }
    if why.attempts.is_empty() {
        return Ok(());
    }
    let rows = why.attempts.into_iter().map(|attempt| {
        [
            attempt.fence.to_string(),
            attempt.miner_id.to_string(),
            if attempt.paid { "yes" } else { "no" }.to_owned(),
            or_dash(attempt.amount),
            or_dash(attempt.error_code),
            attempt.message,
        ]
    });
    output.table(["LEASE", "MINER", "PAID", "AMOUNT", "CODE", "WHY"], rows)
}

/// Lays out who could run a job.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn reach(output: &Output, reach: &Reach) -> Result<(), Failure> {
    output.fields(&[
        ("miners online", reach.online.to_string()),
        ("able to run it", reach.able.to_string()),
        ("free now", reach.free.to_string()),
    ])?;
    reasons(output, "MINERS", &reach.reasons)
}

/// Lays out the answer about a miner.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn miner(output: &Output, why: MinerWhy) -> Result<(), Failure> {
    output.line(&crate::output::printable(&why.summary))?;
    output.fields(&[
        ("jobs queued", why.queued.to_string()),
        ("that it could run", why.able.to_string()),
        ("that it holds", why.inflight.to_string()),
    ])?;
    reasons(output, "JOBS", &why.reasons)
}

fn reasons(output: &Output, what: &str, reasons: &[Reason]) -> Result<(), Failure> {
    if reasons.is_empty() {
        return Ok(());
    }
    let rows = reasons.iter().map(|reason| {
        [
            reason.count.to_string(),
            reason.requirement.clone(),
            or_dash(reason.needed.as_ref()),
            or_dash(reason.best.as_ref()),
            reason.message.clone(),
        ]
    });
    output.table([what, "REQUIREMENT", "NEEDED", "BEST", "WHY"], rows)
}
