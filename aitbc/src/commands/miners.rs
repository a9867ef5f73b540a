//! `aitbc miners` and `aitbc miner`

use clap::{Args, Subcommand};
use protocol::Name;
use protocol::admin::{AdminMiner, Released};
use protocol::miner::Reputation;

use super::{or_dash, why};
use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::session::{Paging, Session};

/// Lists miners.
#[derive(Debug, Args)]
pub struct Miners {
    #[command(flatten)]
    paging: Paging,
}

/// One miner.
#[derive(Debug, Subcommand)]
pub enum Miner {
    /// Why it gets no jobs
    Why {
        /// The miner
        id: Name,
    },
    /// How it has done so far (with a key of its own)
    Reputation {
        /// The miner
        id: Name,
    },
    /// Give it no more jobs; what it runs goes on (admin)
    Drain {
        /// The miner
        id: Name,
        /// Give it jobs again
        #[arg(long)]
        undo: bool,
    },
    /// Free its name for another machine; what it earned stays its wallet's (admin)
    Release {
        /// The miner
        id: Name,
    },
}

impl Miners {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let heads = [
            "MINER",
            "STATUS",
            "WALLET",
            "HOLDS",
            "DONE",
            "FAILED",
            "SUCCESS",
            "UPTIME",
            "HOURS",
            "WORKLOADS",
            "LAST HEARD",
        ];
        let row = |miner: AdminMiner| {
            let workloads = miner.capabilities.workloads.iter().map(Name::as_str);
            [
                miner.miner_id.to_string(),
                format!("{:?}", miner.status).to_uppercase(),
                miner.wallet.to_string(),
                miner.inflight.to_string(),
                miner.jobs_completed.to_string(),
                miner.jobs_failed.to_string(),
                or_dash(miner.reputation.success_bp.map(per_cent)),
                per_cent(miner.reputation.uptime_bp),
                miner.reputation.compute_hours.to_string(),
                workloads.collect::<Vec<_>>().join(","),
                or_dash(miner.last_heartbeat),
            ]
        };
        session.list(calls::miners(), &self.paging, heads, row).await
    }
}

impl Miner {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Why { id } => session.show(calls::miner_why(&id), why::miner).await,
            Self::Reputation { id } => session.show(calls::reputation(&id), reputation).await,
            Self::Release { id } => {
                let show = |output: &Output, done: Released| {
                    output.line(&format!(
                        "{} is free; it was renamed {}",
                        done.miner_id, done.renamed
                    ))
                };
                session.show(calls::miner_release(&id), show).await
            }
            Self::Drain { id, undo } => {
                let call = calls::miner_drain(&id, !undo, chance::idempotency_key());
                let reply = session.coordinator.ask(&call).await?;
                if session.output.json {
                    session.output.line(reply.text()?)?;
                }
                Ok(Ending::Done)
            }
        }
    }
}

fn reputation(output: &Output, found: Reputation) -> Result<(), Failure> {
    output.fields(&[
        ("miner", found.miner_id.to_string()),
        ("since", found.since.to_string()),
        ("last heard", or_dash(found.last_seen)),
        ("done", found.jobs_completed.to_string()),
        ("failed", found.jobs_failed.to_string()),
        ("compute hours", found.compute_hours.to_string()),
        ("success in 30 days", or_dash(found.success_bp.map(per_cent))),
        ("uptime in 30 days", per_cent(found.uptime_bp)),
    ])
}

/// Hundredths of a per cent, for people.
fn per_cent(bp: u16) -> String {
    format!("{}.{:02} %", bp / 100, bp % 100)
}
