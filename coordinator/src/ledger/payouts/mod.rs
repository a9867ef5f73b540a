//! Payouts: what wallets hold, as a signed file for whatever pays them in the end, and the transfer
//! that notes that it did. There is no chain here; a wallet is an opaque name.

pub mod routes;
pub mod store;

use ed25519_dalek::SigningKey;
use protocol::payout::{ID_PREFIX, PaidOut, PayoutFile};
use protocol::{Amount, ErrorCode, Name, Timestamp, signing};
use serde_json::json;
use store::{MAX_RECEIPTS, MAX_WALLETS};

use super::store::{Book, by_reference};
use super::{Account, Transfer, TransferKind};
use crate::app::new_transfer_id;
use crate::audit::{self, Action, Record};
use crate::db::{Db, DbError, Tx, again};
use crate::error::ApiError;

/// Of which time an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From when on receipts are listed.
    pub since: Timestamp,
    /// Up to when balances count; not after now.
    pub until: Timestamp,
}

impl Period {
    /// A period that has ended; without an end, it ends now, without a beginning, it has none.
    ///
    /// # Errors
    /// `INVALID_PARAM`.
    pub fn new(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let since = since.unwrap_or(Timestamp::from_micros(0));
        let until = until.unwrap_or(now);
        if until > now {
            return Err(ApiError::param("until", "must not be after now"));
        }
        if since > until {
            return Err(ApiError::param("since", "must not be after until"));
        }
        Ok(Self { since, until })
    }
}

/// What wallets are owed, signed. Changes nothing.
///
/// # Errors
/// `INVALID_PARAM` where it would be more than a file may hold.
pub async fn export(
    db: &Db,
    now: Timestamp,
    key: &SigningKey,
    period: Period,
) -> Result<PayoutFile, ApiError> {
    let mut tx = db.read().await?;
    let items = store::owed(&mut tx, period).await?;
    tx.commit().await?;
    let items = items.ok_or_else(|| {
        let message = format!("at most {MAX_RECEIPTS} receipts and {MAX_WALLETS} wallets at once");
        ApiError::param("since", message)
    })?;
    let file = PayoutFile::new(period.since, period.until, now, items);
    file.map(|file| file.signed(key)).ok_or_else(ApiError::internal)
}

/// Notes that a file was paid: all of it, or nothing. A second time changes nothing and says the same.
///
/// # Errors
/// `BAD_SIGNATURE` where the file is not one of this coordinator, `CONFLICT_STATE` where a wallet
/// holds less than the file says.
pub async fn mark(
    db: &Db,
    now: Timestamp,
    actor: &str,
    key: &SigningKey,
    file: &PayoutFile,
) -> Result<PaidOut, ApiError> {
    check(key, file)?;
    again(|| attempt(db, now, actor, file)).await?
}

fn check(key: &SigningKey, file: &PayoutFile) -> Result<(), ApiError> {
    let bad = |message: String| Err(ApiError::new(ErrorCode::BadSignature, message));
    if let Err(error) = file.verify() {
        return bad(error.to_string());
    }
    let own = signing::key_id(&key.verifying_key());
    if file.signature.as_ref().is_none_or(|signature| signature.key_id != own) {
        return bad("the file is signed by another coordinator".to_owned());
    }
    if file.items.is_empty() {
        return Err(ApiError::field("items", "there is nobody to pay"));
    }
    Ok(())
}

async fn attempt(
    db: &Db,
    now: Timestamp,
    actor: &str,
    file: &PayoutFile,
) -> Result<Result<PaidOut, ApiError>, DbError> {
    let mut tx = db.write().await?;
    let wallets = file.items.iter().map(|line| Account::Wallet(line.wallet.clone()));
    let accounts = wallets.chain([Account::PaidOut]);
    // The lock on what all payouts go to comes first: two marks of one file queue up here.
    let mut book = Book::open(&mut tx, now, accounts).await?;
    if let Some(transfer) = by_reference(&mut tx, &file.export_id).await? {
        return store::paid(&mut tx, transfer, file).await.map(Ok);
    }
    for line in &file.items {
        let held = book.balance(&Account::Wallet(line.wallet.clone())).unwrap_or(Amount::ZERO);
        if held < line.amount {
            return Ok(Err(too_little(&line.wallet, line.amount, held)));
        }
    }
    let transfer = transfer(now, file);
    let paid = PaidOut {
        export_id: file.export_id.clone(),
        transfer_id: transfer.id.to_string(),
        wallets: file.items.len() as u64,
        total: file.total,
        paid_at: now,
    };
    if book.book(transfer).is_err() {
        return Ok(Err(ApiError::field("items", "the payout leaves the range of the books")));
    }
    book.write(&mut tx, now).await?;
    record(&mut tx, now, actor, &paid).await?;
    tx.commit().await?;
    Ok(Ok(paid))
}

/// One for the whole file: it is paid as a whole.
fn transfer(now: Timestamp, file: &PayoutFile) -> Transfer {
    let from = |wallet: &Name, amount: Amount| {
        (Account::Wallet(wallet.clone()), amount.checked_neg().unwrap_or(Amount::ZERO))
    };
    let mut entries: Vec<_> =
        file.items.iter().map(|line| from(&line.wallet, line.amount)).collect();
    entries.push((Account::PaidOut, file.total));
    Transfer {
        id: new_transfer_id(now),
        kind: TransferKind::Payout,
        job_id: None,
        receipt_id: None,
        reference: Some(file.export_id.clone()),
        entries,
    }
}

async fn record(tx: &mut Tx, now: Timestamp, actor: &str, paid: &PaidOut) -> Result<(), DbError> {
    let data = json!({
        "wallets": paid.wallets, "total": paid.total, "transfer_id": paid.transfer_id,
    });
    let (action, subject) = (Action::PayOut, paid.export_id.as_str());
    audit::store::append(tx, now, Record { actor, action, subject, data }).await
}

fn too_little(wallet: &Name, needed: Amount, held: Amount) -> ApiError {
    let message = format!("wallet {wallet} holds {held} AITBC, the file says {needed}");
    ApiError::new(ErrorCode::ConflictState, message)
        .with("wallet", wallet.as_str())
        .with("needed", needed.to_string())
        .with("balance", held.to_string())
}

/// Whether a reference could be that of a payout: no deposit may have it.
pub fn is_reserved(reference: &str) -> bool {
    reference.starts_with(ID_PREFIX)
}
