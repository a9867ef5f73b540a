//! SQL of intake: a batch of jobs in a handful of set-based statements.

mod budget;
mod classes;
mod clients;
mod funds;
mod inputs;
mod jobs;
mod shares;

use std::collections::BTreeMap;

use budget::{Budget, issue_most};
pub use budget::{fold_promises, promise};
use classes::class_limit;
use clients::Client;
use jobs::Row;
use protocol::client::JobView;
use protocol::{Amount, ErrorCode, JobState, Name, Timestamp};
use serde_json::json;
pub use shares::give_back;

use super::Submission;
use crate::app;
use crate::config::Config;
use crate::controls::{self, InForce};
use crate::db::{Args, DbError, Tx};
use crate::dispatch::Dispatch;
use crate::dispatch::matching::Needs;
use crate::error::ApiError;
use crate::events::{self, Event};
use crate::ledger::{self, Account};

/// What came of a batch.
pub(super) struct Taken {
    /// One outcome per submission, in order.
    pub views: Vec<Result<JobView, ApiError>>,
    /// The classes and ranks of new jobs.
    pub queued: Vec<(i32, i64)>,
    /// Classes that did not exist before.
    pub new_classes: Vec<(i32, Needs)>,
}

/// By what a batch is taken in.
pub(super) struct Rules<'a> {
    pub now: Timestamp,
    pub config: &'a Config,
    pub in_force: &'a InForce,
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
    let mut clients = clients::lock_clients(tx, rules, submissions).await?;
    inputs::touch_inputs(tx, now, submissions).await?;
    let unknown_inputs = inputs::unknown_inputs(tx, submissions).await?;
    let (class_ids, new_classes) = classes::intern(tx, now, config, submissions).await?;
    let served = shares::served(tx, now, dispatch, &class_ids, submissions).await?;
    let mut budget = Budget::open(tx, rules).await?;
    let mut book = funds::open_book(tx, now, &clients, submissions).await?;

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
                inputs::check_inputs(submission, &unknown_inputs)?;
                let id = app::new_job_id(now);
                let hold = if client.prepaid { draft.hold } else { Amount::ZERO };
                let issue_most = issue_most(draft, client.prepaid)?;
                let spent = budget.as_ref().map(|b| b.with(issue_most, now)).transpose()?;
                if client.prepaid {
                    funds::set_aside(&mut book, now, id, submission)?;
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
    jobs::insert(tx, &rows).await?;
    promise(tx, rows.iter().map(|row| row.issue_most)).await?;
    let submitted = |row: &Row<'_>| {
        let more = json!({ "attempt": 1 });
        Event::state(row.id, 1, now, JobState::Queued, more)
    };
    events::store::append(tx, &rows.iter().map(submitted).collect::<Vec<_>>()).await?;
    clients::save_clients(tx, now, &clients).await?;
    book.write(tx, now).await?;
    let queued = rows.iter().map(|row| (row.class_id, row.place.rank)).collect();
    Ok(Taken { views, queued, new_classes })
}

impl Taken {
    /// Of a batch that comes while nothing is taken in.
    fn nothing(count: usize, now: Timestamp) -> Self {
        let refused = || Err(controls::Refusal::Paused.to_error(now));
        let views = (0..count).map(|_| refused()).collect();
        Self { views, queued: Vec::new(), new_classes: Vec::new() }
    }
}

/// Looks whether a job could be taken in now; nothing is locked or written.
pub(super) async fn check(
    tx: &mut Tx,
    rules: &Rules<'_>,
    submission: &Submission,
) -> Result<Result<(), ApiError>, DbError> {
    let unknown = inputs::unknown_inputs(tx, &[submission]).await?;
    let sql = "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs
               from clients where client_id = $1";
    let name = &submission.client;
    let row = tx.row(sql, Args::new().with(name.as_str())).await?;
    let mut clients: BTreeMap<Name, Client> =
        row.iter().map(|row| clients::client(row, rules)).collect::<Result<_, _>>()?;
    clients::count_live(tx, rules.in_force, &mut clients).await?;
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
        inputs::check_inputs(submission, &unknown)?;
        if let Some(budget) = budget {
            budget.with(issue_most(draft, client.prepaid)?, rules.now)?;
        }
        if client.prepaid { funds::check_funds(draft.hold, balance) } else { Ok(()) }
    })())
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
