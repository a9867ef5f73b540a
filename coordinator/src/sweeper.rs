//! The background loop that jobs depend on: lapsed leases, jobs that nobody took, retries that are
//! due, miners' sightings, and rows that may be forgotten. Files are not its business: see
//! [`retention`](crate::retention).
//!
//! Any number of replicas may sweep at once: every step locks what it changes and looks again.

use std::time::Duration;

use protocol::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::DbError;
use crate::{events, intake, settlement};

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How many jobs at most are ended or requeued in one transaction.
const BATCH: i64 = 256;

/// How long replies are kept for repeats of a request, in seconds.
const IDEMPOTENCY_SECS: i64 = 24 * 3600;

/// How many replies are forgotten in one transaction.
const FORGET: i64 = 10_000;

/// A sweep that comes later than this after the last good one means that nobody could renew a lease
/// meanwhile, in seconds.
const GAP_SECS: i64 = 10;

/// Up to which pause between two sweeps the clock cannot have been set back unnoticed, in seconds.
const STEADY_SECS: i64 = 2;

/// How old an unused class must be to be forgotten, in seconds.
const CLASS_SECS: i64 = 600;

/// How often it is looked for what may be forgotten, in seconds.
const TIDY_SECS: i64 = 60;

/// What a sweep remembers until the next.
#[derive(Debug)]
pub struct Sweeper {
    /// Since when miners can be heard.
    listening_since: Timestamp,
    swept_at: Timestamp,
    /// No lease lapses before.
    lapses_at: Timestamp,
    tidied_at: Timestamp,
}

impl Sweeper {
    /// A sweeper that starts now.
    pub fn new(app: &App) -> Self {
        let now = app.now();
        Self { listening_since: now, swept_at: now, lapses_at: now, tidied_at: now }
    }

    /// Sweeps every second until it is told to stop.
    pub async fn run(mut self, app: &App, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if let Err(error) = self.tick(app).await {
                tracing::warn!(%error, "sweep failed, trying again");
            }
        }
        // What the miners last said is worth a write before the end.
        drop(app.presence.flush().await);
    }

    /// One sweep.
    ///
    /// # Errors
    /// Where the database does; the next sweep does what this one left.
    pub async fn tick(&mut self, app: &App) -> Result<(), DbError> {
        let now = app.now();
        // Where the clock was set back, nothing waits until it is there again.
        self.listening_since = self.listening_since.min(now);
        self.tidied_at = self.tidied_at.min(now);
        // Nor is it known then, or where no sweep was for a while, what was granted by which clock.
        if now < self.swept_at || now > self.swept_at.plus_secs(STEADY_SECS) {
            self.lapses_at = now;
        }
        if now > self.swept_at.plus_secs(GAP_SECS) {
            self.listening_since = now;
        }
        if let Err(error) = app.presence.flush().await {
            tracing::warn!(%error, "miners' sightings could not be stored, trying again");
        }
        // While nobody listened, nobody could renew.
        let grace = i64::from(app.config.leases.start_grace_secs);
        if now >= self.listening_since.plus_secs(grace) && now >= self.lapses_at {
            let lapsed = every(|| settlement::lapse(app, BATCH)).await?;
            metrics::counter!("aitbc_leases_lapsed_total").increment(lapsed);
            self.lapses_at = next_lapse(app, now).await?;
        }
        let expired = every(|| settlement::expire(app, BATCH)).await?;
        metrics::counter!("aitbc_jobs_expired_total").increment(expired);
        let mut tx = app.db.write().await?;
        let due = settlement::store::queue_due(&mut tx, now).await?;
        intake::fold_promises(&mut tx).await?;
        tx.commit().await?;
        app.dispatch.wake(due);
        self.swept_at = now;
        if let Err(error) = fold(app).await {
            tracing::warn!(%error, "miners' work could not be counted, trying again");
        }
        if now >= self.tidied_at.plus_secs(TIDY_SECS) {
            self.tidied_at = now;
            tidy(app, now).await?;
        }
        Ok(())
    }
}

/// Alone: who holds a miner's day for long holds up nothing else.
async fn fold(app: &App) -> Result<(), DbError> {
    let mut tx = app.db.write().await?;
    settlement::work::store::fold(&mut tx).await?;
    tx.commit().await
}

/// Before when no lease lapses: it would have to be there, or be granted from now on.
async fn next_lapse(app: &App, now: Timestamp) -> Result<Timestamp, DbError> {
    let leases = &app.config.leases;
    let shortest = leases.ack_secs.min(leases.margin_secs);
    let granted = now.plus_secs(i64::from(shortest));
    let mut tx = app.db.read().await?;
    let there = settlement::store::first_lapse(&mut tx).await?;
    Ok(there.map_or(granted, |there| there.min(granted)))
}

/// Repeats a step until it finds less than a batch.
async fn every<Fut>(step: impl Fn() -> Fut) -> Result<u64, DbError>
where
    Fut: Future<Output = Result<usize, DbError>>,
{
    let mut all = 0;
    loop {
        let done = step().await?;
        all += done as u64;
        if (done as u64) < BATCH.unsigned_abs() {
            return Ok(all);
        }
    }
}

async fn tidy(app: &App, now: Timestamp) -> Result<(), DbError> {
    let mut tx = app.db.write().await?;
    let classes = settlement::store::forget_classes(&mut tx, now.plus_secs(-CLASS_SECS)).await?;
    events::store::forget_followers(&mut tx, now).await?;
    tx.commit().await?;
    let mut replies = 0;
    loop {
        let mut tx = app.db.write().await?;
        let before = now.plus_secs(-IDEMPOTENCY_SECS);
        let forgotten = crate::accounts::store::forget(&mut tx, before, FORGET).await?;
        tx.commit().await?;
        replies += forgotten;
        if forgotten < FORGET.unsigned_abs() {
            break;
        }
    }
    tracing::debug!(replies, classes, "tidied");
    Ok(())
}
