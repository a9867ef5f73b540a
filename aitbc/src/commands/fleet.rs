//! `aitbc fleet`

use std::time::Duration;

use clap::Args;
use protocol::Name;
use protocol::wallet::{CreatedKey, NewKey, Scope};

use super::or_dash;
use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::fleet::{Endpoint, FleetError, Plan, Quantiles, Report, World, simulate};
use crate::output::waiting;
use crate::session::Session;

const WARNING: &str = "\
Simulated miners take any job of the workload `hash` that waits, and prove it without doing it. So this
is for a coordinator that has no other users: it submits jobs that cost, registers miners, and credits
a wallet. Every key, lease, receipt and heartbeat is a real one. Limits count: raise
limits.miner_per_minute and limits.client_per_minute, or they are what is measured.";

/// Simulates miners and jobs, to see what a coordinator bears.
#[derive(Debug, Args)]
#[command(after_help = WARNING)]
pub struct Fleet {
    /// How many miners, each with one slot and a connection of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    miners: u32,
    /// How many jobs they get in all; 0 leaves them waiting
    #[arg(long, value_name = "N", default_value_t = 1000)]
    jobs: u32,
    /// Submit so many per second; without it, all before the first miner asks
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How many are submitted with one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,
    /// Spread them over so many priorities
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    priorities: u8,
    /// How long a fleet without jobs is held, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    hold: u32,
    /// Give signs of life so often, in seconds, and not at the pace that the coordinator sets: fewer
    /// miners then cost as much as more of them
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    heartbeat: Option<u32>,
    /// Give up when no job was credited for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u32,
    /// It destroys nothing, but it costs: say that this coordinator is there to be tried
    #[arg(long, required = true)]
    this_is_a_trial: bool,
}

impl Fleet {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let endpoint = Endpoint::of(&session.settings.url).ok_or_else(|| {
            Failure::usage("the simulation speaks plain http: name the coordinator behind TLS")
        })?;
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(Failure::usage("--rate must be above zero"));
        }
        // A name of its own each time: miners' names belong to the wallet that took them first.
        let name: Name = format!("fleet-{:08x}", chance::random_u32())
            .parse()
            .map_err(|_| Failure::usage("no name"))?;
        let client = key(session, Scope::Client, &name).await?;
        let miner = key(session, Scope::Miner, &name).await?;
        let world = World {
            endpoint,
            client_key: client.key.clone(),
            miner_key: miner.key.clone(),
            wallet: name,
        };
        let spinner = waiting("");
        let told = |what: String| spinner.set_message(what);
        let plan = self.plan();
        let done = tokio::select! {
            done = simulate(&plan, world, told) => Some(done),
            // Where there is no such signal, it ends by itself.
            Ok(()) = tokio::signal::ctrl_c() => None,
        };
        spinner.finish_and_clear();
        for id in [client.id, miner.id] {
            session.coordinator.ask(&calls::revoke_key(&id)).await?;
        }
        let Some(done) = done else { return Ok(Ending::Interrupted) };
        show(session, &done.map_err(failure)?)?;
        Ok(Ending::Done)
    }

    fn plan(&self) -> Plan {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Plan {
            miners: count(self.miners),
            jobs: count(self.jobs),
            per_sec: self.rate,
            batch: count(self.batch),
            priorities: self.priorities,
            hold: Duration::from_secs(self.hold.into()),
            heartbeat: self.heartbeat.map(|secs| Duration::from_secs(secs.into())),
            patience: Duration::from_secs(self.patience.into()),
        }
    }
}

fn failure(error: FleetError) -> Failure {
    Failure::NotGood(error.to_string())
}

async fn key(session: &Session, scope: Scope, name: &Name) -> Result<CreatedKey, Failure> {
    let new = NewKey {
        scope,
        client: (scope == Scope::Client).then(|| name.clone()),
        wallet: (scope == Scope::Miner).then(|| name.clone()),
        miner_id: None,
        funding: None,
        weight: None,
    };
    Ok(session.coordinator.ask_for(&calls::create_key(&new)).await?)
}

fn show(session: &Session, report: &Report) -> Result<(), Failure> {
    if session.output.json {
        let line = serde_json::to_string(report);
        let line = line.map_err(|error| Failure::NotGood(error.to_string()))?;
        return session.output.line(&line);
    }
    session.output.fields(&[
        ("miners", report.miners.to_string()),
        ("registered in", format!("{:.1} s", report.registering_secs)),
        ("jobs submitted", report.submitted.to_string()),
        ("submitted in", format!("{:.1} s", report.submitting_secs)),
        ("jobs credited", format!("{} ({} above zero)", report.credited, report.paid)),
        ("credited in", format!("{:.1} s", report.working_secs)),
        ("jobs per second", format!("{:.0}", report.per_sec)),
        ("submit to start", or_dash(report.to_start.map(spoken))),
        ("submit to credit", or_dash(report.to_credit.map(spoken))),
        ("longest pause", or_dash(report.longest_pause_ms.map(|ms| format!("{ms:.0} ms")))),
        ("heartbeats", report.heartbeats.to_string()),
        ("requests repeated", report.failures.to_string()),
        ("the first failure", or_dash(report.first_failure.clone())),
    ])
}

fn spoken(quantiles: Quantiles) -> String {
    let Quantiles { p50_ms, p99_ms, most_ms } = quantiles;
    format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, most {most_ms:.1} ms")
}
