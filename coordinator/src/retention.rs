//! What is deleted by age: what jobs left behind, inputs that no live job names, files that are
//! nobody's. Receipts, the ledger and the history stay: history is append-only.
//!
//! It has a loop of its own: a store may be slow, and nothing waits for what is deleted.

use std::time::Duration;

use protocol::{JobId, Timestamp};

use crate::app::App;
use crate::artifacts::{self, SHARDS};
use crate::db::DbError;
use crate::jobs;

/// How often the loop looks at the clock.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often what jobs left is cleared away, in seconds.
const OUTPUTS_SECS: i64 = 60;

/// How often files and inputs that are nobody's are looked for, in seconds.
const CLEAR_SECS: i64 = 3600;

/// How many jobs or inputs are cleared in one transaction.
const BATCH: i64 = 256;

/// How many such transactions there are in one go: the next one goes on.
const BATCHES: usize = 40;

/// How many parts of the store are held against the database in one go.
const SHARDS_AT_ONCE: usize = 64;

/// How long after the longest upload a file without a row is nobody's, in seconds.
const MARGIN_SECS: i64 = 3600;

const DAY_SECS: i64 = 24 * 3600;

/// What it remembers until the next time.
#[derive(Debug)]
pub struct Retention {
    looked_at: Timestamp,
    /// When it was last looked for files and inputs that are nobody's; `None`: not yet.
    cleared_at: Option<Timestamp>,
    /// From which part of the store on they are looked for.
    shard: usize,
}

impl Retention {
    /// Its first time is a minute from now.
    pub fn new(app: &App) -> Self {
        Self { looked_at: app.now(), cleared_at: None, shard: 0 }
    }

    /// Clears away without end.
    pub async fn run(mut self, app: &App) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.tick(app).await {
                tracing::warn!(%error, "not everything that is old was cleared away, going on later");
            }
        }
    }

    /// Clears away what is due now.
    ///
    /// # Errors
    /// Where the database does; the next time does what this one left.
    pub async fn tick(&mut self, app: &App) -> Result<(), DbError> {
        let now = app.now();
        // Where the clock was set back, nothing waits until it is there again.
        self.looked_at = self.looked_at.min(now);
        self.cleared_at = self.cleared_at.map(|last| last.min(now));
        if now < self.looked_at.plus_secs(OUTPUTS_SECS) {
            return Ok(());
        }
        self.looked_at = now;
        let outputs = clear_outputs(app, now).await;
        if self.cleared_at.is_none_or(|last| now >= last.plus_secs(CLEAR_SECS)) {
            self.cleared_at = Some(now);
            let inputs = clear_inputs(app, now).await;
            self.shard = clear_orphans(app, now, self.shard).await?;
            inputs?;
        }
        outputs
    }
}

/// Clears away what ended jobs left, as far as the settings say.
///
/// # Errors
/// Where the database does.
async fn clear_outputs(app: &App, now: Timestamp) -> Result<(), DbError> {
    let Some(days) = app.config.retention.output_days else { return Ok(()) };
    let before = now.plus_secs(-i64::from(days) * DAY_SECS);
    for _ in 0..BATCHES {
        let mut tx = app.db.write().await?;
        let jobs: Vec<JobId> = jobs::store::with_old_output(&mut tx, before, BATCH).await?;
        let files = jobs::store::remove_output(&mut tx, &jobs).await?;
        tx.commit().await?;
        app.artifacts.remove(&files).await;
        metrics::counter!("aitbc_outputs_cleared_total").increment(jobs.len() as u64);
        if (jobs.len() as u64) < BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

/// Clears away inputs that no live job names, as far as the settings say.
///
/// # Errors
/// Where the database does.
async fn clear_inputs(app: &App, now: Timestamp) -> Result<(), DbError> {
    let Some(days) = app.config.retention.inputs_days else { return Ok(()) };
    let before = now.plus_secs(-i64::from(days) * DAY_SECS);
    for _ in 0..BATCHES {
        let mut tx = app.db.write().await?;
        let files = artifacts::store::remove_old_inputs(&mut tx, before, BATCH).await?;
        tx.commit().await?;
        app.artifacts.remove(&files).await;
        metrics::counter!("aitbc_inputs_cleared_total").increment(files.len() as u64);
        if (files.len() as u64) < BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

/// Removes files that are nobody's, from the part `shard` of the store on; returns where to go on.
///
/// # Errors
/// Where the database does.
async fn clear_orphans(app: &App, now: Timestamp, shard: usize) -> Result<usize, DbError> {
    let longest = i64::try_from(app.config.limits.transfer_secs).unwrap_or(i64::MAX / 2);
    let before = now.plus_secs(-longest.saturating_add(MARGIN_SECS));
    app.artifacts.remove_abandoned(before).await;
    for number in shard..shard + SHARDS_AT_ONCE {
        let removed = app.artifacts.remove_orphans(&app.db, number % SHARDS, before).await?;
        if removed > 0 {
            tracing::info!(removed, "removed files that no row names");
        }
    }
    Ok((shard + SHARDS_AT_ONCE) % SHARDS)
}
