//! The SQL of files: whose artifacts and inputs are where.

use std::collections::HashSet;

use protocol::id::RelativePath;
use protocol::miner::StoredArtifact;
use protocol::{JobId, Name, Sha256Hex, Timestamp};

use super::Unclaimed;
use crate::db::{Args, DbError, Row, Rows, Tx};

/// An artifact about to be recorded.
#[derive(Debug)]
pub struct NewArtifact<'a> {
    /// Whose.
    pub job: JobId,
    /// By which lease.
    pub fence: i64,
    /// Under which path.
    pub path: &'a RelativePath,
    /// Of which media type.
    pub media_type: Option<&'a str>,
    /// The bytes.
    pub file: &'a Unclaimed,
}

/// What became of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded.
    Added(StoredArtifact),
    /// The same bytes were uploaded under this path before.
    Known(StoredArtifact),
    /// Other bytes were.
    Differs,
    /// The lease is no longer held.
    Lost,
}

/// A file to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sendable {
    /// Where the object store keeps it.
    pub location: String,
    /// Its size.
    pub size_bytes: i64,
    /// Its hash.
    pub sha256: Sha256Hex,
    /// Under which path a job left it; `None` for an input.
    pub path: Option<RelativePath>,
    /// Its media type, where its job stated one.
    pub media_type: Option<String>,
}

fn stored(row: &Row) -> Result<StoredArtifact, DbError> {
    Ok(StoredArtifact {
        artifact_id: row.get("artifact_no")?,
        path: row.parse("path")?,
        sha256: row.get("sha256")?,
        bytes: u64::try_from(row.get::<i64>("size_bytes")?).unwrap_or(0),
    })
}

/// Records an artifact, as long as its lease is the job's current one.
///
/// # Errors
/// Where the database fails.
pub async fn add(
    tx: &mut Tx,
    now: Timestamp,
    artifact: &NewArtifact<'_>,
) -> Result<Recorded, DbError> {
    if !hold(tx, artifact.job, artifact.fence).await? {
        return Ok(Recorded::Lost);
    }
    let sql = "select artifact_no, path, sha256, size_bytes from artifacts
               where job_id = $1 and fence = $2 and path = $3";
    let args = Args::new().with(artifact.job).with(artifact.fence).with(artifact.path.as_str());
    if let Some(row) = tx.row(sql, args).await? {
        let known = stored(&row)?;
        let same = known.sha256 == artifact.file.sha256;
        return Ok(if same { Recorded::Known(known) } else { Recorded::Differs });
    }
    insert(tx, now, artifact).await.map(Recorded::Added)
}

/// Locks the job against its end while it still carries this fence.
async fn hold(tx: &mut Tx, job: JobId, fence: i64) -> Result<bool, DbError> {
    let sql = tx.either(
        "select job_id from queue where job_id = $1 and fence = $2
         and state in ('ASSIGNED', 'RUNNING') for update",
        "select job_id from queue where job_id = $1 and fence = $2
         and state in ('ASSIGNED', 'RUNNING')",
    );
    Ok(tx.row(sql, Args::new().with(job).with(fence)).await?.is_some())
}

async fn insert(
    tx: &mut Tx,
    now: Timestamp,
    artifact: &NewArtifact<'_>,
) -> Result<StoredArtifact, DbError> {
    // The job is locked: nobody else counts at the same time.
    let sql = "insert into artifacts (job_id, artifact_no, fence, path, sha256, size_bytes,
                   media_type, location, created_at)
               select $1, coalesce(max(artifact_no), 0) + 1, $2, $3, $4, $5, $6, $7, $8
               from artifacts where job_id = $1
               returning artifact_no, path, sha256, size_bytes";
    let args = Args::new()
        .with(artifact.job)
        .with(artifact.fence)
        .with(artifact.path.as_str())
        .with(artifact.file.sha256)
        .with(artifact.file.size_bytes)
        .with(artifact.media_type)
        .with(artifact.file.location())
        .with(now);
    match tx.row(sql, args).await? {
        Some(row) => stored(&row),
        None => Err(DbError::Affected { what: "insert of an artifact", expected: 1, touched: 0 }),
    }
}

/// The files of a client's job that its client may have: those of the lease that was credited.
/// `None`: the client has no such job.
///
/// # Errors
/// Where the database fails.
pub async fn delivered(
    tx: &mut Tx,
    client: &Name,
    job: JobId,
) -> Result<Option<Vec<StoredArtifact>>, DbError> {
    let sql = "select a.artifact_no, a.path, a.sha256, a.size_bytes
               from jobs j
               left join receipts r on r.job_id = j.job_id
               left join artifacts a on a.job_id = j.job_id and a.fence = r.fence
               where j.job_id = $1 and j.client_id = $2
               order by a.artifact_no";
    let rows = tx.rows(sql, Args::new().with(job).with(client.as_str())).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut items = Vec::new();
    for row in &rows {
        if row.get::<Option<i64>>("artifact_no")?.is_some() {
            items.push(stored(row)?);
        }
    }
    Ok(Some(items))
}

/// One of the files of [`delivered`].
///
/// # Errors
/// Where the database fails.
pub async fn artifact(
    tx: &mut Tx,
    client: &Name,
    job: JobId,
    no: i64,
) -> Result<Option<Sendable>, DbError> {
    let sql = "select a.location, a.size_bytes, a.sha256, a.path, a.media_type
               from artifacts a
               join jobs j on j.job_id = a.job_id
               join receipts r on r.job_id = a.job_id and r.fence = a.fence
               where a.job_id = $1 and j.client_id = $2 and a.artifact_no = $3";
    let row = tx.row(sql, Args::new().with(job).with(client.as_str()).with(no)).await?;
    row.map(|row| {
        Ok(Sendable {
            location: row.get("location")?,
            size_bytes: row.get("size_bytes")?,
            sha256: row.get("sha256")?,
            path: Some(row.parse("path")?),
            media_type: row.get("media_type")?,
        })
    })
    .transpose()
}

/// Whether a client's job completed and what it left was deleted since; `None`: the client has no
/// such job.
///
/// # Errors
/// Where the database fails.
pub async fn output_was_deleted(
    tx: &mut Tx,
    client: &Name,
    job: JobId,
) -> Result<Option<bool>, DbError> {
    let sql = "select j.outcome = 'COMPLETED' and j.outcome is not null and r.job_id is null
                   as deleted
               from jobs j left join job_results r on r.job_id = j.job_id
               where j.job_id = $1 and j.client_id = $2";
    let row = tx.row(sql, Args::new().with(job).with(client.as_str())).await?;
    row.map(|row| Ok(row.get::<Option<bool>>("deleted")?.unwrap_or(false))).transpose()
}

/// Of these places in the store, those that a row names.
///
/// # Errors
/// Where the database fails.
pub async fn named(tx: &mut Tx, locations: &[String]) -> Result<HashSet<String>, DbError> {
    let places = Rows::list(tx.engine(), locations.iter().map(String::as_str));
    let sql = tx.either(
        "select r.v as location from unnest($1) as r(v)
         where exists (select 1 from artifacts a where a.location = r.v)
            or exists (select 1 from inputs i where i.location = r.v)",
        "select r.value ->> 'v' as location from json_each($1) r
         where exists (select 1 from artifacts a where a.location = r.value ->> 'v')
            or exists (select 1 from inputs i where i.location = r.value ->> 'v')",
    );
    let rows = tx.rows(sql, Args::new().with_rows(places)).await?;
    rows.iter().map(|row| row.get("location")).collect()
}

/// The mark of the store that has the files; the first to come sets it.
///
/// # Errors
/// Where the database fails.
pub async fn mark(
    tx: &mut Tx,
    now: Timestamp,
    first: Option<&str>,
) -> Result<Option<String>, DbError> {
    if let Some(first) = first {
        let sql = "insert into stores (one, mark, made_at) values ($1, $2, $3)
                   on conflict (one) do nothing";
        tx.execute(sql, Args::new().with(true).with(first).with(now)).await?;
    }
    let row = tx.row("select mark from stores", Args::new()).await?;
    row.map(|row| row.get("mark")).transpose()
}

/// Records an input of a client; `false`: the client has these bytes already, and they are as if
/// they had come now.
///
/// # Errors
/// Where the database fails.
pub async fn add_input(
    tx: &mut Tx,
    now: Timestamp,
    client: &Name,
    file: &Unclaimed,
) -> Result<bool, DbError> {
    let sql = "insert into inputs (client_id, sha256, size_bytes, location, created_at)
               values ($1, $2, $3, $4, $5)
               on conflict (client_id, sha256) do update set created_at = excluded.created_at
               returning location";
    let args = Args::new()
        .with(client.as_str())
        .with(file.sha256)
        .with(file.size_bytes)
        .with(file.location())
        .with(now);
    let row = tx.row(sql, args).await?;
    let location: Option<String> = row.map(|row| row.get("location")).transpose()?;
    Ok(location.as_deref() == Some(file.location()))
}

/// Removes at most `limit` inputs from before `before` that no live job of their client names;
/// returns where their files are.
///
/// # Errors
/// Where the database fails.
pub async fn remove_old_inputs(
    tx: &mut Tx,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<String>, DbError> {
    // All inputs of live jobs at once, rather than all live jobs for each input. The age is looked at
    // again where a row was waited for: a job may have named it meanwhile.
    let sql = tx.either(
        "with named as materialized (
             select distinct j.client_id, decode(f ->> 'sha256', 'hex') as sha256
             from queue q
             join jobs j on j.job_id = q.job_id
             join job_specs s on s.job_id = q.job_id
             cross join jsonb_array_elements(s.spec -> 'input' -> 'files') f
             where exists (select 1 from inputs where created_at < $1))
         delete from inputs where (client_id, sha256) in (
             select i.client_id, i.sha256 from inputs i
             left join named n on n.client_id = i.client_id and n.sha256 = i.sha256
             where i.created_at < $1 and n.sha256 is null order by i.created_at limit $2)
           and created_at < $1
         returning location",
        "with named as materialized (
             select distinct j.client_id, unhex(f.value ->> 'sha256') as sha256
             from queue q
             join jobs j on j.job_id = q.job_id
             join job_specs s on s.job_id = q.job_id
             cross join json_each(s.spec, '$.input.files') f
             where exists (select 1 from inputs where created_at < $1))
         delete from inputs where (client_id, sha256) in (
             select i.client_id, i.sha256 from inputs i
             left join named n on n.client_id = i.client_id and n.sha256 = i.sha256
             where i.created_at < $1 and n.sha256 is null order by i.created_at limit $2)
           and created_at < $1
         returning location",
    );
    let rows = tx.rows(sql, Args::new().with(before).with(limit)).await?;
    rows.iter().map(|row| row.get("location")).collect()
}

/// An input of a client.
///
/// # Errors
/// Where the database fails.
pub async fn input(
    tx: &mut Tx,
    client: &Name,
    sha256: Sha256Hex,
) -> Result<Option<Sendable>, DbError> {
    let sql = "select location, size_bytes, sha256 from inputs
               where client_id = $1 and sha256 = $2";
    let row = tx.row(sql, Args::new().with(client.as_str()).with(sha256)).await?;
    row.map(|row| {
        Ok(Sendable {
            location: row.get("location")?,
            size_bytes: row.get("size_bytes")?,
            sha256: row.get("sha256")?,
            path: None,
            media_type: None,
        })
    })
    .transpose()
}

/// The client of a job that names an input, where one of the caller's miners holds that job.
/// `wallet` and `miner` narrow down whose leases count.
///
/// # Errors
/// Where the database fails.
pub async fn client_of_named(
    tx: &mut Tx,
    wallet: Option<&Name>,
    miner: Option<&Name>,
    sha256: Sha256Hex,
) -> Result<Option<Name>, DbError> {
    let sql = tx.either(
        "select j.client_id
         from miners m
         join queue q on q.miner_no = m.miner_no and q.state in ('ASSIGNED', 'RUNNING')
         join job_specs s on s.job_id = q.job_id
         join jobs j on j.job_id = q.job_id
         where ($1::text is null or m.wallet = $1) and ($2::text is null or m.miner_id = $2)
           and exists (select 1 from jsonb_array_elements(s.spec -> 'input' -> 'files') f
                       where f ->> 'sha256' = $3)
         limit 1",
        "select j.client_id
         from miners m
         join queue q on q.miner_no = m.miner_no and q.state in ('ASSIGNED', 'RUNNING')
         join job_specs s on s.job_id = q.job_id
         join jobs j on j.job_id = q.job_id
         where ($1 is null or m.wallet = $1) and ($2 is null or m.miner_id = $2)
           and exists (select 1 from json_each(s.spec, '$.input.files') f
                       where f.value ->> 'sha256' = $3)
         limit 1",
    );
    let text = |name: Option<&Name>| name.map(|name| name.as_str().to_owned());
    let args = Args::new().with(text(wallet)).with(text(miner)).with(sha256.to_string());
    tx.row(sql, args).await?.map(|row| row.parse("client_id")).transpose()
}
