//! Inputs that jobs name: known, and touched so that they stay.

use std::collections::HashSet;

use protocol::{Name, Sha256Hex, Timestamp};

use crate::db::{Args, DbError, Engine, Rows, Tx};
use crate::error::ApiError;
use crate::intake::Submission;

/// How old an input is at least that is touched when a job names it, in seconds: far below the
/// shortest retention, a day.
const TOUCH_SECS: i64 = 3600;

/// The inputs that jobs name and do not fetch from elsewhere.
fn named_inputs(submissions: &[&Submission]) -> HashSet<(Name, Sha256Hex)> {
    let mut named = HashSet::new();
    for submission in submissions {
        let files = &submission.draft.spec.input.files;
        for file in files.iter().filter(|file| file.url.is_none()) {
            named.insert((submission.client.clone(), file.sha256));
        }
    }
    named
}

fn input_rows(engine: Engine, inputs: &HashSet<(Name, Sha256Hex)>) -> Rows {
    let mut rows = Rows::new(engine);
    for (client, sha256) in inputs {
        rows.row().set("client_id", client.as_str()).set("sha256", sha256.to_string()).done();
    }
    rows
}

/// The inputs that jobs name are as if they had come now: what removes old ones at the same time
/// does not see these jobs.
pub(super) async fn touch_inputs(
    tx: &mut Tx,
    now: Timestamp,
    submissions: &[&Submission],
) -> Result<(), DbError> {
    let named = named_inputs(submissions);
    if named.is_empty() {
        return Ok(());
    }
    // Many jobs may name one input: its row need not be written for each.
    let sql = tx.either(
        "update inputs set created_at = $2
         from jsonb_to_recordset($1) as r(client_id text, sha256 text)
         where inputs.client_id = any(array[r.client_id])
           and inputs.sha256 = decode(r.sha256, 'hex')
           and inputs.created_at < $3",
        "update inputs set created_at = $2
         from json_each($1) r
         where inputs.client_id = r.value ->> 'client_id'
           and inputs.sha256 = unhex(r.value ->> 'sha256') and inputs.created_at < $3",
    );
    let args = Args::new()
        .with_rows(input_rows(tx.engine(), &named))
        .with(now)
        .with(now.plus_secs(-TOUCH_SECS));
    tx.execute(sql, args).await?;
    Ok(())
}

/// The inputs that jobs name and their clients have not uploaded.
pub(super) async fn unknown_inputs(
    tx: &mut Tx,
    submissions: &[&Submission],
) -> Result<HashSet<(Name, Sha256Hex)>, DbError> {
    let mut named = named_inputs(submissions);
    if named.is_empty() {
        return Ok(named);
    }
    let sql = tx.either(
        "select i.client_id, i.sha256 from inputs i
         join jsonb_to_recordset($1) as r(client_id text, sha256 text)
           on i.client_id = any(array[r.client_id]) and decode(r.sha256, 'hex') = i.sha256",
        "select i.client_id, i.sha256 from inputs i join json_each($1) r
           on r.value ->> 'client_id' = i.client_id and unhex(r.value ->> 'sha256') = i.sha256",
    );
    let rows = input_rows(tx.engine(), &named);
    for row in tx.rows(sql, Args::new().with_rows(rows)).await? {
        named.remove(&(row.parse("client_id")?, row.get("sha256")?));
    }
    Ok(named)
}

pub(super) fn check_inputs(
    submission: &Submission,
    unknown: &HashSet<(Name, Sha256Hex)>,
) -> Result<(), ApiError> {
    let client = &submission.client;
    for file in &submission.draft.spec.input.files {
        if unknown.contains(&(client.clone(), file.sha256)) {
            let message = format!("{} was not uploaded; POST /v1/inputs first", file.sha256);
            return Err(ApiError::field("input.files", message));
        }
    }
    Ok(())
}
