//! SQL of the ledger. Money moves through a [`Book`] and in no other way.

use std::collections::BTreeMap;

use protocol::wallet::LedgerLine;
use protocol::{Amount, Name, Timestamp};
use uuid::Uuid;

pub use super::audit::store::{Audit, Fault, audit};
use super::{Account, Transfer};
use crate::db::{Args, DbError, Row, Rows, Tx};

/// Accounts locked for this transaction, with the transfers that are to be written.
#[derive(Debug)]
pub struct Book {
    accounts: BTreeMap<Account, Line>,
    transfers: Vec<Transfer>,
}

#[derive(Debug)]
struct Line {
    account_id: i64,
    balance: Amount,
    changed: bool,
}

/// A transfer does not balance, names an account that was not locked, or leaves the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("transfer cannot be booked")]
pub struct Unbookable;

impl Book {
    /// Locks accounts, in the order of their ids, creating those that are missing.
    ///
    /// # Errors
    /// Where the database does.
    pub async fn open(
        tx: &mut Tx,
        now: Timestamp,
        accounts: impl IntoIterator<Item = Account>,
    ) -> Result<Self, DbError> {
        let mut missing: BTreeMap<String, Account> =
            accounts.into_iter().map(|account| (account.name(), account)).collect();
        let mut book = Self { accounts: BTreeMap::new(), transfers: Vec::new() };
        if missing.is_empty() {
            return Ok(book);
        }
        book.lock(tx, &mut missing).await?;
        if !missing.is_empty() {
            create(tx, now, missing.keys()).await?;
            book.lock(tx, &mut missing).await?;
        }
        DbError::expect("lock accounts", 0, missing.len() as u64)?;
        Ok(book)
    }

    async fn lock(
        &mut self,
        tx: &mut Tx,
        missing: &mut BTreeMap<String, Account>,
    ) -> Result<(), DbError> {
        let names = Rows::list(tx.engine(), missing.keys().map(String::as_str));
        let sql = tx.either(
            "select account_id, name, balance from accounts
             where name = any($1)
             order by account_id + 0 for update",
            "select account_id, name, balance from accounts
             where name in (select value ->> 'v' from json_each($1))",
        );
        for row in tx.rows(sql, Args::new().with_rows(names)).await? {
            let name: String = row.get("name")?;
            if let Some(account) = missing.remove(&name) {
                let line = Line {
                    account_id: row.get("account_id")?,
                    balance: row.get("balance")?,
                    changed: false,
                };
                self.accounts.insert(account, line);
            }
        }
        Ok(())
    }

    /// What an account holds, with the transfers booked so far.
    pub fn balance(&self, account: &Account) -> Option<Amount> {
        self.accounts.get(account).map(|line| line.balance)
    }

    /// Books a transfer; nothing is written before [`Book::write`].
    ///
    /// # Errors
    /// [`Unbookable`]; the book is then unchanged.
    pub fn book(&mut self, transfer: Transfer) -> Result<(), Unbookable> {
        if !transfer.is_balanced() {
            return Err(Unbookable);
        }
        let mut balances = Vec::with_capacity(transfer.entries.len());
        for (account, amount) in &transfer.entries {
            let line = self.accounts.get(account).ok_or(Unbookable)?;
            balances.push(line.balance.checked_add(*amount).ok_or(Unbookable)?);
        }
        for ((account, _), balance) in transfer.entries.iter().zip(balances) {
            if let Some(line) = self.accounts.get_mut(account) {
                line.balance = balance;
                line.changed = true;
            }
        }
        self.transfers.push(transfer);
        Ok(())
    }

    /// Writes what was booked.
    ///
    /// # Errors
    /// Where the database refuses it, for example a second credit for a job.
    pub async fn write(self, tx: &mut Tx, now: Timestamp) -> Result<(), DbError> {
        if self.transfers.is_empty() {
            return Ok(());
        }
        self.write_transfers(tx, now).await?;
        self.write_entries(tx).await?;
        self.write_balances(tx, now).await
    }

    async fn write_transfers(&self, tx: &mut Tx, now: Timestamp) -> Result<(), DbError> {
        let mut rows = Rows::new(tx.engine());
        for transfer in &self.transfers {
            rows.row()
                .set("id", transfer.id)
                .set("kind", transfer.kind.as_str())
                .set("job_id", transfer.job_id)
                .set("receipt_id", transfer.receipt_id.as_ref().map(|id| id.to_string()))
                .set("reference", transfer.reference.clone())
                .done();
        }
        let sql = tx.either(
            "insert into transfers (transfer_id, kind, job_id, receipt_id, reference, created_at)
             select r.*, $1 from unnest($2, $3, $4, $5, $6) r",
            "insert into transfers (transfer_id, kind, job_id, receipt_id, reference, created_at)
             select value ->> 'id', value ->> 'kind', value ->> 'job_id', value ->> 'receipt_id',
                    value ->> 'reference', $1
             from json_each($2)",
        );
        let written = tx.execute(sql, Args::new().with(now).with_columns(rows)).await?;
        DbError::expect("write transfers", self.transfers.len() as u64, written)
    }

    async fn write_entries(&self, tx: &mut Tx) -> Result<(), DbError> {
        let mut rows = Rows::new(tx.engine());
        let mut count = 0;
        for transfer in &self.transfers {
            for (account, amount) in &transfer.entries {
                let Some(line) = self.accounts.get(account) else { continue };
                rows.row()
                    .set("transfer_id", transfer.id)
                    .set("account_id", line.account_id)
                    .set("amount", *amount)
                    .done();
                count += 1;
            }
        }
        let sql = tx.either(
            "insert into entries (transfer_id, account_id, amount)
             select * from unnest($1, $2, $3)",
            "insert into entries (transfer_id, account_id, amount)
             select value ->> 'transfer_id', value ->> 'account_id', value ->> 'amount'
             from json_each($1)",
        );
        let written = tx.execute(sql, Args::new().with_columns(rows)).await?;
        DbError::expect("write entries", count, written)
    }

    async fn write_balances(&self, tx: &mut Tx, now: Timestamp) -> Result<(), DbError> {
        let mut rows = Rows::new(tx.engine());
        let mut count = 0;
        for line in self.accounts.values().filter(|line| line.changed) {
            rows.row().set("account_id", line.account_id).set("balance", line.balance).done();
            count += 1;
        }
        let sql = tx.either(
            "update accounts a set balance = r.balance,
                 day_opening = case when a.updated_at < $3 then a.balance else a.day_opening end,
                 updated_at = greatest(a.updated_at, $2)
             from jsonb_to_recordset($1) as r(account_id bigint, balance bigint)
             where a.account_id = any(array[r.account_id])",
            "update accounts set balance = r.value ->> 'balance',
                 day_opening = case when updated_at < $3 then balance else day_opening end,
                 updated_at = max(updated_at, $2)
             from json_each($1) r where account_id = r.value ->> 'account_id'",
        );
        let today = Timestamp::of_day(now.day());
        let args = Args::new().with_rows(rows).with(now).with(today);
        let written = tx.execute(sql, args).await?;
        DbError::expect("write balances", count, written)
    }
}

async fn create(
    tx: &mut Tx,
    now: Timestamp,
    names: impl Iterator<Item = &String>,
) -> Result<(), DbError> {
    // Sorted: two replicas that create the same accounts wait for each other in one direction.
    let names = Rows::list(tx.engine(), names.map(String::as_str));
    let sql = tx.either(
        "insert into accounts (name, updated_at)
         select v, $2 from unnest($1) as r(v) order by v
         on conflict (name) do nothing",
        "insert into accounts (name, updated_at)
         select value ->> 'v', $2 from json_each($1) where true
         on conflict (name) do nothing",
    );
    tx.execute(sql, Args::new().with_rows(names).with(now)).await?;
    Ok(())
}

/// An account's balance and when it last changed; `None` where there is no such account.
///
/// # Errors
/// Where the database does.
pub async fn balance(
    tx: &mut Tx,
    account: &Account,
) -> Result<Option<(Amount, Timestamp)>, DbError> {
    let sql = "select balance, updated_at from accounts where name = $1";
    let row = tx.row(sql, Args::new().with(account.name())).await?;
    row.map(|row| Ok((row.get("balance")?, row.get("updated_at")?))).transpose()
}

/// An account's lines, newest first, older than the transfer `before`.
///
/// # Errors
/// Where the database does.
pub async fn lines(
    tx: &mut Tx,
    account: &Account,
    limit: i64,
    before: Option<Uuid>,
) -> Result<Vec<LedgerLine>, DbError> {
    // What the operator kept and added is the wallet's business, not the client's.
    let sql = "select t.transfer_id, t.kind, t.job_id, t.receipt_id, t.created_at, e.amount,
                   r.fee, r.bonus
               from accounts a
               join entries e on e.account_id = a.account_id
               join transfers t on t.transfer_id = e.transfer_id
               left join receipts r
                 on r.transfer_id = t.transfer_id and a.name = 'wallet:' || r.wallet
               where a.name = $1 and e.transfer_id < $2
               order by e.transfer_id desc limit $3";
    let before = before.unwrap_or(Uuid::max());
    let rows = tx.rows(sql, Args::new().with(account.name()).with(before).with(limit)).await?;
    rows.iter().map(line).collect()
}

fn line(row: &Row) -> Result<LedgerLine, DbError> {
    let id: Uuid = row.get("transfer_id")?;
    Ok(LedgerLine {
        id: id.to_string(),
        kind: row.get("kind")?,
        amount: row.get("amount")?,
        fee: row.get::<Option<Amount>>("fee")?.and_then(Amount::non_zero),
        bonus: row.get::<Option<Amount>>("bonus")?.and_then(Amount::non_zero),
        job_id: row.get("job_id")?,
        receipt_id: row.parse_opt("receipt_id")?,
        created_at: row.get("created_at")?,
    })
}

/// Whether a deposit with this reference was booked, and as which transfer.
///
/// # Errors
/// Where the database does.
pub async fn by_reference(tx: &mut Tx, reference: &str) -> Result<Option<Uuid>, DbError> {
    let sql = "select transfer_id from transfers where reference = $1";
    let row = tx.row(sql, Args::new().with(reference)).await?;
    row.map(|row| row.get("transfer_id")).transpose()
}

/// Whether there is a client of this name, who could have funds.
///
/// # Errors
/// Where the database does.
pub async fn is_client(tx: &mut Tx, client: &Name) -> Result<bool, DbError> {
    let sql = "select client_id from clients where client_id = $1";
    Ok(tx.row(sql, Args::new().with(client.as_str())).await?.is_some())
}
