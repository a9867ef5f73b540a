//! The HTTP of jobs, as their clients use it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use protocol::client::{
    BatchItem, BatchReply, Canceled, JobResult, JobView, NewBatch, NewJob, Quote,
};
use protocol::wallet::Page;
use protocol::why::JobWhy;
use protocol::{ErrorBody, ErrorCode, JobId, Name};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::listing::OwnJobs;
use super::store::{self, Filter};
use crate::accounts::{Answer, Caller, IdempotencyKey, StoredReply, once};
use crate::app::{App, SharedApp};
use crate::dispatch::why;
use crate::error::ApiError;
use crate::intake::{self, Draft, Submission};
use crate::settlement;
use crate::wire::{self, Body, Bodyless, Created, Either, JobPath, Params, Reply, answered};

/// The query of `POST /v1/jobs`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Submit {
    /// Only say what the job would cost, and who could run it.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /v1/jobs`.
///
/// # Errors
/// 402, 403, 422, 503.
pub async fn submit(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<Submit>,
    body: Body<NewJob>,
) -> Result<Either<Reply<Quote>, Answer<Created<JobView>>>, ApiError> {
    let client = caller.client()?;
    if query.dry_run {
        let draft = app.intake.draft(client, body.value)?;
        let quote = quote(&app, client, draft).await?;
        return Ok(Either::Left(Reply(StatusCode::OK, quote)));
    }
    let answer = take_in(&app, client, body.value, body.idempotency).await?;
    Ok(Either::Right(answered(answer, Created)))
}

async fn take_in(
    app: &App,
    client: &Name,
    job: NewJob,
    idempotency: Option<IdempotencyKey>,
) -> Result<Answer<JobView>, ApiError> {
    let draft = app.intake.draft(client, job)?;
    if draft.require_now
        && let Some((reach, nobody)) = why::unable(app, &draft.needs)
    {
        // A repeat of what was taken in when there was one is answered as it was then.
        let mut tx = app.db.write().await?;
        if let Some(reply) = once::begin(&mut tx, idempotency.as_ref()).await? {
            return Ok(Answer::Replayed(reply));
        }
        let reach = serde_json::to_value(reach).unwrap_or_default();
        return Err(ApiError::new(ErrorCode::NoEligibleMiner, nobody).with("why", reach));
    }
    app.intake.submit(Submission { client: client.clone(), draft, idempotency }).await
}

/// What the job would cost, and who could run it now; an error where it would be refused.
async fn quote(app: &App, client: &Name, draft: Draft) -> Result<Quote, ApiError> {
    let submission = Submission { client: client.clone(), draft, idempotency: None };
    intake::check(app, &submission).await?;
    let draft = submission.draft;
    Ok(Quote {
        unit_type: draft.spec.price.unit_type,
        unit_price: draft.spec.price.unit_price,
        hold: draft.hold,
        why: why::reach(app, &draft.needs).await?,
    })
}

/// `POST /v1/jobs/batch`: one outcome per job.
///
/// # Errors
/// 403, 422 where the batch itself is malformed.
pub async fn batch(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<NewBatch>,
) -> Result<Reply<BatchReply>, ApiError> {
    let client = caller.client()?;
    let key = body.idempotency.as_ref();
    let submits = body.value.jobs.into_iter().enumerate().map(|(index, job)| {
        let key = key
            .map(|key| IdempotencyKey { route: format!("{}#{index}", key.route), ..key.clone() });
        submit_item(&app, client, job, key)
    });
    let items = futures_util::future::join_all(submits).await;
    Ok(Reply(StatusCode::OK, BatchReply { items }))
}

async fn submit_item(
    app: &App,
    client: &Name,
    job: Box<RawValue>,
    key: Option<IdempotencyKey>,
) -> BatchItem {
    let outcome = match wire::parse(job.get().as_bytes()) {
        Ok(job) => take_in(app, client, job, key).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(Answer::Fresh(job)) => BatchItem { status: 201, job: Some(job), error: None },
        Ok(Answer::Replayed(reply)) => replayed_item(reply),
        Err(error) => {
            BatchItem { status: error.code.status(), job: None, error: Some(error.detail()) }
        }
    }
}

fn replayed_item(StoredReply { status, body }: StoredReply) -> BatchItem {
    match serde_json::from_value::<ErrorBody>(body.clone()) {
        Ok(ErrorBody { error }) => BatchItem { status, job: None, error: Some(error) },
        Err(_) => BatchItem { status, job: serde_json::from_value(body).ok(), error: None },
    }
}

/// `GET /v1/jobs/{id}`.
///
/// # Errors
/// 403, 404.
pub async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<JobView>, ApiError> {
    let job = own(&app, &caller, job).await?;
    Ok(Reply(StatusCode::OK, job))
}

/// A job of this caller; another client's is not found.
async fn own(app: &App, caller: &Caller, job: JobId) -> Result<JobView, ApiError> {
    let filter =
        Filter { client: Some(caller.client()?.clone()), job: Some(job), ..Filter::default() };
    let mut tx = app.db.read().await?;
    let found = store::views(&mut tx, &filter, 1).await?;
    tx.commit().await?;
    found.into_iter().next().map(|listed| listed.view).ok_or_else(ApiError::job_not_found)
}

/// `GET /v1/jobs`: newest first.
///
/// # Errors
/// 400, 403.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<OwnJobs>,
) -> Result<Reply<Page<JobView>>, ApiError> {
    let Page { items, next } = query.of(caller.client()?.clone()).page(&app).await?;
    let items = items.into_iter().map(|job| job.view).collect();
    Ok(Reply(StatusCode::OK, Page { items, next }))
}

/// `GET /v1/jobs/{id}/result`.
///
/// # Errors
/// 403, 404 (also where it was deleted), 425.
pub async fn result(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<JobResult>, ApiError> {
    let view = own(&app, &caller, job).await?;
    if !view.state.is_terminal() {
        let message = format!("the job has not ended: {}", view.state);
        return Err(
            ApiError::new(ErrorCode::JobNotReady, message).with("state", view.state.as_str())
        );
    }
    if !view.result_available {
        return Err(ApiError::new(ErrorCode::NotFound, "the result was deleted"));
    }
    let mut tx = app.db.read().await?;
    let output = store::output(&mut tx, job).await?;
    tx.commit().await?;
    let (output_sha, exit_code, metrics, result) = match output {
        Some(output) => (Some(output.output_sha), output.exit_code, output.metrics, output.result),
        None => Default::default(),
    };
    let JobView { state, artifacts, error, .. } = view;
    let reply =
        JobResult { job_id: job, state, output_sha, result, exit_code, metrics, artifacts, error };
    Ok(Reply(StatusCode::OK, reply))
}

/// `GET /v1/jobs/{id}/why`.
///
/// # Errors
/// 404.
pub async fn explain(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<Reply<JobWhy>, ApiError> {
    Ok(Reply(StatusCode::OK, why::job(&app, &caller, job).await?))
}

/// `POST /v1/jobs/{id}/cancel`.
///
/// # Errors
/// 403, 404, 409.
pub async fn cancel(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    body: Bodyless,
) -> Result<Answer<Reply<Canceled>>, ApiError> {
    let answer = settlement::cancel(&app, caller.client()?, job, body.idempotency).await?;
    Ok(answered(answer, |view| Reply(StatusCode::OK, view)))
}

/// `DELETE /v1/jobs/{id}`: what a finished job left; its receipt and its ledger entries stay.
///
/// # Errors
/// 403, 404, 409.
pub async fn remove(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
) -> Result<NoContent, ApiError> {
    let view = own(&app, &caller, job).await?;
    if !view.state.is_terminal() {
        let message = "only a job that has ended can be deleted; cancel it first";
        return Err(
            ApiError::new(ErrorCode::ConflictState, message).with("state", view.state.as_str())
        );
    }
    let mut tx = app.db.write().await?;
    let files = store::remove_output(&mut tx, &[job]).await?;
    tx.commit().await?;
    app.artifacts.remove(&files).await;
    Ok(NoContent)
}
