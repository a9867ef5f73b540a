//! The client of the fleet: submits many small jobs.

use std::time::{Duration, Instant};

use protocol::JobId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::times::Times;
use super::wire::Wire;
use super::{FleetError, Plan, World, calls, until};

/// How often a steady submitter looks how many jobs are due.
const TICK: Duration = Duration::from_millis(10);

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
    submitted: usize,
}

impl Client {
    pub(super) async fn connect(world: &World) -> Result<Self, FleetError> {
        let wire = Wire::new(&world.endpoint, &world.client_key);
        let wire = wire.map_err(|error| FleetError::Wire { what: "connecting", error })?;
        Ok(Self { wire, submitted: 0 })
    }

    /// Submits all jobs as fast as it goes.
    pub(super) async fn submit_all(
        &mut self,
        plan: &Plan,
        times: &Times,
    ) -> Result<(), FleetError> {
        while self.submitted < plan.jobs {
            self.submit(plan, plan.batch.min(plan.jobs - self.submitted), times).await?;
        }
        Ok(())
    }

    /// Submits `per_sec` jobs each second, in as many requests as are due.
    pub(super) async fn submit_steadily(
        &mut self,
        plan: &Plan,
        per_sec: f64,
        times: &Times,
    ) -> Result<(), FleetError> {
        let begun = Instant::now();
        let mut looks = 0;
        while self.submitted < plan.jobs {
            let due = (begun.elapsed().as_secs_f64() * per_sec) as usize;
            while self.submitted < due.min(plan.jobs) {
                let some = plan.batch.min(due.min(plan.jobs) - self.submitted);
                self.submit(plan, some, times).await?;
            }
            looks += 1;
            until(begun + TICK * looks).await;
        }
        Ok(())
    }

    async fn submit(&mut self, plan: &Plan, some: usize, times: &Times) -> Result<(), FleetError> {
        let jobs: Vec<_> = (self.submitted..self.submitted + some)
            .map(|number| {
                json!({
                    "workload": "hash", "input": {"inline": {"text": "fleet"}},
                    "priority": number % usize::from(plan.priorities.max(1)),
                    "ttl_seconds": 86_400,
                })
            })
            .collect();
        let begun = Instant::now();
        let reply = self.wire.post(calls::SUBMIT, &json!({ "jobs": jobs })).await;
        let Batch { items } =
            reply.map_err(|error| FleetError::Wire { what: "submitting jobs", error })?;
        let refused = items.iter().find_map(|item| item.error.as_ref()).map(ToString::to_string);
        let taken: Vec<_> = items.into_iter().filter_map(|item| item.job).collect();
        if taken.len() < some {
            let why = refused.unwrap_or_else(|| "it did not say".to_owned());
            return Err(FleetError::Refused { taken: taken.len(), asked: some, why });
        }
        self.submitted += taken.len();
        times.submitted(taken.into_iter().map(|job| (job.job_id, begun)));
        Ok(())
    }
}
