//! The SQL of payouts: who is owed what, and what was paid.

use std::collections::BTreeMap;

use protocol::payout::{PaidOut, PayoutFile, PayoutLine};
use protocol::{Amount, Name};
use uuid::Uuid;

use super::Period;
use crate::app::first_transfer_id;
use crate::db::{Args, DbError, Tx};

/// The most wallets of one file.
pub const MAX_WALLETS: i64 = 50_000;

/// The most receipts of one file.
pub const MAX_RECEIPTS: i64 = 100_000;

/// What wallets are owed, in their order; `None` where it is more than a file may hold.
///
/// # Errors
/// Where the database fails.
pub async fn owed(tx: &mut Tx, period: Period) -> Result<Option<Vec<PayoutLine>>, DbError> {
    // What was credited from `until` on is not owed yet; what was paid out since is not any more.
    let sql = "select name, cast(owed as bigint) as owed from (
                   select a.name, a.balance - coalesce((
                       select sum(e.amount) from entries e
                       join transfers t on t.transfer_id = e.transfer_id
                       where e.account_id = a.account_id and e.transfer_id >= $1
                         and t.kind = 'credit'), 0) as owed
                   from accounts a where a.name like 'wallet:%' and a.balance > 0) found
               where owed > 0 limit $2";
    let args = Args::new().with(first_transfer_id(period.until)).with(MAX_WALLETS + 1);
    let rows = tx.rows(sql, args).await?;
    if is_more(rows.len(), MAX_WALLETS) {
        return Ok(None);
    }
    let mut lines = BTreeMap::new();
    for row in rows {
        let name: String = row.get("name")?;
        let wallet: Name =
            name.strip_prefix("wallet:").unwrap_or_default().parse().map_err(|error| {
                DbError::Decode { column: "name", message: format!("{name}: {error}") }
            })?;
        let line =
            PayoutLine { wallet: wallet.clone(), amount: row.get("owed")?, receipts: Vec::new() };
        lines.insert(wallet, line);
    }
    let listed = add_receipts(tx, period, &mut lines).await?;
    Ok(listed.then(|| lines.into_values().collect()))
}

/// Lists the receipts of the period with their wallets; `false` where there are too many.
async fn add_receipts(
    tx: &mut Tx,
    period: Period,
    lines: &mut BTreeMap<Name, PayoutLine>,
) -> Result<bool, DbError> {
    let sql = "select wallet, receipt_id from receipts
               where transfer_id >= $1 and transfer_id < $2 order by transfer_id limit $3";
    let args = Args::new()
        .with(first_transfer_id(period.since))
        .with(first_transfer_id(period.until))
        .with(MAX_RECEIPTS + 1);
    let rows = tx.rows(sql, args).await?;
    for row in &rows {
        let wallet: Name = row.parse("wallet")?;
        if let Some(line) = lines.get_mut(&wallet) {
            line.receipts.push(row.parse("receipt_id")?);
        }
    }
    Ok(!is_more(rows.len(), MAX_RECEIPTS))
}

fn is_more(rows: usize, most: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows > most)
}

/// What was answered when the file was marked as paid.
///
/// # Errors
/// Where the database fails.
pub async fn paid(tx: &mut Tx, transfer: Uuid, file: &PayoutFile) -> Result<PaidOut, DbError> {
    let sql = "select t.created_at, e.amount,
                   (select count(*) from entries o where o.transfer_id = t.transfer_id) as entries
               from transfers t
               join entries e on e.transfer_id = t.transfer_id
               join accounts a on a.account_id = e.account_id and a.name = 'paid_out'
               where t.transfer_id = $1";
    let row = tx.row(sql, Args::new().with(transfer)).await?;
    let row = row.ok_or(DbError::Affected { what: "find a payout", expected: 1, touched: 0 })?;
    let total: Amount = row.get("amount")?;
    let entries: i64 = row.get("entries")?;
    Ok(PaidOut {
        export_id: file.export_id.clone(),
        transfer_id: transfer.to_string(),
        wallets: u64::try_from(entries - 1).unwrap_or(0),
        total,
        paid_at: row.get("created_at")?,
    })
}
