//! SQL of the history: what is appended, what is read by those who follow, who they are.

use std::collections::{HashMap, HashSet};

use protocol::event::JobEvent;
use protocol::miner::LogChunk;
use protocol::{JobId, JobState, Name, Timestamp};

use super::{Event, Piece, showable, told};
use crate::db::{Args, DbError, Engine, Row, Rows, Tx};

/// How many events of a job are read at once.
const EVENTS: i64 = 16;

/// With how much text before it an event is still read with the others, in bytes. A text is at most
/// as long: twice this is what a read of a job takes.
const TEXT: i64 = 64 * 1024;

/// Appends events.
///
/// # Errors
/// Where the database refuses them; a number that is taken is a fault of ours.
pub async fn append(tx: &mut Tx, events: &[Event]) -> Result<(), DbError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for event in events {
        rows.row()
            .set("job_id", event.job_id)
            .set("seq", event.seq)
            .set("at", event.at)
            .set("kind", event.kind)
            .set("data", event.data.clone())
            .done();
    }
    let sql = tx.either(
        "insert into job_events (job_id, seq, at, kind, data)
         select * from unnest($2, $3, $4, $5, $6)
         returning job_id, exists (select 1 from followers f where f.job_id = job_events.job_id
             and f.until > job_events.at and f.replica <> $1) as elsewhere",
        // There is no other replica.
        "insert into job_events (job_id, seq, at, kind, data)
         select value ->> 'job_id', value ->> 'seq', value ->> 'at', value ->> 'kind', value -> 'data'
         from json_each($2)
         returning job_id, $1 is null as elsewhere",
    );
    let args = Args::new().with(tx.replica()).with_columns(rows);
    let appended = tx.rows(sql, args).await?;
    for row in &appended {
        tx.changed(row.get("job_id")?, row.get("elsewhere")?);
    }
    DbError::expect("append events", events.len() as u64, appended.len() as u64)
}

/// Makes events of what was withheld of the logs of attempts that are now paid: jobs with their
/// lease and the number of their last event. Returns these numbers where they changed.
///
/// # Errors
/// Where the database does.
pub async fn hand_out_logs(
    tx: &mut Tx,
    now: Timestamp,
    paid: impl Iterator<Item = (JobId, i64, i32)>,
) -> Result<HashMap<JobId, i32>, DbError> {
    let mut rows = Rows::new(tx.engine());
    for (job_id, fence, event_seq) in paid {
        rows.row().set("job_id", job_id).set("fence", fence).set("event_seq", event_seq).done();
    }
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = tx.either(
        "insert into job_events (job_id, seq, at, kind, data)
         select l.job_id, r.event_seq + row_number() over (partition by l.job_id order by l.seq),
                $1, 'log', jsonb_build_object('fence', l.fence, 'stream', l.stream, 'chunk', l.seq,
                    'from', l.withheld_from, 'to', octet_length(l.body))
         from unnest($2, $3, $4) as r(job_id, fence, event_seq)
         join job_logs l on l.job_id = any(array[r.job_id]) and l.fence = r.fence
         where l.withheld_from is not null
         returning job_id, seq",
        "insert into job_events (job_id, seq, at, kind, data)
         select l.job_id, (r.value ->> 'event_seq')
                    + row_number() over (partition by l.job_id order by l.seq),
                $1, 'log', json_object('fence', l.fence, 'stream', l.stream, 'chunk', l.seq,
                    'from', l.withheld_from, 'to', octet_length(l.body))
         from json_each($2) r
         join job_logs l on l.job_id = r.value ->> 'job_id' and l.fence = r.value ->> 'fence'
         where l.withheld_from is not null
         returning job_id, seq",
    );
    let mut last: HashMap<JobId, i32> = HashMap::new();
    for row in tx.rows(sql, Args::new().with(now).with_columns(rows)).await? {
        let (job, seq) = (row.get("job_id")?, row.get::<i32>("seq")?);
        let last = last.entry(job).or_insert(seq);
        *last = seq.max(*last);
    }
    Ok(last)
}

/// What became of a chunk of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// It is stored, now or before.
    Kept,
    /// The attempt has logged as much as it may.
    Full,
    /// The lease is not the job's any more.
    Lost,
}

/// Beside its text, what a chunk of a log counts, in bytes: a million empty chunks are not free,
/// and those that are withheld become events in one transaction.
const CHUNK_COST: i64 = 1024;

/// Appends to the log of an attempt, up to `cap` bytes, and to the job's history what may be shown
/// of it; a chunk that is there already is left as it is.
///
/// # Errors
/// Where the database fails.
pub async fn append_log(
    tx: &mut Tx,
    now: Timestamp,
    (job, fence): (JobId, i64),
    chunk: &LogChunk,
    cap: i64,
) -> Result<Logged, DbError> {
    let Some(last) = lock(tx, job, fence).await? else { return Ok(Logged::Lost) };
    let sql = "select cast(coalesce(sum(octet_length(body) + $3), 0) as bigint) as used,
                   cast(coalesce(sum(coalesce(withheld_from, octet_length(body))), 0) as bigint)
                       as shown,
                   count(withheld_from) > 0 as withheld
               from job_logs where job_id = $1 and fence = $2";
    let args = Args::new().with(job).with(fence).with(CHUNK_COST);
    let Some(row) = tx.row(sql, args).await? else { return Ok(Logged::Lost) };
    let used: i64 = row.get("used")?;
    let size = i64::try_from(chunk.text.len()).unwrap_or(i64::MAX);
    if used.saturating_add(size).saturating_add(CHUNK_COST) > cap {
        return Ok(Logged::Full);
    }
    let shown = usize::try_from(row.get::<i64>("shown")?).unwrap_or(usize::MAX);
    let to = showable(&chunk.text, shown, row.get("withheld")?);
    if insert_log(tx, now, (job, fence), chunk, to).await? && to > 0 {
        let seq = last + 1;
        let sql = "update queue set event_seq = $2 where job_id = $1";
        tx.execute(sql, Args::new().with(job).with(seq)).await?;
        let piece = Piece { fence, chunk: chunk.seq, to };
        append(tx, &[Event::log(job, seq, now, chunk.stream.as_str(), piece)]).await?;
    }
    Ok(Logged::Kept)
}

/// Locks a job that still carries this fence; the number of its last event.
async fn lock(tx: &mut Tx, job: JobId, fence: i64) -> Result<Option<i32>, DbError> {
    let sql = tx.either(
        "select event_seq from queue where job_id = $1 and fence = $2 for update",
        "select event_seq from queue where job_id = $1 and fence = $2",
    );
    let row = tx.row(sql, Args::new().with(job).with(fence)).await?;
    row.map(|row| row.get("event_seq")).transpose()
}

/// `false`: the chunk was there.
async fn insert_log(
    tx: &mut Tx,
    now: Timestamp,
    (job, fence): (JobId, i64),
    chunk: &LogChunk,
    shown: usize,
) -> Result<bool, DbError> {
    let withheld = (shown < chunk.text.len()).then_some(shown);
    let sql = "insert into job_logs (job_id, fence, seq, stream, at, body, withheld_from)
               values ($1, $2, $3, $4, $5, $6, $7)
               on conflict (job_id, fence, seq) do nothing";
    let args = Args::new()
        .with(job)
        .with(fence)
        .with(chunk.seq)
        .with(chunk.stream.as_str())
        .with(now)
        .with(chunk.text.as_str())
        .with(withheld.map(|from| i32::try_from(from).unwrap_or(i32::MAX)));
    Ok(tx.execute(sql, args).await? == 1)
}

/// Where a job's history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether nothing will be added.
    pub ended: bool,
    /// The number of its last event.
    pub last: u32,
}

/// Where the history of a client's job stands, of anybody's where no client is named; `None`: there
/// is no such job.
///
/// # Errors
/// Where the database fails.
pub async fn standing(
    tx: &mut Tx,
    client: Option<&Name>,
    job: JobId,
) -> Result<Option<Standing>, DbError> {
    let sql = "select j.client_id, j.outcome,
                   (select max(e.seq) from job_events e where e.job_id = j.job_id) as last
               from jobs j where j.job_id = $1";
    let Some(row) = tx.row(sql, Args::new().with(job)).await? else { return Ok(None) };
    let owner: Name = row.parse("client_id")?;
    if client.is_some_and(|client| *client != owner) {
        return Ok(None);
    }
    let ended = row.parse_opt::<JobState>("outcome")?.is_some();
    let last = row.get::<Option<i32>>("last")?.unwrap_or(0);
    Ok(Some(Standing { ended, last: u32::try_from(last).unwrap_or(0) }))
}

/// From where on somebody wants to know a job's events.
pub type From = (JobId, u32);

fn wanted(engine: Engine, from: &[From]) -> Rows {
    let mut rows = Rows::new(engine);
    for (no, (job, after)) in from.iter().enumerate() {
        let no = i64::try_from(no).unwrap_or(i64::MAX);
        rows.row().set("no", no).set("job_id", *job).set("after", i64::from(*after)).done();
    }
    rows
}

/// The next events after each of these, in order: some at a time, at least one where there is any.
///
/// # Errors
/// Where the database fails.
pub async fn read(tx: &mut Tx, from: &[From]) -> Result<Vec<Vec<JobEvent>>, DbError> {
    // Numbers have no gaps: what a limit per job would be is a range.
    let sql = tx.either(
        "select no, seq, at, kind, data, body from (
             select r.no, e.seq, e.at, e.kind, e.data, l.body,
                 sum(octet_length(l.body)) over (partition by r.no order by e.seq
                     rows between unbounded preceding and 1 preceding) as text_before
             from jsonb_to_recordset($1) as r(no bigint, job_id uuid, after bigint)
             join job_events e on e.job_id = any(array[r.job_id])
                 and e.seq > r.after and e.seq <= r.after + $2
             left join job_logs l on e.kind = 'log' and l.job_id = any(array[e.job_id])
                 and l.fence = (e.data ->> 'fence')::bigint and l.seq = (e.data ->> 'chunk')::bigint
         ) next where coalesce(text_before, 0) < $3
         order by no, seq",
        "select no, seq, at, kind, data, body from (
             select cast(r.value ->> 'no' as integer) as no, e.seq, e.at, e.kind, e.data, l.body,
                 sum(octet_length(l.body)) over (partition by r.value ->> 'no' order by e.seq
                     rows between unbounded preceding and 1 preceding) as text_before
             from json_each($1) r
             join job_events e on e.job_id = r.value ->> 'job_id' and e.seq > r.value ->> 'after'
                 and e.seq <= (r.value ->> 'after') + $2
             left join job_logs l on e.kind = 'log' and l.job_id = e.job_id
                 and l.fence = e.data ->> 'fence' and l.seq = e.data ->> 'chunk'
         ) next where coalesce(text_before, 0) < $3
         order by no, seq",
    );
    let args = Args::new().with_rows(wanted(tx.engine(), from)).with(EVENTS).with(TEXT);
    let mut found = vec![Vec::new(); from.len()];
    for row in &tx.rows(sql, args).await? {
        let no = usize::try_from(row.get::<i64>("no")?).unwrap_or(usize::MAX);
        if let Some(events) = found.get_mut(no) {
            events.push(event(row)?);
        }
    }
    Ok(found)
}

fn event(row: &Row) -> Result<JobEvent, DbError> {
    let kind: String = row.get("kind")?;
    let body: Option<String> = row.get("body")?;
    let what = told(&kind, row.get("data")?, body.as_deref())
        .map_err(|error| DbError::Decode { column: "data", message: error.to_string() })?;
    let seq = u32::try_from(row.get::<i32>("seq")?).unwrap_or(0);
    Ok(JobEvent { seq, at: row.get("at")?, what })
}

/// Which of these have something to read.
///
/// # Errors
/// Where the database fails.
pub async fn with_news(tx: &mut Tx, from: &[From]) -> Result<HashSet<JobId>, DbError> {
    let sql = tx.either(
        "select r.job_id from jsonb_to_recordset($1) as r(no bigint, job_id uuid, after bigint)
         where (select 1 from job_events e where e.job_id = r.job_id
                and e.seq = r.after + 1) is not null",
        "select r.value ->> 'job_id' as job_id from json_each($1) r
         where (select 1 from job_events e where e.job_id = r.value ->> 'job_id'
                and e.seq = (r.value ->> 'after') + 1) is not null",
    );
    let rows = tx.rows(sql, Args::new().with_rows(wanted(tx.engine(), from))).await?;
    rows.iter().map(|row| row.get("job_id")).collect()
}

/// Tells the other replicas that somebody follows these jobs at this one.
///
/// # Errors
/// Where the database fails.
pub async fn announce(tx: &mut Tx, jobs: &[JobId], until: Timestamp) -> Result<(), DbError> {
    let replica = tx.replica();
    let jobs = Rows::list(tx.engine(), jobs.iter().copied());
    let sql = tx.either(
        "insert into followers (job_id, replica, until)
         select distinct v, $2, $3 from unnest($1) as r(v)
         on conflict (job_id, replica) do update set until = excluded.until",
        "insert into followers (job_id, replica, until)
         select distinct value ->> 'v', $2, $3 from json_each($1) where true
         on conflict (job_id, replica) do update set until = excluded.until",
    );
    tx.execute(sql, Args::new().with_rows(jobs).with(replica).with(until)).await?;
    Ok(())
}

/// Forgets followers that went away.
///
/// # Errors
/// Where the database fails.
pub async fn forget_followers(tx: &mut Tx, now: Timestamp) -> Result<u64, DbError> {
    tx.execute("delete from followers where until < $1", Args::new().with(now)).await
}
