//! Results that are accepted: what they are judged by, and what is stored of them.

use std::collections::HashMap;

use protocol::control::Bonus;
use protocol::id::RelativePath;
use protocol::{Amount, JobId, Name, Proof, Receipt, Sha256Hex, Timestamp, Units};
use serde_json::Value;
use uuid::Uuid;

use crate::db::{Args, DbError, Row, Rows, Tx};
use crate::ledger::Pay;
use crate::settlement::verdict::Upload;

/// A result that was accepted before.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The hash of its output.
    pub output_sha: Sha256Hex,
    /// Who did it.
    pub miner_id: Name,
    /// Whom it was credited to.
    pub wallet: Name,
    /// What the receipt states, and what the operator kept of it and added to it.
    pub pay: Pay,
    /// The metric that the bonus is for.
    pub measured: Option<Units>,
    /// The receipt.
    pub receipt: Receipt,
    /// Its hash.
    pub receipt_sha256: Sha256Hex,
    /// The transfer.
    pub transfer_id: Uuid,
}

/// A result that is accepted now.
#[derive(Debug, Clone)]
pub struct Accepted<'a> {
    /// What the miner said.
    pub proof: &'a Proof,
    /// The job.
    pub job_id: JobId,
    /// Which lease of it.
    pub fence: i64,
    /// Who did it.
    pub miner_no: i64,
    /// What is stored and answered.
    pub settled: Settled,
}

/// How a job is paid: fixed when it was submitted.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who pays.
    pub client: Name,
    /// What is set aside of its funds, if it is prepaid.
    pub hold: Option<Amount>,
    /// What the operator keeps, in hundredths of a per cent.
    pub fee_bp: u16,
    /// What the operator adds for efficient work.
    pub bonus: Option<Bonus>,
}

/// How jobs are paid.
///
/// # Errors
/// Where the database does.
pub async fn terms(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Terms>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select job_id, client_id, hold, fee_bp, bonus from jobs
         where job_id = any($1)",
        "select job_id, client_id, hold, fee_bp, bonus from jobs
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, terms_row(row)?))).collect()
}

fn terms_row(row: &Row) -> Result<Terms, DbError> {
    let hold: Amount = row.get("hold")?;
    Ok(Terms {
        client: row.parse("client_id")?,
        hold: hold.non_zero(),
        fee_bp: u16::try_from(row.get::<i16>("fee_bp")?).unwrap_or(0),
        bonus: row.json_opt("bonus")?,
    })
}

/// What was uploaded for jobs, by job and lease.
///
/// # Errors
/// Where the database does.
pub async fn uploads(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<(JobId, i64), HashMap<RelativePath, Upload>>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    let sql = tx.either(
        "select job_id, fence, path, sha256, size_bytes from artifacts
         where job_id = any($1)",
        "select job_id, fence, path, sha256, size_bytes from artifacts
         where job_id in (select value ->> 'v' from json_each($1))",
    );
    let mut uploads: HashMap<(JobId, i64), HashMap<RelativePath, Upload>> = HashMap::new();
    for row in tx.rows(sql, Args::new().with_rows(jobs)).await? {
        let size: i64 = row.get("size_bytes")?;
        let upload = Upload { sha256: row.get("sha256")?, bytes: u64::try_from(size).unwrap_or(0) };
        let lease = (row.get("job_id")?, row.get("fence")?);
        uploads.entry(lease).or_default().insert(row.parse("path")?, upload);
    }
    Ok(uploads)
}

/// Results that were accepted before.
///
/// # Errors
/// Where the database does.
pub async fn settled(
    tx: &mut Tx,
    jobs: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Settled>, DbError> {
    let jobs = Rows::list(tx.engine(), jobs);
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "select r.job_id, r.output_sha, r.wallet, r.price, r.fee, r.bonus, r.measured, r.body,
             r.receipt_sha256, r.transfer_id, m.miner_id
         from receipts r join miners m on m.miner_no = any(array[r.miner_no])
         where r.job_id = any($1)",
        "select r.job_id, r.output_sha, r.wallet, r.price, r.fee, r.bonus, r.measured, r.body,
             r.receipt_sha256, r.transfer_id, m.miner_id
         from receipts r join miners m on m.miner_no = r.miner_no
         where r.job_id in (select value ->> 'v' from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(jobs)).await?;
    rows.iter().map(|row| Ok((row.get("job_id")?, settled_row(row)?))).collect()
}

fn settled_row(row: &Row) -> Result<Settled, DbError> {
    let body: String = row.get("body")?;
    let receipt = serde_json::from_str(&body)
        .map_err(|error| DbError::Decode { column: "body", message: error.to_string() })?;
    Ok(Settled {
        output_sha: row.get("output_sha")?,
        miner_id: row.parse("miner_id")?,
        wallet: row.parse("wallet")?,
        pay: Pay { price: row.get("price")?, fee: row.get("fee")?, bonus: row.get("bonus")? },
        measured: row.get::<Option<i64>>("measured")?.map(Units::from_nanos),
        receipt,
        receipt_sha256: row.get("receipt_sha256")?,
        transfer_id: row.get("transfer_id")?,
    })
}

/// Stores results and receipts of jobs that complete; the transfers must be written before.
///
/// # Errors
/// Where the database does, for example because a receipt's id is taken.
pub async fn accept(tx: &mut Tx, now: Timestamp, accepted: &[Accepted<'_>]) -> Result<(), DbError> {
    if accepted.is_empty() {
        return Ok(());
    }
    insert_results(tx, accepted).await?;
    insert_receipts(tx, now, accepted).await
}

async fn insert_results(tx: &mut Tx, accepted: &[Accepted<'_>]) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for done in accepted {
        let metrics = Value::Object(done.proof.metrics.clone());
        rows.row()
            .set("job_id", done.job_id)
            .set("output_sha", done.settled.output_sha)
            .set("exit_code", done.proof.exit_code)
            .set("metrics", metrics)
            .set("result", done.proof.result.as_ref().map(Value::to_string))
            .done();
    }
    let sql = tx.either(
        "insert into job_results (job_id, output_sha, exit_code, metrics, result)
         select * from unnest($1, $2, $3, $4, $5)",
        "insert into job_results (job_id, output_sha, exit_code, metrics, result)
         select value ->> 'job_id', unhex(value ->> 'output_sha'), value ->> 'exit_code',
                value -> 'metrics', value ->> 'result'
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_columns(rows)).await?;
    DbError::expect("insert results", accepted.len() as u64, inserted)
}

async fn insert_receipts(
    tx: &mut Tx,
    now: Timestamp,
    accepted: &[Accepted<'_>],
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for done in accepted {
        let receipt = &done.settled.receipt;
        let body = serde_json::to_string(receipt).unwrap_or_default();
        rows.row()
            .set("receipt_id", receipt.receipt_id.as_str())
            .set("job_id", done.job_id)
            .set("fence", done.fence)
            .set("miner_no", done.miner_no)
            .set("wallet", done.settled.wallet.as_str())
            .set("client_id", receipt.client.as_str())
            .set("receipt_sha256", done.settled.receipt_sha256)
            .set("output_sha", done.settled.output_sha)
            .set("price", done.settled.pay.price)
            .set("fee", done.settled.pay.fee)
            .set("bonus", done.settled.pay.bonus)
            .set("measured", done.settled.measured.map(Units::nanos))
            .set("transfer_id", done.settled.transfer_id)
            .set("body", body)
            .done();
    }
    let sql = tx.either(
        "insert into receipts (receipt_id, job_id, fence, miner_no, wallet, client_id,
             receipt_sha256, output_sha, price, fee, bonus, measured, transfer_id, body, created_at)
         select r.*, $1
         from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) r",
        "insert into receipts (receipt_id, job_id, fence, miner_no, wallet, client_id,
             receipt_sha256, output_sha, price, fee, bonus, measured, transfer_id, body, created_at)
         select value ->> 'receipt_id', value ->> 'job_id', value ->> 'fence',
             value ->> 'miner_no', value ->> 'wallet', value ->> 'client_id',
             unhex(value ->> 'receipt_sha256'), unhex(value ->> 'output_sha'),
             value ->> 'price', value ->> 'fee', value ->> 'bonus', value ->> 'measured',
             value ->> 'transfer_id', value ->> 'body', $1
         from json_each($2)",
    );
    let inserted = tx.execute(sql, Args::new().with(now).with_columns(rows)).await?;
    DbError::expect("insert receipts", accepted.len() as u64, inserted)
}
