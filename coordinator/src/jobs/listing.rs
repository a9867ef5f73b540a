//! Which jobs somebody wants to see: the queries of the lists, and their pages.

use protocol::wallet::Page;
use protocol::{JobId, JobState, Name, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::store::{self, Filter, Listed};
use crate::app::App;
use crate::error::ApiError;
use crate::wire::{page, page_limit};

/// The query of `GET /v1/jobs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnJobs {
    /// Only jobs in these states, with commas between them.
    state: Option<String>,
    /// Only jobs of this workload.
    workload: Option<Name>,
    /// Only jobs that were submitted then or later.
    since: Option<Timestamp>,
    /// Only jobs that were submitted before.
    until: Option<Timestamp>,
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<JobId>,
}

/// The query of `GET /v1/admin/jobs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllJobs {
    /// Only jobs in these states, with commas between them.
    state: Option<String>,
    /// Only jobs of this workload.
    workload: Option<Name>,
    /// Only jobs of this client.
    client: Option<Name>,
    /// Only jobs that were leased to this miner at some time.
    miner: Option<Name>,
    /// Only jobs that were submitted then or later.
    since: Option<Timestamp>,
    /// Only jobs that were submitted before.
    until: Option<Timestamp>,
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<JobId>,
}

impl OwnJobs {
    /// The jobs of a client.
    pub fn of(self, client: Name) -> AllJobs {
        let Self { state, workload, since, until, limit, cursor } = self;
        let client = Some(client);
        AllJobs { state, workload, client, miner: None, since, until, limit, cursor }
    }
}

impl AllJobs {
    /// A page of them, newest first.
    ///
    /// # Errors
    /// 400, or where the database fails.
    pub async fn page(self, app: &App) -> Result<Page<Listed>, ApiError> {
        let limit = page_limit(self.limit)?;
        let filter = Filter {
            client: self.client,
            job: None,
            states: states(self.state.as_deref())?,
            workload: self.workload,
            miner: self.miner,
            since: self.since,
            until: self.until,
            before: self.cursor,
        };
        let mut tx = app.db.read().await?;
        let jobs = store::views(&mut tx, &filter, u64::from(limit) + 1).await?;
        tx.commit().await?;
        Ok(page(jobs, limit, |job| job.view.job_id.to_string()))
    }
}

/// `RUNNING`, or several with commas between them.
fn states(text: Option<&str>) -> Result<Vec<JobState>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let state = |word: &str| {
        word.trim().parse().map_err(|_| ApiError::param("state", format!("`{word}` is no state")))
    };
    let mut states = text.split(',').map(state).collect::<Result<Vec<JobState>, _>>()?;
    states.sort_by_key(|state| state.as_str());
    states.dedup();
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_a_list_without_repeats() {
        assert_eq!(states(None), Ok(vec![]));
        assert_eq!(
            states(Some("RUNNING,FAILED, RUNNING")),
            Ok(vec![JobState::Failed, JobState::Running])
        );
        for bad in ["", "running", "RUNNING,", "X"] {
            assert!(states(Some(bad)).is_err(), "{bad}");
        }
    }
}
