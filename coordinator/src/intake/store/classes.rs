//! Requirements, interned: their classes, found or made while there is room.

use std::collections::{BTreeMap, HashMap};

use protocol::{ErrorCode, Name, Sha256Hex, Timestamp};

use crate::config::Config;
use crate::db::{Args, DbError, Rows, Tx};
use crate::dispatch::matching::Needs;
use crate::error::ApiError;
use crate::intake::Submission;

/// Finds the classes of all needs, making those that are missing while there is room: for all
/// clients together, and for each.
pub(super) async fn intern(
    tx: &mut Tx,
    now: Timestamp,
    config: &Config,
    submissions: &[&Submission],
) -> Result<(HashMap<Sha256Hex, i32>, Vec<(i32, Needs)>), DbError> {
    let wanted: BTreeMap<Sha256Hex, (&Needs, &Name)> =
        submissions.iter().map(|s| (s.draft.needs.digest(), (&s.draft.needs, &s.client))).collect();
    let mut known = find_classes(tx, wanted.keys()).await?;
    let missing: Vec<_> = wanted.iter().filter(|(digest, _)| !known.contains_key(digest)).collect();
    if missing.is_empty() {
        return Ok((known, Vec::new()));
    }
    let mut live = live_classes(tx).await?;
    let mut all: i64 = live.values().sum();
    let mut rows = Rows::new(tx.engine());
    for (digest, (needs, client)) in &missing {
        let own = live.entry(client.to_string()).or_default();
        if all >= config.limits.classes || *own >= config.limits.classes_per_client {
            continue;
        }
        all += 1;
        *own += 1;
        rows.row()
            .set("digest", digest.to_string())
            .set("client_id", client.as_str())
            .set("needs", serde_json::to_value(needs).unwrap_or_default())
            .done();
    }
    if rows.is_empty() {
        return Ok((known, Vec::new()));
    }
    let sql = tx.either(
        "insert into classes (digest, client_id, needs, created_at)
         select decode(digest, 'hex'), client_id, needs, $2
         from jsonb_to_recordset($1) as r(digest text, client_id text, needs jsonb)
         order by digest on conflict (digest) do nothing",
        "insert into classes (digest, client_id, needs, created_at)
         select unhex(value ->> 'digest'), value ->> 'client_id', value -> 'needs', $2
         from json_each($1) where true on conflict (digest) do nothing",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    let made = find_classes(tx, missing.iter().map(|(digest, _)| *digest)).await?;
    let new =
        made.iter().filter_map(|(digest, id)| Some((*id, wanted.get(digest)?.0.clone()))).collect();
    known.extend(made);
    Ok((known, new))
}

/// How many classes each client brought up.
async fn live_classes(tx: &mut Tx) -> Result<HashMap<String, i64>, DbError> {
    let sql = "select client_id, count(*) as n from classes group by client_id";
    let rows = tx.rows(sql, Args::new()).await?;
    rows.iter().map(|row| Ok((row.get("client_id")?, row.get("n")?))).collect()
}

async fn find_classes(
    tx: &mut Tx,
    digests: impl Iterator<Item = &Sha256Hex>,
) -> Result<HashMap<Sha256Hex, i32>, DbError> {
    let digests = Rows::list(tx.engine(), digests.map(Sha256Hex::to_string));
    // The lock keeps the sweeper from removing a class that is about to be used.
    let sql = tx.either(
        "select class_id, digest from classes
         where digest in (select decode(v, 'hex') from unnest($1) as r(v))
         for key share",
        "select class_id, digest from classes
         where digest in (select unhex(value ->> 'v') from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(digests)).await?;
    rows.iter().map(|row| Ok((row.get("digest")?, row.get("class_id")?))).collect()
}

pub(super) fn class_limit() -> ApiError {
    ApiError::new(
        ErrorCode::Overloaded,
        "too many different requirements are waiting; use those of other jobs, or try later",
    )
    .with("retry_after_secs", 60)
}
