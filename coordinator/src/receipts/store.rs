//! The SQL of receipts: reads only.

use protocol::{JobId, Name, Receipt};
use uuid::Uuid;

use crate::db::{Args, DbError, Row, Tx};

/// A receipt with its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The transfer that paid it: later ones are greater.
    pub transfer_id: Uuid,
    /// The receipt.
    pub receipt: Receipt,
}

fn receipt(row: &Row) -> Result<Receipt, DbError> {
    let text: String = row.get("body")?;
    serde_json::from_str(&text)
        .map_err(|error| DbError::Decode { column: "body", message: error.to_string() })
}

/// The receipt of a client's job. `None`: the client has no such job; `Some(None)`: it has no
/// receipt.
///
/// # Errors
/// Where the database fails.
pub async fn of_job(
    tx: &mut Tx,
    client: &Name,
    job: JobId,
) -> Result<Option<Option<Receipt>>, DbError> {
    let sql = "select r.receipt_id, r.body from jobs j
               left join receipts r on r.job_id = j.job_id
               where j.job_id = $1 and j.client_id = $2";
    let row = tx.row(sql, Args::new().with(job).with(client.as_str())).await?;
    row.map(|row| match row.get::<Option<String>>("receipt_id")? {
        Some(_) => receipt(&row).map(Some),
        None => Ok(None),
    })
    .transpose()
}

/// The receipts of a wallet before a transfer, newest first.
///
/// # Errors
/// Where the database fails.
pub async fn of_wallet(
    tx: &mut Tx,
    wallet: &Name,
    limit: i64,
    before: Option<Uuid>,
) -> Result<Vec<Placed>, DbError> {
    let sql = "select transfer_id, body from receipts
               where wallet = $1 and transfer_id < $2
               order by transfer_id desc limit $3";
    let before = before.unwrap_or(Uuid::max());
    let args = Args::new().with(wallet.as_str()).with(before).with(limit);
    let rows = tx.rows(sql, args).await?;
    rows.iter()
        .map(|row| Ok(Placed { transfer_id: row.get("transfer_id")?, receipt: receipt(row)? }))
        .collect()
}
