//! Job after job: the next one is submitted when the last has ended.

use std::time::Duration;

use axum::Router;
use axum::http::Method;
use protocol::client::{JobView, NewJob};

use crate::script::Script;
use crate::{MockError, call};

/// How often it looks whether the job has ended.
const LOOK: Duration = Duration::from_millis(200);

/// How long it waits after a job was refused.
const REST: Duration = Duration::from_secs(5);

/// Submits the script's jobs, once or for ever.
pub async fn run(router: Router, script: Script) {
    if script.jobs.is_empty() {
        return;
    }
    loop {
        for job in &script.jobs {
            if let Err(error) = one(&router, job).await {
                tracing::error!(%error, "a scripted job was refused");
                tokio::time::sleep(REST).await;
            }
        }
        if !script.repeat {
            tracing::info!("the script has ended");
            return;
        }
    }
}

async fn one(router: &Router, job: &NewJob) -> Result<(), MockError> {
    let mut view: JobView = call(router, Method::POST, "/v1/jobs", Some(job)).await?;
    tracing::info!(job = %view.job_id, workload = %view.workload, "submitted");
    let path = format!("/v1/jobs/{}", view.job_id);
    while !view.state.is_terminal() {
        tokio::time::sleep(LOOK).await;
        view = call(router, Method::GET, &path, None::<&()>).await?;
    }
    tracing::info!(job = %view.job_id, state = %view.state, "ended");
    Ok(())
}
