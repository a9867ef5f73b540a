//! What may be issued in a day, and what is spent or promised of it.

use protocol::{Amount, ErrorCode, Timestamp};

use super::Rules;
use crate::controls;
use crate::db::{Args, DbError, Engine, Rows, Tx};
use crate::error::ApiError;
use crate::intake::Draft;

/// The two numbers of the advisory lock on what may be issued; controls have the first number 2.
const BUDGET_LOCK: (i32, i32) = (3, 0);

/// Above how many rows the promises are put together.
const MANY_PROMISES: i64 = 100;

/// What may still be issued today, where there is a cap.
pub(super) struct Budget {
    pub cap: Amount,
    /// Issued today, or promised to live jobs.
    pub spent: Amount,
}

impl Budget {
    /// Reads what is spent; nobody else spends until the transaction ends. Without a cap nothing is
    /// read.
    pub(super) async fn open(tx: &mut Tx, rules: &Rules<'_>) -> Result<Option<Self>, DbError> {
        if rules.in_force.daily_cap().is_some() && tx.engine() == Engine::Postgres {
            // In a statement of its own: the look's snapshot must be younger than the lock.
            let sql = "select pg_advisory_xact_lock($1, $2)";
            tx.rows(sql, Args::new().with(BUDGET_LOCK.0).with(BUDGET_LOCK.1)).await?;
        }
        Self::look(tx, rules).await
    }

    /// Reads what is spent, for somebody who does not spend.
    pub(super) async fn look(tx: &mut Tx, rules: &Rules<'_>) -> Result<Option<Self>, DbError> {
        let Some(cap) = rules.in_force.daily_cap() else { return Ok(None) };
        // In one statement: a job that is paid meanwhile counts on one side, and on one only.
        let sql = tx.either(
            "select cast(least(coalesce((select sum(amount) from promises), 0)
                       + coalesce((select day_opening - balance from accounts
                                   where name = 'issuance' and updated_at >= $1), 0),
                       9223372036854775807) as bigint) as spent",
            // Its sum fails where it does not fit; its total is a float, good enough to see that.
            "select cast(case when (select total(amount) from promises) < 9e18
                         then coalesce((select sum(amount) from promises), 0)
                         else 9000000000000000000 end
                       + coalesce((select day_opening - balance from accounts
                                   where name = 'issuance' and updated_at >= $1), 0)
                       as bigint) as spent",
        );
        let today = Timestamp::of_day(rules.now.day());
        let row = tx.row(sql, Args::new().with(today)).await?;
        let spent = row.map_or(Ok(Amount::ZERO), |row| row.get("spent"))?;
        Ok(Some(Self { cap, spent }))
    }

    /// What is spent with a job that can issue so much.
    pub(super) fn with(&self, issue_most: Amount, now: Timestamp) -> Result<Amount, ApiError> {
        let spent = self.spent.checked_add(issue_most);
        match spent.filter(|spent| issue_most == Amount::ZERO || *spent <= self.cap) {
            Some(spent) => Ok(spent),
            None => {
                let message = "what may be issued today is spent, or promised to jobs that are not \
                               finished";
                Err(ApiError::new(ErrorCode::DailyCapReached, message)
                    .with("needed", issue_most.to_string())
                    .with("retry_after_secs", controls::secs_to_midnight(now)))
            }
        }
    }
}

/// Live jobs may issue so much more, or, below zero, less.
///
/// # Errors
/// Where the database does.
pub async fn promise(tx: &mut Tx, amounts: impl Iterator<Item = Amount>) -> Result<(), DbError> {
    // In one row, unless the sum leaves the range of a column.
    let mut sums = vec![Amount::ZERO];
    for amount in amounts {
        match sums.last_mut().map(|sum| (sum.checked_add(amount), sum)) {
            Some((Some(more), sum)) => *sum = more,
            _ => sums.push(amount),
        }
    }
    let mut rows = Rows::new(tx.engine());
    for sum in sums.into_iter().filter(|sum| *sum != Amount::ZERO) {
        rows.row().set("amount", sum).done();
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "insert into promises (amount)
         select amount from jsonb_to_recordset($1) as r(amount bigint)",
        "insert into promises (amount) select value ->> 'amount' from json_each($1)",
    );
    tx.execute(sql, Args::new().with_rows(rows)).await?;
    Ok(())
}

/// Puts one row in the place of many, once there are many and it can hold their sum.
///
/// # Errors
/// Where the database does.
pub async fn fold_promises(tx: &mut Tx) -> Result<(), DbError> {
    if tx.engine() == Engine::Postgres {
        // One statement: what others add meanwhile is neither seen nor deleted.
        let sql = "with gone as (delete from promises
                       where (select count(*) > $1 and abs(sum(amount)) < 9e18 from promises)
                       returning amount)
                   insert into promises (amount)
                   select cast(sum(amount) as bigint) from gone having count(*) > 0";
        tx.execute(sql, Args::new().with(MANY_PROMISES)).await?;
        return Ok(());
    }
    let sql = "select count(*) > $1 and abs(total(amount)) < 9e18 as fold from promises";
    let row = tx.row(sql, Args::new().with(MANY_PROMISES)).await?;
    if row.map_or(Ok(false), |row| row.get("fold"))? {
        let sql = "select coalesce(sum(amount), 0) as amount from promises";
        let row = tx.row(sql, Args::new()).await?;
        let amount: Amount = row.map_or(Ok(Amount::ZERO), |row| row.get("amount"))?;
        tx.execute("delete from promises", Args::new()).await?;
        promise(tx, std::iter::once(amount)).await?;
    }
    Ok(())
}

/// The most that paying a job can issue: all of it, or the bonus alone where it is paid in.
pub(super) fn issue_most(draft: &Draft, prepaid: bool) -> Result<Amount, ApiError> {
    let bonus = draft.bonus.map_or(Amount::ZERO, |bonus| bonus.most(draft.most));
    let price = if prepaid { Amount::ZERO } else { draft.most };
    price.checked_add(bonus).ok_or_else(|| {
        ApiError::field("limits", "the most that the job could cost is out of range")
    })
}
