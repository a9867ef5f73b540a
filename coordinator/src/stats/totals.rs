//! What went through since the beginning, for metrics that go on over restarts: the same numbers at
//! every replica, from the jobs and receipts themselves. Days that are over are added up once.

use protocol::{Amount, Timestamp};

use super::store;
use crate::db::{Db, DbError};

/// After so long no transaction writes a time that early any more, in seconds: longer than a
/// transaction may take and clocks may differ.
const SETTLING_SECS: i64 = 120;

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Through {
    /// Jobs that were submitted.
    pub submitted: i64,
    /// Jobs that ended with a result.
    pub completed: i64,
    /// Jobs that ended without.
    pub failed: i64,
    /// Jobs that their clients called off.
    pub canceled: i64,
    /// Jobs that nobody took in time.
    pub expired: i64,
    /// What receipts stated.
    pub credited: Amount,
}

impl Through {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            submitted: self.submitted.saturating_add(other.submitted),
            completed: self.completed.saturating_add(other.completed),
            failed: self.failed.saturating_add(other.failed),
            canceled: self.canceled.saturating_add(other.canceled),
            expired: self.expired.saturating_add(other.expired),
            credited: self.credited.checked_add(other.credited).unwrap_or(Amount::MAX),
        }
    }
}

/// The sum so far, kept so that each look counts only what is new.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals(Option<Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Everything before this is in the sum.
    until: Timestamp,
    sum: Through,
}

impl Totals {
    /// What went through until `now`.
    ///
    /// # Errors
    /// Where the database fails; the next look counts what this one did not.
    pub async fn look(&mut self, db: &Db, now: Timestamp) -> Result<Through, DbError> {
        let settled = now.plus_secs(-SETTLING_SECS);
        let known = match self.0 {
            Some(known) if known.until.day() == settled.day() => known,
            _ => days_before(db, settled.day()).await?,
        };
        let mut tx = db.read().await?;
        let until = settled.max(known.until);
        let new = store::through(&mut tx, known.until, Some(until)).await?;
        let sum = known.sum.and(new);
        let latest = store::through(&mut tx, until, None).await?;
        tx.commit().await?;
        self.0 = Some(Known { until, sum });
        Ok(sum.and(latest))
    }
}

/// The sum of all days before `today`; those that nobody has added up yet are written down.
async fn days_before(db: &Db, today: i32) -> Result<Known, DbError> {
    let mut tx = db.read().await?;
    let first = match store::last_rolled(&mut tx).await? {
        Some(last) => Some(last + 1),
        None => store::first_day(&mut tx).await?,
    };
    tx.commit().await?;
    for day in first.unwrap_or(today)..today {
        let mut tx = db.write().await?;
        let (from, until) = (Timestamp::of_day(day), Timestamp::of_day(day + 1));
        let through = store::through(&mut tx, from, Some(until)).await?;
        store::roll(&mut tx, day, &through).await?;
        tx.commit().await?;
    }
    let mut tx = db.read().await?;
    let sum = store::rolled(&mut tx, today).await?;
    tx.commit().await?;
    Ok(Known { until: Timestamp::of_day(today), sum })
}
