//! What a prepaid client has, and what is set aside of it for a job.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Amount, ErrorCode, JobId, Name, Timestamp};

use super::clients::Client;
use crate::app;
use crate::db::{DbError, Tx};
use crate::error::ApiError;
use crate::intake::Submission;
use crate::ledger::store::Book;
use crate::ledger::{Account, Transfer, TransferKind};

pub(super) fn check_funds(hold: Amount, balance: Amount) -> Result<(), ApiError> {
    if balance >= hold {
        return Ok(());
    }
    let message = format!("the job could cost {hold} AITBC, {balance} are left");
    Err(ApiError::new(ErrorCode::InsufficientFunds, message)
        .with("needed", hold.to_string())
        .with("balance", balance.to_string()))
}

pub(super) async fn open_book(
    tx: &mut Tx,
    now: Timestamp,
    clients: &BTreeMap<Name, Client>,
    submissions: &[&Submission],
) -> Result<Book, DbError> {
    let prepaid = |s: &&&Submission| clients.get(&s.client).is_some_and(|client| client.prepaid);
    let accounts: BTreeSet<Account> = submissions
        .iter()
        .filter(prepaid)
        .flat_map(|s| [Account::Client(s.client.clone()), Account::Hold(s.client.clone())])
        .collect();
    Book::open(tx, now, accounts).await
}

/// Sets a prepaid client's funds aside for a job.
pub(super) fn set_aside(
    book: &mut Book,
    now: Timestamp,
    id: JobId,
    submission: &Submission,
) -> Result<(), ApiError> {
    let (from, to) =
        (Account::Client(submission.client.clone()), Account::Hold(submission.client.clone()));
    let hold = submission.draft.hold;
    check_funds(hold, book.balance(&from).unwrap_or(Amount::ZERO))?;
    let transfer_id = app::new_transfer_id(now);
    Transfer::between(transfer_id, TransferKind::Hold, from, to, hold)
        .map(|transfer| transfer.for_job(id))
        .and_then(|transfer| book.book(transfer).ok())
        .ok_or_else(|| ApiError::field("constraints.max_price", "is out of range"))
}
