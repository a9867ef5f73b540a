//! Intake: a request becomes a job that is priced, classed and ranked, with its hold, in one
//! transaction per batch.

mod draft;
mod rank;
mod store;

use std::sync::Arc;

pub use draft::{Draft, draft};
use protocol::client::{JobView, NewJob};
use protocol::{ErrorCode, Name};
pub use store::{fold_promises, give_back, promise};

use crate::accounts::idempotency::{Answer, IdempotencyKey, StoredReply};
use crate::app::{App, Clock};
use crate::batch::{Batcher, Corridor, Done};
use crate::config::Config;
use crate::controls::Switchboard;
use crate::db::{Db, DbError, Tx};
use crate::dispatch::Dispatch;
use crate::error::ApiError;

/// A job to be taken in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who submits it.
    pub client: Name,
    /// The job, validated and priced.
    pub draft: Draft,
    /// Under which key a repeat is recognised.
    pub idempotency: Option<IdempotencyKey>,
}

/// The corridor.
#[derive(Debug)]
pub struct Intake {
    clock: Clock,
    config: Arc<Config>,
    controls: Switchboard,
    queue: Batcher<Submission, Answer<JobView>>,
}

impl Intake {
    /// Starts the corridor.
    pub fn start(
        db: Db,
        clock: Clock,
        config: Arc<Config>,
        controls: Switchboard,
        dispatch: Dispatch,
    ) -> Self {
        let desk = Desk {
            db,
            clock: clock.clone(),
            config: Arc::clone(&config),
            controls: controls.clone(),
            dispatch,
        };
        let queue = Batcher::spawn(config.limits.queue_rows, desk);
        Self { clock, config, controls, queue }
    }

    /// Validates a job, and prices it by what is in force now.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`, naming the field.
    pub fn draft(&self, client: &Name, job: NewJob) -> Result<Draft, ApiError> {
        draft(&self.config, &self.controls.in_force(), client, self.clock.now(), job)
    }

    /// Takes a job in. When this returns, it is committed.
    ///
    /// # Errors
    /// What is wrong with it, or that the database is away.
    pub async fn submit(&self, submission: Submission) -> Result<Answer<JobView>, ApiError> {
        self.queue.submit(submission).await
    }
}

/// Looks whether a job would be taken in, as far as that can be known without doing it.
///
/// # Errors
/// Why it would be refused.
pub async fn check(app: &App, submission: &Submission) -> Result<(), ApiError> {
    let in_force = app.controls.in_force();
    let rules = store::Rules { now: app.now(), config: &app.config, in_force: &in_force };
    let mut tx = app.db.read().await?;
    let checked = store::check(&mut tx, &rules, submission).await?;
    tx.commit().await?;
    checked
}

/// What the corridor works with.
struct Desk {
    db: Db,
    clock: Clock,
    config: Arc<Config>,
    controls: Switchboard,
    dispatch: Dispatch,
}

impl Corridor for Desk {
    type Row = Submission;
    type Out = Answer<JobView>;
    const NAME: &'static str = "intake";

    async fn transaction(&self, rows: &[Submission]) -> Done<Answer<JobView>> {
        let now = self.clock.now();
        let mut tx = self.db.write().await?;
        let begun = begin(&mut tx, rows).await?;
        let fresh: Vec<(usize, &Submission)> =
            rows.iter().enumerate().filter(|(i, _)| matches!(begun[*i], Ok(None))).collect();
        let submissions: Vec<&Submission> = fresh.iter().map(|(_, row)| *row).collect();
        let in_force = self.controls.in_force();
        let rules = store::Rules { now, config: &self.config, in_force: &in_force };
        let taken = store::take_in(&mut tx, &rules, &self.dispatch, &submissions).await?;

        let mut outcomes: Vec<Result<Answer<JobView>, ApiError>> = begun
            .into_iter()
            .map(|begun| match begun {
                Ok(Some(reply)) => Ok(Answer::Replayed(reply)),
                Ok(None) => Err(ApiError::internal()),
                Err(error) => Err(error),
            })
            .collect();
        let mut replies = Vec::new();
        for ((i, row), outcome) in fresh.into_iter().zip(taken.views) {
            if let Some(key) = &row.idempotency {
                replies.push((key, StoredReply::of(201, &outcome)));
            }
            outcomes[i] = outcome.map(Answer::Fresh);
        }
        crate::accounts::store::finish(&mut tx, now, &replies).await?;
        tx.commit().await?;
        self.dispatch.learn(taken.new_classes);
        self.dispatch.wake(taken.queued);
        Ok(outcomes)
    }
}

/// Looks up the rows' idempotency keys; a row without one is fresh.
async fn begin(
    tx: &mut Tx,
    rows: &[Submission],
) -> Result<Vec<Result<Option<StoredReply>, ApiError>>, DbError> {
    let keys: Vec<_> = rows.iter().filter_map(|row| row.idempotency.as_ref()).collect();
    let mut begun = crate::accounts::store::begin(tx, &keys).await?.into_iter();
    let missing = || Err(ApiError::new(ErrorCode::Internal, "internal error"));
    Ok(rows
        .iter()
        .map(|row| match row.idempotency {
            Some(_) => begun.next().unwrap_or_else(missing),
            None => Ok(None),
        })
        .collect())
}
