//! The log of a held job, as its miner sends it.

use protocol::JobId;
use protocol::miner::{LogChunk, LogReply};

use super::leases;
use crate::accounts::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::events::store::{self, Logged};

/// The largest chunk of a log, in bytes.
const MAX_CHUNK: usize = 64 * 1024;

/// Appends a chunk to the log of the lease that the caller holds.
///
/// # Errors
/// Why the caller does not hold the job, or 422 where the chunk is none.
pub async fn append(
    app: &App,
    caller: &Caller,
    job: JobId,
    mut chunk: LogChunk,
) -> Result<LogReply, ApiError> {
    if chunk.text.len() > MAX_CHUNK {
        return Err(ApiError::field("text", format!("must be at most {MAX_CHUNK} bytes")));
    }
    if chunk.seq < 0 {
        return Err(ApiError::field("seq", "must not be negative"));
    }
    // Programs print what they like; PostgreSQL's text has no U+0000.
    chunk.text = chunk.text.replace('\0', "\u{fffd}");
    let held = leases::held(app, caller, job, chunk.lease_token).await?;
    let mut tx = app.db.write().await?;
    let cap = app.config.limits.log_bytes;
    let logged = store::append_log(&mut tx, app.now(), (job, held.fence), &chunk, cap).await?;
    tx.commit().await?;
    match logged {
        Logged::Kept => Ok(LogReply { accepted: true }),
        Logged::Full => Ok(LogReply { accepted: false }),
        Logged::Lost => Err(leases::lease_lost("the job is no longer held")),
    }
}
