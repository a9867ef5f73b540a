//! `aitbc miners` and `aitbc miner`

use clap::{Args, Subcommand};
use protocol::Name;
use protocol::admin::AdminMiner;

use super::{or_dash, why};
use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
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
    /// Give it no more jobs; what it runs goes on (admin)
    Drain {
        /// The miner
        id: Name,
        /// Give it jobs again
        #[arg(long)]
        undo: bool,
    },
}

impl Miners {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let heads =
            ["MINER", "STATUS", "WALLET", "HOLDS", "DONE", "FAILED", "WORKLOADS", "LAST HEARD"];
        let row = |miner: AdminMiner| {
            let workloads = miner.capabilities.workloads.iter().map(Name::as_str);
            [
                miner.miner_id.to_string(),
                format!("{:?}", miner.status).to_uppercase(),
                miner.wallet.to_string(),
                miner.inflight.to_string(),
                miner.jobs_completed.to_string(),
                miner.jobs_failed.to_string(),
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
