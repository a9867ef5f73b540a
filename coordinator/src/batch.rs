//! Natural batching, for any kind of row: what arrives while a flush runs goes into the next one.
//!
//! An idle coordinator adds no delay, a loaded one shares a commit among up to 256 rows. Every row
//! has its own outcome: a batch that the database refuses is cut in halves, down to the row to blame.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::db::DbError;
use crate::error::ApiError;

/// The most rows of one flush.
pub const MAX_ROWS: usize = 256;

/// How often a transaction that lost a conflict is tried again before its rows get an error.
const MAX_CONFLICTS: u32 = 5;

/// What a batcher does with its rows.
pub trait Corridor: Send + Sync + 'static {
    /// What goes in.
    type Row: Send + Sync + 'static;
    /// What comes out of a row.
    type Out: Send + 'static;
    /// Its name in the metrics.
    const NAME: &'static str;

    /// Does all of its work in one transaction, commits it, and returns one outcome per row, in
    /// order.
    ///
    /// # Errors
    /// Where nothing was committed. [`DbError::Data`] says that a row is to blame,
    /// [`DbError::Conflict`] that the same can be tried again.
    fn transaction(&self, rows: &[Self::Row]) -> impl Future<Output = Done<Self::Out>> + Send;
}

/// The outcomes of a batch, or why nothing was committed.
pub type Done<Out> = Result<Vec<Result<Out, ApiError>>, DbError>;

/// A queue of rows that one task flushes.
#[derive(Debug)]
pub struct Batcher<In, Out> {
    queue: mpsc::Sender<Waiting<In, Out>>,
}

#[derive(Debug)]
struct Waiting<In, Out> {
    row: In,
    reply: oneshot::Sender<Result<Out, ApiError>>,
}

impl<In: Send + Sync + 'static, Out: Send + 'static> Batcher<In, Out> {
    /// Starts the task, with room for `capacity` waiting rows. It ends when the last handle is gone
    /// and the queue is empty.
    pub fn spawn<C: Corridor<Row = In, Out = Out>>(capacity: usize, corridor: C) -> Self {
        let (queue, mut rows) = mpsc::channel::<Waiting<In, Out>>(capacity);
        tokio::spawn(async move {
            let mut waiting = Vec::with_capacity(MAX_ROWS);
            while rows.recv_many(&mut waiting, MAX_ROWS).await > 0 {
                let (rows, replies): (Vec<_>, Vec<_>) =
                    waiting.drain(..).map(|waiting| (waiting.row, waiting.reply)).unzip();
                let start = Instant::now();
                let outcomes = AssertUnwindSafe(apply(&corridor, &rows)).catch_unwind().await;
                let outcomes = outcomes.unwrap_or_else(|_| {
                    // Its transaction is rolled back; the corridor must go on for all others.
                    tracing::error!(corridor = C::NAME, "a flush panicked");
                    rows.iter().map(|_| Err(ApiError::internal())).collect()
                });
                measure(C::NAME, rows.len(), start.elapsed());
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Whoever asked may have hung up; what was done stays done.
                    drop(reply.send(outcome));
                }
            }
        });
        Self { queue }
    }

    /// Queues a row and waits for its outcome: what it says is committed.
    ///
    /// # Errors
    /// `OVERLOADED` where the queue is full, or whatever the corridor says of this row.
    pub async fn submit(&self, row: In) -> Result<Out, ApiError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.try_send(Waiting { row, reply }).map_err(|_| ApiError::overloaded())?;
        outcome.await.map_err(|_| ApiError::overloaded())?
    }
}

fn measure(corridor: &'static str, rows: usize, took: Duration) {
    let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    metrics::histogram!("aitbc_batch_rows", "corridor" => corridor).record(rows);
    metrics::histogram!("aitbc_batch_seconds", "corridor" => corridor).record(took.as_secs_f64());
}

/// Applies rows in one transaction; if the database refuses a value, in halves, down to the rows
/// that it refuses, which alone get an error.
async fn apply<C: Corridor>(corridor: &C, rows: &[C::Row]) -> Vec<Result<C::Out, ApiError>> {
    let mut outcomes: Vec<Option<Result<C::Out, ApiError>>> = Vec::new();
    outcomes.resize_with(rows.len(), || None);
    #[expect(clippy::single_range_in_vec_init, reason = "one range now, its halves later")]
    let mut ranges = vec![0..rows.len()];
    while let Some(range) = ranges.pop() {
        match retrying(corridor, &rows[range.clone()]).await {
            Ok(done) => {
                for (slot, outcome) in outcomes[range].iter_mut().zip(done) {
                    *slot = Some(outcome);
                }
            }
            Err(DbError::Data(_)) if range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                ranges.push(middle..range.end);
                ranges.push(range.start..middle);
            }
            Err(error) => {
                let error = ApiError::from(error);
                for slot in &mut outcomes[range] {
                    *slot = Some(Err(error.clone()));
                }
            }
        }
    }
    let missing = || Err(ApiError::internal());
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
}

async fn retrying<C: Corridor>(corridor: &C, rows: &[C::Row]) -> Done<C::Out> {
    let mut conflicts = 0;
    loop {
        match corridor.transaction(rows).await {
            Err(DbError::Conflict(error)) if conflicts < MAX_CONFLICTS => {
                conflicts += 1;
                tracing::debug!(%error, conflicts, "transaction conflict, trying again");
                tokio::time::sleep(Duration::from_millis(u64::from(conflicts) * 10)).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Doubles its rows; refuses a batch with a bad one; loses some conflicts first.
    #[derive(Default)]
    struct Doubler {
        bad: Option<i32>,
        conflicts: usize,
        calls: AtomicUsize,
        sizes: Option<mpsc::UnboundedSender<usize>>,
    }

    impl Corridor for Doubler {
        type Row = i32;
        type Out = i32;
        const NAME: &'static str = "doubler";

        async fn transaction(&self, rows: &[i32]) -> Done<i32> {
            tokio::task::yield_now().await;
            if let Some(sizes) = &self.sizes {
                sizes.send(rows.len()).unwrap();
            }
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.conflicts {
                return Err(DbError::Conflict(sqlx::Error::RowNotFound));
            }
            if self.bad.is_some_and(|bad| rows.contains(&bad)) {
                return Err(DbError::Data(sqlx::Error::RowNotFound));
            }
            Ok(rows.iter().map(|row| Ok(row * 2)).collect())
        }
    }

    #[tokio::test]
    async fn one_bad_row_of_256_fails_alone() {
        let doubler = Doubler { bad: Some(77), ..Doubler::default() };
        let rows: Vec<i32> = (0..256).collect();
        for (row, outcome) in apply(&doubler, &rows).await.into_iter().enumerate() {
            assert_eq!(outcome.ok(), (row != 77).then_some(row as i32 * 2));
        }
        assert!(doubler.calls.into_inner() <= 2 * 8 + 1);
    }

    #[tokio::test]
    async fn conflicts_are_tried_again() {
        let doubler = Doubler { conflicts: 2, ..Doubler::default() };
        assert_eq!(apply(&doubler, &[1]).await[0].as_ref().ok(), Some(&2));
    }

    #[tokio::test]
    async fn what_waits_shares_a_transaction() {
        let (sizes, mut seen) = mpsc::unbounded_channel();
        let batcher = Batcher::spawn(64, Doubler { sizes: Some(sizes), ..Doubler::default() });
        let submits = (0..20).map(|row| batcher.submit(row));
        let outcomes = futures_util::future::join_all(submits).await;
        let doubled: Vec<i32> = outcomes.into_iter().flatten().collect();
        assert_eq!(doubled, (0..20).map(|row| row * 2).collect::<Vec<_>>());
        drop(batcher);
        let mut transactions = Vec::new();
        while let Some(size) = seen.recv().await {
            transactions.push(size);
        }
        assert_eq!(transactions.iter().sum::<usize>(), 20);
        assert!(transactions.len() < 20, "{transactions:?}");
    }

    /// Never ends.
    struct Stuck;

    impl Corridor for Stuck {
        type Row = ();
        type Out = ();
        const NAME: &'static str = "stuck";

        async fn transaction(&self, _: &[()]) -> Done<()> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let batcher = Batcher::spawn(1, Stuck);
        // One row in the transaction, one in the queue; for one of three there is no room.
        let submits = (0..3).map(|_| Box::pin(batcher.submit(())));
        let (outcome, ..) = futures_util::future::select_all(submits).await;
        assert_eq!(outcome.unwrap_err().code, protocol::ErrorCode::Overloaded);
    }

    struct Trapped;

    impl Corridor for Trapped {
        type Row = bool;
        type Out = ();
        const NAME: &'static str = "trapped";

        async fn transaction(&self, rows: &[bool]) -> Done<()> {
            assert!(!rows.contains(&true), "the trap");
            Ok(rows.iter().map(|_| Ok(())).collect())
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_batch_only() {
        let batcher = Batcher::spawn(8, Trapped);
        let trapped = batcher.submit(true).await;
        assert_eq!(trapped.unwrap_err().code, protocol::ErrorCode::Internal);
        assert_eq!(batcher.submit(false).await, Ok(()));
    }
}
