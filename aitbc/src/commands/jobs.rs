//! `aitbc jobs`: lists of jobs.

use clap::Args;
use protocol::client::JobView;
use protocol::{JobState, Name, Timestamp};
use serde::Deserialize;

use super::or_dash;
use crate::coordinator::calls::{self, JobFilter};
use crate::ending::{Ending, Failure};
use crate::moment;
use crate::session::{Paging, Session};

/// Lists jobs.
#[derive(Debug, Args)]
pub struct Jobs {
    /// In these states only, separated by commas: queued, running, failed, ..
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    state: Vec<JobState>,
    /// Of this workload only
    #[arg(long, value_name = "NAME")]
    workload: Option<Name>,
    /// Submitted since: a time, or an age such as 12h
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// Submitted before
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// Of all clients (admin)
    #[arg(long)]
    everybody: bool,
    /// Of this client only (admin)
    #[arg(long, value_name = "NAME", requires = "everybody")]
    client: Option<Name>,
    /// That this miner had (admin)
    #[arg(long, value_name = "ID", requires = "everybody")]
    miner: Option<Name>,
    #[command(flatten)]
    paging: Paging,
}

/// A state, in whatever case it is typed.
fn state(text: &str) -> Result<JobState, String> {
    let names: Vec<_> = JobState::ALL.iter().map(|state| state.as_str()).collect();
    text.to_uppercase().parse().map_err(|_| format!("is none of {}", names.join(", ")))
}

/// A job as either list shows it.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    client: Option<Name>,
    #[serde(flatten)]
    job: JobView,
}

impl Jobs {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let states: Vec<_> = self.state.iter().map(|state| state.as_str()).collect();
        let filter = JobFilter {
            state: (!states.is_empty()).then(|| states.join(",")),
            workload: self.workload,
            since: self.since,
            until: self.until,
            client: self.client,
            miner: self.miner,
        };
        let call = calls::jobs(&filter, self.everybody);
        let heads = ["JOB", "WORKLOAD", "STATE", "TRY", "CREATED", "MINER", "ERROR"];
        let row = |Listed { client: _, job }: Listed| cells(job);
        if !self.everybody {
            return session.list(call, &self.paging, heads, row).await;
        }
        let heads = ["CLIENT", "JOB", "WORKLOAD", "STATE", "TRY", "CREATED", "MINER", "ERROR"];
        let row = |Listed { client, job }: Listed| {
            let [id, workload, state, attempt, created, miner, error] = cells(job);
            [or_dash(client), id, workload, state, attempt, created, miner, error]
        };
        session.list(call, &self.paging, heads, row).await
    }
}

fn cells(job: JobView) -> [String; 7] {
    [
        job.job_id.to_string(),
        job.workload.to_string(),
        job.state.to_string(),
        job.attempt.to_string(),
        job.created_at.to_string(),
        or_dash(job.miner_id),
        or_dash(job.error.map(|error| error.code)),
    ]
}
