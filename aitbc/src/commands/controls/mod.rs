//! `aitbc controls`: what an operator decides while the coordinator runs, value by value.

use clap::{Args, Subcommand};
use protocol::control::Controls as Values;
use serde_json::Value;

use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::session::Session;

mod paths;

/// Looks at and changes the controls.
#[derive(Debug, Subcommand)]
pub enum Controls {
    /// Print them, one PATH=VALUE a line
    Get,
    /// Change some; refused if somebody else changed them meanwhile
    Set(Set),
}

/// Changes some of the controls.
#[derive(Debug, Args)]
pub struct Set {
    /// What: intake=false, clients.alice.max_live_jobs=10, daily_cap= (takes it away),
    /// 'banned_miners."host.1"=sends nonsense'
    #[arg(required = true, value_name = "PATH=VALUE")]
    changes: Vec<String>,
}

impl Controls {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Get => session.show(calls::controls(), print).await,
            Self::Set(set) => set.run(session).await,
        }
    }
}

impl Set {
    async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let mut values: Value = session.coordinator.ask_for(&calls::controls()).await?;
        for change in &self.changes {
            paths::set(&mut values, change)
                .map_err(|why| Failure::usage(format!("{change:?}: {why}")))?;
        }
        // With the version that was read: whoever changed something meanwhile is not overwritten.
        let values: Values = serde_json::from_value(values)
            .map_err(|error| Failure::usage(paths::explain(&error)))?;
        session.show(calls::put_controls(&values), print).await
    }
}

fn print(output: &Output, values: Value) -> Result<(), Failure> {
    for (path, value) in paths::flatten(&values) {
        output.line(&format!("{path}={}", crate::output::printable(&value)))?;
    }
    Ok(())
}
