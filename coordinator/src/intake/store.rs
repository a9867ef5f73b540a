//! SQL of intake: a batch of jobs in a handful of set-based statements.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use protocol::client::JobView;
use protocol::job::SlotKind;
use protocol::{Amount, ErrorCode, JobId, JobState, Name, Sha256Hex, Timestamp};
use serde_json::json;

use super::rank::{Place, Share};
use super::{Draft, Submission};
use crate::app;
use crate::config::Config;
use crate::controls::{self, InForce};
use crate::db::{Args, DbError, Engine, Row as DbRow, Rows, Tx};
use crate::dispatch::Dispatch;
use crate::dispatch::matching::Needs;
use crate::error::ApiError;
use crate::events::{self, Event};
use crate::ledger::store::Book;
use crate::ledger::{self, Account, Transfer, TransferKind};

/// The two numbers of the advisory lock on what may be issued; controls have the first number 2.
const BUDGET_LOCK: (i32, i32) = (3, 0);

/// How old an input is at least that is touched when a job names it, in seconds: far below the
/// shortest retention, a day.
const TOUCH_SECS: i64 = 3600;

/// What came of a batch.
pub(super) struct Taken {
    /// One outcome per submission, in order.
    pub views: Vec<Result<JobView, ApiError>>,
    /// Classes that have a new job.
    pub classes: BTreeSet<i32>,
    /// Classes that did not exist before.
    pub new_classes: Vec<(i32, Needs)>,
}

/// By what a batch is taken in.
pub(super) struct Rules<'a> {
    pub now: Timestamp,
    pub config: &'a Config,
    pub in_force: &'a InForce,
}

/// A client, locked.
struct Client {
    prepaid: bool,
    cpu: Share,
    gpu: Share,
    /// Jobs in the queue and at work, where somebody wants to know.
    live: u64,
    /// Jobs submitted today.
    today: u64,
}

/// What may still be issued today, where there is a cap.
struct Budget {
    cap: Amount,
    /// Issued today, or promised to live jobs.
    spent: Amount,
}

/// A job that goes in.
struct Row<'a> {
    id: JobId,
    class_id: i32,
    place: Place,
    hold: Amount,
    /// The most that paying it can issue.
    issue_most: Amount,
    draft: &'a Draft,
}

pub(super) async fn take_in(
    tx: &mut Tx,
    rules: &Rules<'_>,
    dispatch: &Dispatch,
    submissions: &[&Submission],
) -> Result<Taken, DbError> {
    let Rules { now, config, in_force } = *rules;
    if !in_force.takes_in() {
        return Ok(Taken::nothing(submissions.len(), now));
    }
    let mut clients = lock_clients(tx, rules, submissions).await?;
    touch_inputs(tx, now, submissions).await?;
    let unknown_inputs = unknown_inputs(tx, submissions).await?;
    let (class_ids, new_classes) = intern(tx, now, config, submissions).await?;
    let served = served(tx, now, dispatch, &class_ids, submissions).await?;
    let mut budget = Budget::open(tx, rules).await?;
    let mut book = open_book(tx, now, &clients, submissions).await?;

    let mut rows = Vec::with_capacity(submissions.len());
    let mut views = Vec::with_capacity(submissions.len());
    for submission in submissions {
        let draft = &submission.draft;
        let admitted = clients
            .get_mut(&submission.client)
            .ok_or_else(|| ApiError::new(ErrorCode::UnauthorizedKey, "the client is gone"))
            .and_then(|client| {
                in_force
                    .admits(&submission.client, client.live, client.today)
                    .map_err(|refusal| refusal.to_error(now))?;
                let class_id = *class_ids.get(&draft.needs.digest()).ok_or_else(class_limit)?;
                check_inputs(submission, &unknown_inputs)?;
                let id = app::new_job_id(now);
                let hold = if client.prepaid { draft.hold } else { Amount::ZERO };
                let issue_most = issue_most(draft, client.prepaid)?;
                let spent = budget.as_ref().map(|b| b.with(issue_most, now)).transpose()?;
                if client.prepaid {
                    set_aside(&mut book, now, id, submission)?;
                }
                if let (Some(budget), Some(spent)) = (&mut budget, spent) {
                    budget.spent = spent;
                }
                client.live += 1;
                client.today += 1;
                let place = client.share(draft.needs.slot).next(
                    served.get(&class_id).copied().unwrap_or(now.micros()),
                    draft.max_runtime_s,
                    draft.priority,
                );
                Ok(Row { id, class_id, place, hold, issue_most, draft })
            });
        views.push(admitted.map(|row| {
            let view = view(&row);
            rows.push(row);
            view
        }));
    }
    insert_jobs(tx, &rows).await?;
    insert_queue(tx, &rows).await?;
    let submitted = |row: &Row<'_>| {
        let more = json!({ "attempt": 1 });
        Event::state(row.id, 1, now, JobState::Queued, more)
    };
    events::store::append(tx, &rows.iter().map(submitted).collect::<Vec<_>>()).await?;
    save_clients(tx, now, &clients).await?;
    book.write(tx, now).await?;
    let classes = rows.iter().map(|row| row.class_id).collect();
    Ok(Taken { views, classes, new_classes })
}

impl Client {
    const fn share(&mut self, kind: SlotKind) -> &mut Share {
        match kind {
            SlotKind::Cpu => &mut self.cpu,
            SlotKind::Gpu => &mut self.gpu,
        }
    }
}

impl Taken {
    /// Of a batch that comes while nothing is taken in.
    fn nothing(count: usize, now: Timestamp) -> Self {
        let refused = || Err(controls::Refusal::Paused.to_error(now));
        let views = (0..count).map(|_| refused()).collect();
        Self { views, classes: BTreeSet::new(), new_classes: Vec::new() }
    }
}

impl Budget {
    /// Reads what is spent; nobody else spends until the transaction ends. Without a cap nothing is
    /// read.
    async fn open(tx: &mut Tx, rules: &Rules<'_>) -> Result<Option<Self>, DbError> {
        if rules.in_force.daily_cap().is_some() && tx.engine() == Engine::Postgres {
            // In a statement of its own: the look's snapshot must be younger than the lock.
            let sql = "select pg_advisory_xact_lock($1, $2)";
            tx.rows(sql, Args::new().with(BUDGET_LOCK.0).with(BUDGET_LOCK.1)).await?;
        }
        Self::look(tx, rules).await
    }

    /// Reads what is spent, for somebody who does not spend.
    async fn look(tx: &mut Tx, rules: &Rules<'_>) -> Result<Option<Self>, DbError> {
        let Some(cap) = rules.in_force.daily_cap() else { return Ok(None) };
        // In one statement: a job that is paid meanwhile counts on one side, and on one only.
        let sql =
            "select cast(coalesce((select sum(issue_most) from jobs where outcome is null), 0)
                       + coalesce((select day_opening - balance from accounts
                                   where name = 'issuance' and updated_at >= $1), 0)
                       as bigint) as spent";
        let today = Timestamp::of_day(rules.now.day());
        let row = tx.row(sql, Args::new().with(today)).await?;
        let spent = row.map_or(Ok(Amount::ZERO), |row| row.get("spent"))?;
        Ok(Some(Self { cap, spent }))
    }

    /// What is spent with a job that can issue so much.
    fn with(&self, issue_most: Amount, now: Timestamp) -> Result<Amount, ApiError> {
        let spent = self.spent.checked_add(issue_most);
        match spent.filter(|spent| issue_most == Amount::ZERO || *spent <= self.cap) {
            Some(spent) => Ok(spent),
            None => {
                let message = "what may be issued today is spent, or promised to jobs that are not \
                               finished";
                Err(ApiError::new(ErrorCode::DailyCapReached, message)
                    .with("needed", issue_most.to_string())
                    .with("retry_after_secs", controls::secs_to_midnight(now)))
            }
        }
    }
}

/// The most that paying a job can issue: all of it, or the bonus alone where it is paid in.
fn issue_most(draft: &Draft, prepaid: bool) -> Result<Amount, ApiError> {
    let bonus = draft.bonus.map_or(Amount::ZERO, |bonus| bonus.most(draft.most));
    let price = if prepaid { Amount::ZERO } else { draft.most };
    price.checked_add(bonus).ok_or_else(|| {
        ApiError::field("limits", "the most that the job could cost is out of range")
    })
}

/// Looks whether a job could be taken in now; nothing is locked or written.
pub(super) async fn check(
    tx: &mut Tx,
    rules: &Rules<'_>,
    submission: &Submission,
) -> Result<Result<(), ApiError>, DbError> {
    let unknown = unknown_inputs(tx, &[submission]).await?;
    let sql = "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs
               from clients where client_id = $1";
    let name = &submission.client;
    let row = tx.row(sql, Args::new().with(name.as_str())).await?;
    let mut clients: BTreeMap<Name, Client> =
        row.iter().map(|row| client(row, rules)).collect::<Result<_, _>>()?;
    count_live(tx, rules.in_force, &mut clients).await?;
    let budget = Budget::look(tx, rules).await?;
    let Some(client) = clients.get(name) else { return Ok(Ok(())) };
    let balance = match client.prepaid {
        true => ledger::store::balance(tx, &Account::Client(name.clone())).await?,
        false => None,
    };
    let balance = balance.map_or(Amount::ZERO, |(balance, _)| balance);
    let draft = &submission.draft;
    Ok((|| {
        let admitted = rules.in_force.admits(name, client.live, client.today);
        admitted.map_err(|refusal| refusal.to_error(rules.now))?;
        check_inputs(submission, &unknown)?;
        if let Some(budget) = budget {
            budget.with(issue_most(draft, client.prepaid)?, rules.now)?;
        }
        if client.prepaid { check_funds(draft.hold, balance) } else { Ok(()) }
    })())
}

fn check_funds(hold: Amount, balance: Amount) -> Result<(), ApiError> {
    if balance >= hold {
        return Ok(());
    }
    let message = format!("the job could cost {hold} AITBC, {balance} are left");
    Err(ApiError::new(ErrorCode::InsufficientFunds, message)
        .with("needed", hold.to_string())
        .with("balance", balance.to_string()))
}

/// Where jobs of the batch's classes are handed out now: what was handed out last, else the first
/// that waits; for a class without jobs the same of its kind of slot.
async fn served(
    tx: &mut Tx,
    now: Timestamp,
    dispatch: &Dispatch,
    class_ids: &HashMap<Sha256Hex, i32>,
    submissions: &[&Submission],
) -> Result<HashMap<i32, i64>, DbError> {
    let mut levels = HashMap::new();
    let mut unknown: BTreeMap<i32, SlotKind> = BTreeMap::new();
    for submission in submissions {
        let needs = &submission.draft.needs;
        let Some(class) = class_ids.get(&needs.digest()) else { continue };
        match dispatch.served(*class) {
            Some(rank) => drop(levels.insert(*class, rank)),
            None => drop(unknown.insert(*class, needs.slot)),
        }
    }
    for (class, rank) in first_of(tx, unknown.keys().copied()).await? {
        unknown.remove(&class);
        levels.insert(class, rank);
    }
    let mut by_kind: Vec<(SlotKind, i64)> = Vec::new();
    for (class, kind) in unknown {
        let found = by_kind.iter().find(|(of, _)| *of == kind).map(|(_, rank)| *rank);
        let rank = match found.or_else(|| dispatch.served_kind(kind)) {
            Some(rank) => rank,
            None => start_of(tx, now, kind).await?,
        };
        by_kind.push((kind, rank));
        levels.insert(class, rank);
    }
    Ok(levels)
}

/// The lowest rank that waits in each of some classes. One probe of an index for each.
async fn first_of(
    tx: &mut Tx,
    classes: impl IntoIterator<Item = i32>,
) -> Result<Vec<(i32, i64)>, DbError> {
    let classes = Rows::list(tx.engine(), classes);
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.either(
        "select * from (
             select r.v as class_id, (select min(q.rank) from queue q
                 where q.class_id = r.v and q.state = 'QUEUED') as foremost
             from jsonb_to_recordset($1) as r(v int)) by_class
         where foremost is not null",
        "select * from (
             select c.class_id, (select min(q.rank) from queue q
                 where q.class_id = c.class_id and q.state = 'QUEUED') as foremost
             from classes c where c.class_id in (select value ->> 'v' from json_each($1))) by_class
         where foremost is not null",
    );
    let rows = tx.rows(sql, Args::new().with_rows(classes)).await?;
    rows.iter().map(|row| Ok((row.get("class_id")?, row.get("foremost")?))).collect()
}

/// Where a kind of slot starts of which nothing was handed out here: at the first that waits, else
/// now. Where nothing of it waits, what clients used may run ahead of the clock: all of them start
/// at the end of that, so that none stands in front for having come last. It looks at all clients,
/// but only until the first of these jobs is in the queue.
async fn start_of(tx: &mut Tx, now: Timestamp, kind: SlotKind) -> Result<i64, DbError> {
    let sql = "select min(foremost) as foremost from (
                   select (select min(q.rank) from queue q
                           where q.class_id = c.class_id and q.state = 'QUEUED') as foremost
                   from classes c where c.needs ->> 'slot' = $1) by_class
               where foremost is not null";
    let row = tx.row(sql, Args::new().with(kind.as_str())).await?;
    let first: Option<i64> = row.map_or(Ok(None), |row| row.get("foremost"))?;
    if let Some(first) = first {
        return Ok(first);
    }
    let sql = match kind {
        SlotKind::Cpu => "select max(last_rank) as last from clients",
        SlotKind::Gpu => "select max(last_gpu_rank) as last from clients",
    };
    let row = tx.row(sql, Args::new()).await?;
    let last: Option<i64> = row.map_or(Ok(None), |row| row.get("last"))?;
    Ok(now.micros().max(last.unwrap_or(0)))
}

fn class_limit() -> ApiError {
    ApiError::new(
        ErrorCode::Overloaded,
        "too many different requirements are waiting; use those of other jobs, or try later",
    )
    .with("retry_after_secs", 60)
}

fn view(row: &Row<'_>) -> JobView {
    let spec = &row.draft.spec;
    JobView {
        job_id: row.id,
        workload: spec.workload.clone(),
        state: JobState::Queued,
        attempt: 1,
        progress: None,
        priority: row.draft.priority,
        price: spec.price.clone(),
        created_at: spec.created_at,
        started_at: None,
        finished_at: None,
        expires_at: spec.expires_at,
        miner_id: None,
        error: None,
        result_available: false,
        artifacts: Vec::new(),
        receipt_id: None,
    }
}

async fn lock_clients(
    tx: &mut Tx,
    rules: &Rules<'_>,
    submissions: &[&Submission],
) -> Result<BTreeMap<Name, Client>, DbError> {
    let names: BTreeSet<&str> = submissions.iter().map(|s| s.client.as_str()).collect();
    let names = Rows::list(tx.engine(), names);
    let sql = tx.either(
        "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs from clients
         where client_id in (select v from jsonb_to_recordset($1) as r(v text))
         order by client_id for no key update",
        "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs from clients
         where client_id in (select value ->> 'v' from json_each($1))",
    );
    let mut clients = BTreeMap::new();
    for row in tx.rows(sql, Args::new().with_rows(names)).await? {
        let (name, client) = client(&row, rules)?;
        clients.insert(name, client);
    }
    count_live(tx, rules.in_force, &mut clients).await?;
    Ok(clients)
}

/// A client as its row has it; its live jobs are not counted yet.
fn client(row: &DbRow, rules: &Rules<'_>) -> Result<(Name, Client), DbError> {
    let name: Name = row.parse("client_id")?;
    let today = row.get::<i32>("day")? == rules.now.day();
    let submitted = u64::try_from(row.get::<i32>("day_jobs")?).unwrap_or(0);
    let weight = match rules.in_force.weight_of(&name) {
        Some(weight) => i64::from(weight),
        None => i64::from(row.get::<i32>("weight")?),
    };
    let client = Client {
        prepaid: row.get::<String>("funding")? == "prepaid",
        cpu: Share { weight, last_rank: row.get("last_rank")?, forgone: row.get("forgone_rank")? },
        gpu: Share {
            weight,
            last_rank: row.get("last_gpu_rank")?,
            forgone: row.get("forgone_gpu_rank")?,
        },
        live: 0,
        today: if today { submitted } else { 0 },
    };
    Ok((name, client))
}

/// Counts the live jobs of those for whom that matters. They are locked: until the transaction ends
/// their live jobs become no more.
async fn count_live(
    tx: &mut Tx,
    in_force: &InForce,
    clients: &mut BTreeMap<Name, Client>,
) -> Result<(), DbError> {
    let counted = clients.keys().filter(|name| in_force.counts_live_jobs(name));
    let names = Rows::list(tx.engine(), counted.map(Name::as_str));
    if names.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "select client_id, count(*) as live from jobs where outcome is null
         and client_id in (select v from jsonb_to_recordset($1) as r(v text)) group by client_id",
        "select client_id, count(*) as live from jobs where outcome is null
         and client_id in (select value ->> 'v' from json_each($1)) group by client_id",
    );
    for row in tx.rows(sql, Args::new().with_rows(names)).await? {
        let name: Name = row.parse("client_id")?;
        if let Some(client) = clients.get_mut(&name) {
            client.live = u64::try_from(row.get::<i64>("live")?).unwrap_or(0);
        }
    }
    Ok(())
}

async fn save_clients(
    tx: &mut Tx,
    now: Timestamp,
    clients: &BTreeMap<Name, Client>,
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for (name, client) in clients {
        rows.row()
            .set("client_id", name.as_str())
            .set("last_rank", client.cpu.last_rank)
            .set("last_gpu_rank", client.gpu.last_rank)
            .set("forgone_rank", client.cpu.forgone)
            .set("forgone_gpu_rank", client.gpu.forgone)
            .set("day_jobs", i32::try_from(client.today).unwrap_or(i32::MAX))
            .done();
    }
    let sql = tx.either(
        "update clients c set last_rank = r.last_rank, last_gpu_rank = r.last_gpu_rank,
             forgone_rank = r.forgone_rank, forgone_gpu_rank = r.forgone_gpu_rank,
             day = $2, day_jobs = r.day_jobs
         from jsonb_to_recordset($1) as r(client_id text, last_rank bigint, last_gpu_rank bigint,
             forgone_rank bigint, forgone_gpu_rank bigint, day_jobs int)
         where c.client_id = r.client_id",
        "update clients set last_rank = r.value ->> 'last_rank',
             last_gpu_rank = r.value ->> 'last_gpu_rank',
             forgone_rank = r.value ->> 'forgone_rank',
             forgone_gpu_rank = r.value ->> 'forgone_gpu_rank',
             day = $2, day_jobs = r.value ->> 'day_jobs'
         from json_each($1) r where client_id = r.value ->> 'client_id'",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now.day())).await?;
    Ok(())
}

/// A job was canceled that nobody had: its client's share gets back what it took, as far as nothing
/// stands behind it.
///
/// # Errors
/// Where the database does.
pub async fn give_back(tx: &mut Tx, job: JobId) -> Result<(), DbError> {
    let sql = "select client_id, slot, rank_cost from jobs where job_id = $1";
    let Some(row) = tx.row(sql, Args::new().with(job)).await? else { return Ok(()) };
    let (client, slot): (String, String) = (row.get("client_id")?, row.get("slot")?);
    let cost: i64 = row.get("rank_cost")?;
    let gpu = slot == SlotKind::Gpu.as_str();
    // Nobody reserves anything until the transaction ends.
    let sql = match (gpu, tx.engine()) {
        (false, Engine::Postgres) => {
            "select last_rank as last, forgone_rank as forgone from clients
             where client_id = $1 for no key update"
        }
        (true, Engine::Postgres) => {
            "select last_gpu_rank as last, forgone_gpu_rank as forgone from clients
             where client_id = $1 for no key update"
        }
        (false, Engine::Sqlite) => {
            "select last_rank as last, forgone_rank as forgone from clients where client_id = $1"
        }
        (true, Engine::Sqlite) => {
            "select last_gpu_rank as last, forgone_gpu_rank as forgone from clients
             where client_id = $1"
        }
    };
    let Some(row) = tx.row(sql, Args::new().with(client.as_str())).await? else { return Ok(()) };
    let (last_rank, forgone) = (row.get("last")?, row.get("forgone")?);
    // The weight is in the cost already.
    let mut share = Share { weight: 1, last_rank, forgone };
    let sql = "select coalesce(max(reserved_rank), 0) as live from jobs
               where client_id = $1 and slot = $2 and outcome is null";
    let row = tx.row(sql, Args::new().with(client.as_str()).with(slot)).await?;
    share.give_back(cost, row.map_or(Ok(0), |row| row.get("live"))?);
    let sql = if gpu {
        "update clients set last_gpu_rank = $2, forgone_gpu_rank = $3 where client_id = $1"
    } else {
        "update clients set last_rank = $2, forgone_rank = $3 where client_id = $1"
    };
    tx.execute(sql, Args::new().with(client).with(share.last_rank).with(share.forgone)).await?;
    Ok(())
}

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
async fn touch_inputs(
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
         where inputs.client_id = r.client_id and inputs.sha256 = decode(r.sha256, 'hex')
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
async fn unknown_inputs(
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
           on r.client_id = i.client_id and decode(r.sha256, 'hex') = i.sha256",
        "select i.client_id, i.sha256 from inputs i join json_each($1) r
           on r.value ->> 'client_id' = i.client_id and unhex(r.value ->> 'sha256') = i.sha256",
    );
    let rows = input_rows(tx.engine(), &named);
    for row in tx.rows(sql, Args::new().with_rows(rows)).await? {
        named.remove(&(row.parse("client_id")?, row.get("sha256")?));
    }
    Ok(named)
}

fn check_inputs(
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

/// Finds the classes of all needs, making those that are missing while there is room: for all
/// clients together, and for each.
async fn intern(
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
         where digest in (select decode(v, 'hex') from jsonb_to_recordset($1) as r(v text))
         for key share",
        "select class_id, digest from classes
         where digest in (select unhex(value ->> 'v') from json_each($1))",
    );
    let rows = tx.rows(sql, Args::new().with_rows(digests)).await?;
    rows.iter().map(|row| Ok((row.get("digest")?, row.get("class_id")?))).collect()
}

async fn open_book(
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
fn set_aside(
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

async fn insert_jobs(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    let mut specs = Rows::new(tx.engine());
    for job in jobs {
        let spec = &job.draft.spec;
        rows.row()
            .set("job_id", job.id)
            .set("client_id", spec.client.as_str())
            .set("workload", spec.workload.as_str())
            .set("class_id", job.class_id)
            .set("unit_type", spec.price.unit_type.as_str())
            .set("unit_price", spec.price.unit_price)
            .set("max_price", spec.price.max_price)
            .set("hold", job.hold)
            .set("fee_bp", i32::from(job.draft.fee_bp))
            .set("bonus", job.draft.bonus.map(|bonus| json!(bonus)))
            .set("issue_most", job.issue_most)
            .set("slot", job.draft.needs.slot.as_str())
            .set("rank_cost", job.place.cost)
            .set("reserved_rank", job.place.reserved)
            .set("priority", i32::from(job.draft.priority))
            .set("created_at", spec.created_at)
            .set("expires_at", spec.expires_at)
            .done();
        let document = serde_json::to_value(spec).unwrap_or_default();
        specs.row().set("job_id", job.id).set("spec", document).done();
    }
    let sql = tx.either(
        "insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price, max_price,
                           hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                           priority, created_at, expires_at)
         select job_id, client_id, workload, class_id, unit_type, unit_price, max_price,
                hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                           priority, created_at, expires_at
         from jsonb_to_recordset($1) as r(job_id uuid, client_id text, workload text, class_id int,
             unit_type text, unit_price bigint, max_price bigint, hold bigint, fee_bp smallint,
             bonus jsonb, issue_most bigint, slot text, rank_cost bigint,
             reserved_rank bigint, priority smallint, created_at timestamptz,
             expires_at timestamptz)",
        "insert into jobs (job_id, client_id, workload, class_id, unit_type, unit_price, max_price,
                           hold, fee_bp, bonus, issue_most, slot, rank_cost, reserved_rank,
                           priority, created_at, expires_at)
         select value ->> 'job_id', value ->> 'client_id', value ->> 'workload',
                value ->> 'class_id', value ->> 'unit_type', value ->> 'unit_price',
                value ->> 'max_price', value ->> 'hold', value ->> 'fee_bp', value ->> 'bonus',
                value ->> 'issue_most', value ->> 'slot', value ->> 'rank_cost',
                value ->> 'reserved_rank', value ->> 'priority',
                value ->> 'created_at', value ->> 'expires_at'
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_rows(rows)).await?;
    DbError::expect("insert jobs", jobs.len() as u64, inserted)?;
    let sql = tx.either(
        "insert into job_specs (job_id, spec)
         select job_id, spec from jsonb_to_recordset($1) as r(job_id uuid, spec jsonb)",
        "insert into job_specs (job_id, spec)
         select value ->> 'job_id', value -> 'spec' from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_rows(specs)).await?;
    DbError::expect("insert job specs", jobs.len() as u64, inserted)
}

async fn insert_queue(tx: &mut Tx, jobs: &[Row<'_>]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for job in jobs {
        rows.row()
            .set("job_id", job.id)
            .set("class_id", job.class_id)
            .set("rank", job.place.rank)
            .set("expires_at", job.draft.spec.expires_at)
            .set("max_attempts", i32::try_from(job.draft.max_attempts).unwrap_or(1))
            .set("max_runtime_s", i32::try_from(job.draft.max_runtime_s).unwrap_or(i32::MAX))
            .done();
    }
    let sql = tx.either(
        "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts, max_runtime_s,
                            event_seq)
         select job_id, class_id, rank, 'QUEUED', expires_at, max_attempts, max_runtime_s, 1
         from jsonb_to_recordset($1) as r(job_id uuid, class_id int, rank bigint,
             expires_at timestamptz, max_attempts smallint, max_runtime_s int)",
        "insert into queue (job_id, class_id, rank, state, expires_at, max_attempts, max_runtime_s,
                            event_seq)
         select value ->> 'job_id', value ->> 'class_id', value ->> 'rank', 'QUEUED',
                value ->> 'expires_at', value ->> 'max_attempts', value ->> 'max_runtime_s', 1
         from json_each($1)",
    );
    let inserted = tx.execute(sql, Args::new().with_rows(rows)).await?;
    DbError::expect("insert into queue", jobs.len() as u64, inserted)
}
