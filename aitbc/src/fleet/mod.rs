//! A simulated fleet: as many miners and jobs as an operator wants to see a coordinator bear.
//!
//! Everything on the wire is real: keys, leases, Ed25519 receipts, long polls, heartbeats at the pace
//! that the coordinator sets. Only the work is not: a job is proven as soon as it was received.
//! What does not live here: how results are shown, which is `commands::fleet`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{JobId, Name, Timestamp};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

mod calls;
mod client;
mod miner;
mod times;
mod wire;

pub use times::Quantiles;
pub use wire::{Endpoint, WireError};

use client::Client;
use miner::Miner;
use times::Times;

use crate::moment;

/// How many miners connect and register at once.
const CONNECTING: usize = 64;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many miners, each with one slot.
    pub miners: usize,
    /// How many jobs they get; 0 leaves them idle.
    pub jobs: usize,
    /// How many of them are submitted per second; `None`: all before the first miner asks.
    pub per_sec: Option<f64>,
    /// How many are submitted with one request.
    pub batch: usize,
    /// How many priorities they are spread over, from 0 upwards.
    pub priorities: u8,
    /// How long an idle fleet is held.
    pub hold: Duration,
    /// How often a miner gives signs of life; `None`: at the coordinator's pace.
    pub heartbeat: Option<Duration>,
    /// After how long without one more job done it is given up.
    pub patience: Duration,
}

/// Where it is simulated, and as whom.
#[derive(Debug)]
pub struct World {
    /// The coordinator.
    pub endpoint: Endpoint,
    /// A client's key.
    pub client_key: String,
    /// The miners' key.
    pub miner_key: String,
    /// The wallet that is credited; the miners' names begin with it.
    pub wallet: Name,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many miners.
    pub miners: usize,
    /// How many jobs the coordinator took.
    pub submitted: usize,
    /// How many were credited.
    pub credited: usize,
    /// How many of those credits were above zero.
    pub paid: usize,
    /// How many requests of the miners failed and were repeated.
    pub failures: usize,
    /// The first of them.
    pub first_failure: Option<String>,
    /// How long registering took, in seconds.
    pub registering_secs: f64,
    /// How long submitting took, in seconds.
    pub submitting_secs: f64,
    /// From the first question for work to the last credit, in seconds.
    pub working_secs: f64,
    /// Jobs credited per second of that time.
    pub per_sec: f64,
    /// From the beginning of a job's submission to its arrival at a miner.
    pub to_start: Option<Quantiles>,
    /// From the beginning of a job's submission to its credit.
    pub to_credit: Option<Quantiles>,
    /// When the first miner asked for work.
    pub begun_at: Timestamp,
    /// Credits in each tenth of a second since then.
    pub credits_each_100_ms: Vec<u32>,
    /// The longest time without one, from the first to the last credit.
    pub longest_pause_ms: Option<f64>,
    /// How many signs of life were answered.
    pub heartbeats: usize,
}

/// Why a simulation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The coordinator cannot be reached, or refused.
    #[error("{what}: {error}")]
    Wire {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: WireError,
    },
    /// Jobs were not taken.
    #[error("the coordinator took {taken} of {asked} jobs; the first refusal: {why}")]
    Refused {
        /// How many it took.
        taken: usize,
        /// How many it was asked to take.
        asked: usize,
        /// Why not the first of the others.
        why: String,
    },
    /// Nothing moved any more.
    #[error("after {done} of {jobs} jobs nothing moved for {secs} s{first}")]
    Stuck {
        /// How many were credited.
        done: usize,
        /// How many there are.
        jobs: usize,
        /// For how long.
        secs: u64,
        /// The first failure, in words, or nothing.
        first: String,
    },
}

/// Does what `plan` says; `tell` hears how far it is.
///
/// # Errors
/// See [`FleetError`].
pub async fn simulate(
    plan: &Plan,
    world: World,
    tell: impl Fn(String),
) -> Result<Report, FleetError> {
    let world = Arc::new(world);
    let times = Arc::new(Times::default());
    let begun = Instant::now();
    let miners = muster(plan, &world, &times, &tell).await?;
    let registering = begun.elapsed();

    let begun = Instant::now();
    if plan.per_sec.is_none() && plan.jobs > 0 {
        tell(format!("submitting {} jobs", plan.jobs));
        Client::new(&world)?.submit_all(plan, &times).await?;
    }
    let mut submitting = begun.elapsed();

    let (begun, begun_at) = (Instant::now(), moment::now());
    let mut fleet = JoinSet::new();
    for miner in miners {
        fleet.spawn(miner.work(plan.heartbeat));
    }
    if let Some(per_sec) = plan.per_sec.filter(|_| plan.jobs > 0) {
        tell(format!("submitting {per_sec} jobs per second"));
        client::submit_steadily(plan, per_sec, &world, &times).await?;
        submitting = begun.elapsed();
    }
    if plan.jobs == 0 {
        tell(format!("{} miners wait for {} s", plan.miners, plan.hold.as_secs()));
        sleep(plan.hold).await;
    }
    settle(plan, &times, &tell).await?;
    fleet.shutdown().await;
    Ok(report(plan, &times, registering, submitting, (begun, begun_at)))
}

fn report(
    plan: &Plan,
    times: &Times,
    registering: Duration,
    submitting: Duration,
    (begun, begun_at): (Instant, Timestamp),
) -> Report {
    let flow = times.flow(begun);
    let working = flow.last.unwrap_or_else(|| begun.elapsed());
    let (credited, working_secs) = (times.credited(), working.as_secs_f64());
    let (failures, first_failure) = times.failures();
    Report {
        miners: plan.miners,
        submitted: plan.jobs,
        credited,
        paid: times.paid(),
        failures,
        first_failure,
        registering_secs: registering.as_secs_f64(),
        submitting_secs: submitting.as_secs_f64(),
        working_secs,
        per_sec: if working_secs > 0.0 { credited as f64 / working_secs } else { 0.0 },
        to_start: times.to_start(),
        to_credit: times.to_credit(),
        begun_at,
        credits_each_100_ms: flow.each_100_ms,
        longest_pause_ms: flow.longest_pause.map(|pause| pause.as_secs_f64() * 1000.0),
        heartbeats: times.heartbeats(),
    }
}

/// Registers all miners.
async fn muster(
    plan: &Plan,
    world: &Arc<World>,
    times: &Arc<Times>,
    tell: &impl Fn(String),
) -> Result<Vec<Miner>, FleetError> {
    tell(format!("registering {} miners", plan.miners));
    let turns = Arc::new(Semaphore::new(CONNECTING));
    let mut joining = JoinSet::new();
    for number in 0..plan.miners {
        let (world, times, turns) = (Arc::clone(world), Arc::clone(times), Arc::clone(&turns));
        joining.spawn(async move {
            let _turn = turns.acquire().await;
            Miner::register(world, times, number).await
        });
    }
    let mut miners = Vec::with_capacity(plan.miners);
    while let Some(joined) = joining.join_next().await {
        // A task that panicked has told why.
        if let Ok(miner) = joined {
            miners.push(miner?);
        }
    }
    Ok(miners)
}

/// Waits until every job is credited.
async fn settle(plan: &Plan, times: &Times, tell: &impl Fn(String)) -> Result<(), FleetError> {
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let done = times.credited();
        if done >= plan.jobs {
            return Ok(());
        }
        if done > seen {
            (seen, moved) = (done, Instant::now());
            tell(format!("{done} of {} jobs credited", plan.jobs));
        } else if moved.elapsed() >= plan.patience {
            let first = times.failures().1.map(|first| format!("; the first failure: {first}"));
            let (secs, jobs) = (plan.patience.as_secs(), plan.jobs);
            return Err(FleetError::Stuck { done, jobs, secs, first: first.unwrap_or_default() });
        }
        times.wait(Duration::from_millis(500)).await;
    }
}

/// Sleeps until `moment`, if that is still to come.
async fn until(moment: Instant) {
    sleep_until(moment.into()).await;
}

/// A job's id, and when it was submitted.
type Submitted = (JobId, Instant);
