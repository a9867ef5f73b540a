//! The client of the fleet: submits many small jobs.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use protocol::JobId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::times::Times;
use super::wire::Wire;
use super::{FleetError, Plan, World, calls, until};

/// Over how many connections jobs are submitted at a pace, so that one that waits for its answer holds
/// up none that is due: a coordinator takes so many batches of one key at once.
const CLIENTS: usize = 4;

/// What is read of a reply: the simulation needs no more.
#[derive(Deserialize)]
struct Batch {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    job: Option<Taken>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Taken {
    job_id: JobId,
}

pub(super) struct Client {
    wire: Wire,
}

impl Client {
    pub(super) fn new(world: &World) -> Result<Self, FleetError> {
        let wire = Wire::new(&world.endpoint, &world.client_key);
        let wire = wire.map_err(|error| FleetError::Wire { what: "connecting", error })?;
        Ok(Self { wire })
    }

    /// Submits all jobs as fast as it goes.
    pub(super) async fn submit_all(
        &mut self,
        plan: &Plan,
        times: &Times,
    ) -> Result<(), FleetError> {
        let mut first = 0;
        while first < plan.jobs {
            let some = plan.batch.min(plan.jobs - first);
            let now = Instant::now();
            self.submit(plan, first..first + some, |_| now, times).await?;
            first += some;
        }
        Ok(())
    }

    /// Submits what is due by turns with others of its kind, until all is submitted.
    async fn submit_what_is_due(
        mut self,
        plan: &Plan,
        pace: &Pace,
        times: &Times,
    ) -> Result<(), FleetError> {
        while let Some(Due { jobs, late }) = pace.wait(plan).await {
            let now = Instant::now();
            // Of what waited for others to be taken, the time since it was due is the coordinator's;
            // how exactly somebody here wakes up is not.
            let since = |number| if late { pace.moment(number) } else { now };
            self.submit(plan, jobs, since, times).await?;
        }
        Ok(())
    }

    async fn submit(
        &mut self,
        plan: &Plan,
        numbers: Range<usize>,
        since: impl Fn(usize) -> Instant,
        times: &Times,
    ) -> Result<(), FleetError> {
        let jobs: Vec<_> = numbers
            .clone()
            .map(|number| {
                json!({
                    "workload": "hash", "input": {"inline": {"text": "fleet"}},
                    "priority": number % usize::from(plan.priorities.max(1)),
                    "ttl_seconds": 86_400,
                })
            })
            .collect();
        let reply = self.wire.post(calls::SUBMIT, &json!({ "jobs": jobs })).await;
        let Batch { items } =
            reply.map_err(|error| FleetError::Wire { what: "submitting jobs", error })?;
        let refused = items.iter().find_map(|item| item.error.as_ref()).map(ToString::to_string);
        let taken: Vec<_> = items.into_iter().filter_map(|item| item.job).collect();
        if taken.len() < jobs.len() {
            let why = refused.unwrap_or_else(|| "it did not say".to_owned());
            return Err(FleetError::Refused { taken: taken.len(), asked: jobs.len(), why });
        }
        times.submitted(taken.into_iter().zip(numbers).map(|(job, n)| (job.job_id, since(n))));
        Ok(())
    }
}

/// Submits `per_sec` jobs each second, evenly, whether or not those before are taken yet.
pub(super) async fn submit_steadily(
    plan: &Plan,
    per_sec: f64,
    world: &World,
    times: &Times,
) -> Result<(), FleetError> {
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(world)).collect::<Result<_, _>>()?;
    let pace = Pace { begun: Instant::now(), per_sec, next: Mutex::default() };
    let submitting =
        clients.into_iter().map(|client| client.submit_what_is_due(plan, &pace, times));
    try_join_all(submitting).await?;
    Ok(())
}

/// When which job is due.
struct Pace {
    begun: Instant,
    per_sec: f64,
    /// The next job; whoever has the lock waits for its moment.
    next: Mutex<usize>,
}

/// Jobs that are to be submitted now.
struct Due {
    jobs: Range<usize>,
    /// Their moment had passed before anybody was free to submit them.
    late: bool,
}

impl Pace {
    fn moment(&self, number: usize) -> Instant {
        self.begun + Duration::from_secs_f64(number as f64 / self.per_sec)
    }

    /// Waits until jobs are due; `None`: there are no more.
    async fn wait(&self, plan: &Plan) -> Option<Due> {
        let mut next = self.next.lock().await;
        let first = *next;
        if first >= plan.jobs {
            return None;
        }
        let moment = self.moment(first);
        let late = moment <= Instant::now();
        until(moment).await;
        let due = (self.begun.elapsed().as_secs_f64() * self.per_sec) as usize + 1;
        *next = due.clamp(first + 1, first + plan.batch).min(plan.jobs);
        Some(Due { jobs: first..*next, late })
    }
}
