//! The SQL of keys, clients and idempotency.

use std::collections::{HashMap, HashSet};

use protocol::wallet::{Funding, KeyView, Scope};
use protocol::{Name, Sha256Hex, Timestamp};

use super::idempotency::{self, IdempotencyKey, StoredReply};
use super::{Binding, Minted};
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};
use crate::error::ApiError;

/// A key that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// What it is bound to.
    pub binding: Binding,
    /// Hash of its secret.
    pub secret_sha256: Sha256Hex,
    /// How many jobs its miners run at once; 1 for other keys.
    pub slots: i64,
}

/// The key of this id, unless it was revoked.
///
/// # Errors
/// Where the database fails.
pub async fn find_key(tx: &mut Tx, id: &str) -> Result<Option<StoredKey>, DbError> {
    let sql = "select k.secret_sha256, k.scope, k.client_id, k.wallet, k.miner_id,
                   (select cast(coalesce(sum(cast(m.capabilities ->> 'concurrency' as bigint)), 1)
                                as bigint)
                    from miners m
                    where m.wallet = k.wallet
                      and (k.miner_id is null or m.miner_id = k.miner_id)) as slots
               from api_keys k
               where k.key_id = $1 and k.revoked_at is null";
    let Some(row) = tx.row(sql, Args::new().with(id)).await? else { return Ok(None) };
    Ok(Some(StoredKey {
        binding: binding(&row)?,
        secret_sha256: row.get("secret_sha256")?,
        slots: row.get("slots")?,
    }))
}

fn binding(row: &Row) -> Result<Binding, DbError> {
    Ok(match row.word("scope")? {
        Scope::Client => Binding::Client { client: row.parse("client_id")? },
        Scope::Miner => {
            Binding::Miner { wallet: row.parse("wallet")?, miner_id: row.parse_opt("miner_id")? }
        }
        Scope::Admin => Binding::Admin,
    })
}

/// Adds a client, if there is none of this name; `funding` and `weight`, where stated, also change
/// one that is.
///
/// # Errors
/// Where the database fails.
pub async fn put_client(
    tx: &mut Tx,
    now: Timestamp,
    client: &Name,
    funding: Option<Funding>,
    weight: Option<u16>,
) -> Result<(), DbError> {
    let sql = "insert into clients (client_id, funding, weight, created_at)
               values ($1, 'issuance', 1, $2) on conflict (client_id) do nothing";
    tx.execute(sql, Args::new().with(client.as_str()).with(now)).await?;
    if funding.is_some() || weight.is_some() {
        let sql =
            "update clients set funding = coalesce($1, funding), weight = coalesce($2, weight)
                   where client_id = $3";
        let args = Args::new()
            .with(funding.map(Funding::as_str))
            .with(weight.map(i32::from))
            .with(client.as_str());
        tx.execute(sql, args).await?;
    }
    Ok(())
}

/// Whether there is a client whose jobs are paid by issuance.
///
/// # Errors
/// Where the database fails.
pub async fn has_issuance(tx: &mut Tx) -> Result<bool, DbError> {
    let sql = "select client_id from clients where funding = 'issuance' limit 1";
    Ok(tx.row(sql, Args::new()).await?.is_some())
}

/// Adds a key. Its client must be there; see [`put_client`].
///
/// # Errors
/// Where the database fails.
pub async fn add_key(
    tx: &mut Tx,
    now: Timestamp,
    minted: &Minted,
    scope: Scope,
    binding: &Binding,
) -> Result<(), DbError> {
    let text = |name: &Name| name.to_string();
    let (client, wallet, miner) = match binding {
        Binding::Client { client } => (Some(text(client)), None, None),
        Binding::Miner { wallet, miner_id } => {
            (None, Some(text(wallet)), miner_id.as_ref().map(text))
        }
        Binding::Admin | Binding::Open { .. } => (None, None, None),
    };
    let sql = "insert into api_keys
                   (key_id, secret_sha256, scope, client_id, wallet, miner_id, created_at)
               values ($1, $2, $3, $4, $5, $6, $7)";
    let args = Args::new()
        .with(minted.id.as_str())
        .with(minted.secret_sha256)
        .with(scope.as_str())
        .with(client)
        .with(wallet)
        .with(miner)
        .with(now);
    tx.execute(sql, args).await?;
    Ok(())
}

/// What a revocation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// The key, which works no more.
    Now,
    /// The key, which was revoked before.
    Before,
    /// No such key.
    Unknown,
}

/// Revokes a key. A second time changes nothing.
///
/// # Errors
/// Where the database fails.
pub async fn revoke_key(tx: &mut Tx, now: Timestamp, id: &str) -> Result<Revoked, DbError> {
    let sql = "update api_keys set revoked_at = $2 where key_id = $1 and revoked_at is null";
    if tx.execute(sql, Args::new().with(id).with(now)).await? == 1 {
        return Ok(Revoked::Now);
    }
    let sql = "select key_id from api_keys where key_id = $1";
    let known = tx.row(sql, Args::new().with(id)).await?.is_some();
    Ok(if known { Revoked::Before } else { Revoked::Unknown })
}

/// Those of some keys that were revoked.
///
/// # Errors
/// Where the database fails.
pub async fn revoked_among<'a>(
    tx: &mut Tx,
    ids: impl Iterator<Item = &'a str>,
) -> Result<HashSet<String>, DbError> {
    let sql = tx.either(
        "select key_id from api_keys where revoked_at is not null
         and key_id = any($1)",
        "select key_id from api_keys where revoked_at is not null
         and key_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(Rows::list(tx.engine(), ids))).await?;
    rows.iter().map(|row| row.get("key_id")).collect()
}

/// Up to `limit` keys with ids after `after`, in the order of their ids.
///
/// # Errors
/// Where the database fails.
pub async fn list_keys(tx: &mut Tx, after: &str, limit: i64) -> Result<Vec<KeyView>, DbError> {
    let sql = "select key_id, scope, client_id, wallet, miner_id, created_at, revoked_at
               from api_keys where key_id > $1 order by key_id limit $2";
    let rows = tx.rows(sql, Args::new().with(after).with(limit)).await?;
    let view = |row: &Row| {
        Ok(KeyView {
            id: row.get("key_id")?,
            scope: row.word("scope")?,
            client: row.parse_opt("client_id")?,
            wallet: row.parse_opt("wallet")?,
            miner_id: row.parse_opt("miner_id")?,
            created_at: row.get("created_at")?,
            revoked_at: row.get("revoked_at")?,
        })
    };
    rows.iter().map(view).collect()
}

/// Claims the keys for this transaction and looks up what was answered before; one outcome per
/// key, in order. `Ok(None)`: go on, and call [`finish`] before the commit.
///
/// # Errors
/// Where the database fails. Each key has its own error: `IDEMPOTENCY_IN_FLIGHT` where another
/// transaction holds it (or the list names it twice), `IDEMPOTENCY_KEY_REUSED`.
pub async fn begin(
    tx: &mut Tx,
    keys: &[&IdempotencyKey],
) -> Result<Vec<Result<Option<StoredReply>, ApiError>>, DbError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    // First the locks, in a statement of their own: the look-up's snapshot must be younger than
    // the commit of whoever held the lock before.
    let held = lock(tx, keys).await?;
    let mut stored = look_up(tx, keys).await?;
    let mut seen = HashSet::new();
    let mut outcomes = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let first = seen.insert((key.key_id.as_str(), key.route.as_str(), key.key));
        outcomes.push(match stored.remove(&index) {
            Some((body, reply)) if body == key.body => Ok(Some(reply)),
            Some(_) => Err(idempotency::reused()),
            None if first && held.contains(&key.lock_number()) => Ok(None),
            None => Err(idempotency::in_flight()),
        });
    }
    Ok(outcomes)
}

/// The numbers of the locks that this transaction holds. On SQLite, where there is one writer, all.
async fn lock(tx: &mut Tx, keys: &[&IdempotencyKey]) -> Result<HashSet<i64>, DbError> {
    let numbers: HashSet<i64> = keys.iter().map(|key| key.lock_number()).collect();
    if tx.engine() == Engine::Sqlite {
        return Ok(numbers);
    }
    let rows = Rows::list(Engine::Postgres, numbers);
    let sql = "select r.v, pg_try_advisory_xact_lock(r.v) as held
               from unnest($1) as r(v)";
    let mut held = HashSet::new();
    for row in tx.rows(sql, Args::new().with_rows(rows)).await? {
        if row.get("held")? {
            held.insert(row.get("v")?);
        }
    }
    Ok(held)
}

async fn look_up(
    tx: &mut Tx,
    keys: &[&IdempotencyKey],
) -> Result<HashMap<usize, (Sha256Hex, StoredReply)>, DbError> {
    let mut rows = Rows::new(tx.engine());
    for (index, key) in (0_i64..).zip(keys) {
        rows.row()
            .set("n", index)
            .set("key_id", key.key_id.as_str())
            .set("route", key.route.as_str())
            .set("k", key.key)
            .done();
    }
    let sql = tx.either(
        "select r.n, i.body_sha256, i.status, i.response
         from unnest($1, $2, $3, $4) as r(n, key_id, route, k)
         join idempotency i
           on i.key_id = any(array[r.key_id]) and i.route = r.route
          and i.idempotency_key = r.k",
        "select r.value ->> 'n' as n, i.body_sha256, i.status, i.response
         from json_each($1) r
         join idempotency i
           on i.key_id = r.value ->> 'key_id' and i.route = r.value ->> 'route'
          and i.idempotency_key = r.value ->> 'k'",
    );
    let mut stored = HashMap::new();
    for row in tx.rows(sql, Args::new().with_columns(rows)).await? {
        let index: i64 = row.get("n")?;
        let status: i16 = row.get("status")?;
        let reply = StoredReply {
            status: u16::try_from(status).unwrap_or(500),
            body: row.parse("response")?,
        };
        stored
            .insert(usize::try_from(index).unwrap_or(usize::MAX), (row.get("body_sha256")?, reply));
    }
    Ok(stored)
}

/// Stores the replies of keys that [`begin`] let through; those that may not be kept are skipped.
///
/// # Errors
/// Where the database fails.
pub async fn finish(
    tx: &mut Tx,
    now: Timestamp,
    replies: &[(&IdempotencyKey, StoredReply)],
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    let mut count = 0;
    for (key, reply) in replies.iter().filter(|(_, reply)| reply.may_be_kept()) {
        count += 1;
        rows.row()
            .set("key_id", key.key_id.as_str())
            .set("route", key.route.as_str())
            .set("k", key.key)
            .set("body", key.body)
            .set("status", i32::from(reply.status))
            .set("response", reply.body.to_string())
            .done();
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "insert into idempotency
             (key_id, route, idempotency_key, body_sha256, status, response, created_at)
         select r.*, $1 from unnest($2, $3, $4, $5, $6, $7) r",
        "insert into idempotency
             (key_id, route, idempotency_key, body_sha256, status, response, created_at)
         select value ->> 'key_id', value ->> 'route', value ->> 'k', unhex(value ->> 'body'),
                value ->> 'status', value ->> 'response', $1
         from json_each($2)",
    );
    let stored = tx.execute(sql, Args::new().with(now).with_columns(rows)).await?;
    DbError::expect("store idempotency keys", count, stored)
}

/// Forgets the keys that were stored before `before`; returns how many.
///
/// # Errors
/// Where the database fails.
pub async fn forget(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<u64, DbError> {
    let sql = "delete from idempotency where (key_id, route, idempotency_key) in
               (select key_id, route, idempotency_key from idempotency
                where created_at < $1 limit $2)";
    tx.execute(sql, Args::new().with(before).with(limit)).await
}
