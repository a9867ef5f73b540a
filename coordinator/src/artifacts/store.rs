//! The SQL of files: whose artifacts and inputs are where.

use protocol::id::RelativePath;
use protocol::miner::StoredArtifact;
use protocol::{JobId, Name, Sha256Hex, Timestamp};

use super::Unclaimed;
use crate::db::{Args, DbError, Row, Tx};

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

/// Records an input of a client; `false`: the client has these bytes already.
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
               on conflict (client_id, sha256) do nothing";
    let args = Args::new()
        .with(client.as_str())
        .with(file.sha256)
        .with(file.size_bytes)
        .with(file.location())
        .with(now);
    Ok(tx.execute(sql, args).await? == 1)
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
