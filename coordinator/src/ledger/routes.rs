//! The HTTP of the ledger: balances, lines, deposits.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::wallet::{Balance, CURRENCY, Deposit, Deposited, LedgerLine, Page};
use protocol::{Amount, ErrorCode, Name, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::store::{self, Book};
use super::{Account, Transfer, TransferKind, payouts};
use crate::accounts::{Answer, Binding, Caller, once};
use crate::app::{SharedApp, new_transfer_id};
use crate::audit::{self, Action, Record};
use crate::db::Tx;
use crate::error::ApiError;
use crate::wire::{Body, Created, Params, Reply, Segments, cursor, page, page_limit};

/// The longest reference of a deposit, in bytes.
const MAX_REFERENCE: usize = 128;

/// The query of `GET /v1/wallet/balance`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Which {
    /// Another wallet than the key's own: for operators.
    wallet: Option<Name>,
}

/// `GET /v1/wallet/balance`: a miner's wallet, a client's funds; an admin may ask for any wallet.
///
/// # Errors
/// 403, 404.
pub async fn balance(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<Which>,
) -> Result<Reply<Balance>, ApiError> {
    let (wallet, account) = own_account(&caller, query.wallet)?;
    let mut tx = app.db.read().await?;
    let found = store::balance(&mut tx, &account).await?;
    tx.commit().await?;
    let by_admin = matches!(caller.binding, Binding::Admin);
    let (balance, updated_at) = match found {
        Some(found) => found,
        None if by_admin => return Err(wallet_not_found()),
        // Nothing was ever booked on it.
        None => (Amount::ZERO, app.now()),
    };
    // A credit is free at once, and an export moves nothing.
    let (pending, currency) = (Amount::ZERO, CURRENCY.to_owned());
    Ok(Reply(StatusCode::OK, Balance { wallet, balance, pending, currency, updated_at }))
}

/// The account that a caller may see.
fn own_account(caller: &Caller, asked: Option<Name>) -> Result<(Name, Account), ApiError> {
    let (own, account): (_, fn(Name) -> Account) = match &caller.binding {
        Binding::Miner { wallet, .. } => (wallet, Account::Wallet),
        Binding::Client { client } => (client, Account::Client),
        Binding::Open { wallet, .. } => {
            let wallet = asked.unwrap_or_else(|| wallet.clone());
            return Ok((wallet.clone(), Account::Wallet(wallet)));
        }
        Binding::Admin => {
            let wallet = asked.ok_or_else(|| ApiError::param("wallet", "an admin has none"))?;
            return Ok((wallet.clone(), Account::Wallet(wallet)));
        }
    };
    match asked {
        Some(asked) if asked != *own => {
            let message = "this key does not belong to that wallet";
            Err(ApiError::new(ErrorCode::WalletMismatch, message))
        }
        _ => Ok((own.clone(), account(own.clone()))),
    }
}

fn wallet_not_found() -> ApiError {
    ApiError::new(ErrorCode::WalletNotFound, "no such wallet")
}

/// The query of `GET /v1/wallet/ledger`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct List {
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// `GET /v1/wallet/ledger`: of the key's own account, newest first.
///
/// # Errors
/// 400, 403.
pub async fn lines(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<List>,
) -> Result<Reply<Page<LedgerLine>>, ApiError> {
    if matches!(caller.binding, Binding::Admin) {
        // Which is told what it lacks: an operator has no account.
        caller.wallet()?;
    }
    let (_, account) = own_account(&caller, None)?;
    let limit = page_limit(query.limit)?;
    let cursor = cursor(query.cursor.as_deref())?;
    let mut tx = app.db.read().await?;
    let lines = store::lines(&mut tx, &account, i64::from(limit) + 1, cursor).await?;
    tx.commit().await?;
    Ok(Reply(StatusCode::OK, page(lines, limit, |line| line.id.clone())))
}

/// `POST /v1/admin/wallets/{wallet}/deposit`: funds of a prepaid client.
///
/// # Errors
/// 403, 404, 409 where the reference was used, 422.
pub async fn deposit(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(client): Segments<Name>,
    body: Body<Deposit>,
) -> Result<Answer<Created<Deposited>>, ApiError> {
    caller.admin()?;
    let deposit = body.value;
    check_deposit(&deposit)?;
    let (now, key) = (app.now(), body.idempotency.as_ref());
    let mut tx = app.db.write().await?;
    if let Some(reply) = once::begin(&mut tx, key).await? {
        return Ok(Answer::Replayed(reply));
    }
    if !store::is_client(&mut tx, &client).await? {
        return Err(wallet_not_found());
    }
    let reply = pay_in(&mut tx, now, &caller.key_id, client, deposit).await?;
    let reply = once::commit(tx, now, key, StatusCode::CREATED, reply).await?;
    Ok(Answer::Fresh(Created(reply)))
}

async fn pay_in(
    tx: &mut Tx,
    now: Timestamp,
    actor: &str,
    client: Name,
    deposit: Deposit,
) -> Result<Deposited, ApiError> {
    let account = Account::Client(client.clone());
    // The lock on what all deposits come from comes first: two with one reference queue up here.
    let mut book = Book::open(tx, now, [Account::External, account.clone()]).await?;
    if let Some(transfer) = store::by_reference(tx, &deposit.reference).await? {
        let message = "a deposit with this reference was booked before";
        return Err(ApiError::new(ErrorCode::ConflictState, message)
            .with("transfer_id", transfer.to_string()));
    }
    let id = new_transfer_id(now);
    let data = json!({
        "amount": deposit.amount, "reference": deposit.reference, "transfer_id": id.to_string(),
    });
    let (from, kind) = (Account::External, TransferKind::Deposit);
    Transfer::between(id, kind, from, account.clone(), deposit.amount)
        .map(|transfer| Transfer { reference: Some(deposit.reference), ..transfer })
        .and_then(|transfer| book.book(transfer).ok())
        .ok_or_else(|| ApiError::field("amount", "is out of range"))?;
    let balance = book.balance(&account).unwrap_or(Amount::ZERO);
    book.write(tx, now).await?;
    let (action, subject) = (Action::Deposit, client.as_str());
    audit::store::append(tx, now, Record { actor, action, subject, data }).await?;
    Ok(Deposited { wallet: client, balance, transfer_id: id.to_string() })
}

fn check_deposit(deposit: &Deposit) -> Result<(), ApiError> {
    if deposit.amount <= Amount::ZERO {
        return Err(ApiError::field("amount", "must be more than 0"));
    }
    let reference = &deposit.reference;
    if reference.is_empty() || reference.len() > MAX_REFERENCE || reference.contains('\0') {
        let message = format!("must be 1 to {MAX_REFERENCE} bytes without U+0000");
        return Err(ApiError::field("reference", message));
    }
    if payouts::is_reserved(reference) {
        return Err(ApiError::field("reference", "that is the reference of a payout"));
    }
    Ok(())
}
