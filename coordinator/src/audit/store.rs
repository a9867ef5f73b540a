//! The SQL of the audit log: lines are added and read, never changed.

use protocol::Timestamp;
use protocol::control::AuditLine;

use super::Record;
use crate::db::{Args, DbError, Row, Tx};

/// Adds a line, in the transaction of what it records.
///
/// # Errors
/// Where the database fails.
pub async fn append(tx: &mut Tx, now: Timestamp, record: Record<'_>) -> Result<(), DbError> {
    let sql =
        "insert into audit_log (at, actor, action, subject, data) values ($1, $2, $3, $4, $5)";
    let args = Args::new()
        .with(now)
        .with(record.actor)
        .with(record.action.as_str())
        .with(record.subject)
        .with(record.data);
    DbError::expect("write the audit log", 1, tx.execute(sql, args).await?)
}

/// Lines older than the number `before`, newest first; of one action, or of all.
///
/// # Errors
/// Where the database fails.
pub async fn list(
    tx: &mut Tx,
    action: Option<&str>,
    limit: i64,
    before: Option<i64>,
) -> Result<Vec<AuditLine>, DbError> {
    let args = Args::new().with(before.unwrap_or(i64::MAX)).with(limit);
    let rows = match action {
        None => {
            let sql = "select audit_no, at, actor, action, subject, data from audit_log
                       where audit_no < $1 order by audit_no desc limit $2";
            tx.rows(sql, args).await?
        }
        Some(action) => {
            let sql = "select audit_no, at, actor, action, subject, data from audit_log
                       where audit_no < $1 and action = $3 order by audit_no desc limit $2";
            tx.rows(sql, args.with(action)).await?
        }
    };
    rows.iter().map(line).collect()
}

fn line(row: &Row) -> Result<AuditLine, DbError> {
    Ok(AuditLine {
        id: row.get("audit_no")?,
        at: row.get("at")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        subject: row.get("subject")?,
        data: row.get("data")?,
    })
}
