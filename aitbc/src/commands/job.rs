//! `aitbc job`: one job, by its id.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::client::{Canceled, JobResult, JobView};
use protocol::{JobId, Receipt};

use super::{artifacts, follow, or_dash, why};
use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::session::Session;

/// One job.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Where it stands
    Show(Which),
    /// Wait until it has ended; several may be named
    Wait(follow::Wait),
    /// What it printed
    Logs(follow::Logs),
    /// What happened to it
    Events(follow::Logs),
    /// What it made; the exit code says how it ended
    Result {
        /// The job
        id: JobId,
        /// Write it to this new file
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file
        #[arg(long, requires = "output")]
        force: bool,
    },
    /// End it now
    Cancel(Which),
    /// Why it waits, failed, or was not paid
    Why(Which),
    /// The files that it left behind
    Artifacts(artifacts::Artifacts),
    /// Its receipt, as JSON
    Receipt(Which),
    /// Remove result, log and files of a job that has ended
    Rm(Which),
}

/// Which job.
#[derive(Debug, Args)]
pub struct Which {
    /// The job
    id: JobId,
}

impl Job {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Show(Which { id }) => session.show(calls::job(id), show).await,
            Self::Wait(wait) => wait.run(session).await,
            Self::Logs(logs) => logs.run(session).await,
            Self::Events(events) => events.run_as_events(session).await,
            Self::Result { id, output, force } => result(session, id, output, force).await,
            Self::Cancel(Which { id }) => {
                let call = calls::cancel(id, chance::idempotency_key());
                let show = |output: &Output, done: Canceled| output.line(done.state.as_str());
                session.show(call, show).await
            }
            Self::Why(Which { id }) => session.show(calls::why(id), why::job).await,
            Self::Artifacts(artifacts) => artifacts.run(session).await,
            Self::Receipt(Which { id }) => {
                let reply = session.coordinator.ask(&calls::receipt(id)).await?;
                // What is printed must be one, whatever the coordinator sends.
                reply.read::<Receipt>()?;
                session.output.line(reply.text()?)?;
                Ok(Ending::Done)
            }
            Self::Rm(Which { id }) => {
                session.coordinator.ask(&calls::remove(id)).await?;
                Ok(Ending::Done)
            }
        }
    }
}

fn show(output: &Output, job: JobView) -> Result<(), Failure> {
    let progress = job.progress.map(|progress| {
        let pct = progress.pct.map(|pct| format!("{pct} %")).unwrap_or_default();
        format!("{pct} {}", progress.note.unwrap_or_default()).trim().to_owned()
    });
    let price = format!("{} for one of {}", job.price.unit_price, job.price.unit_type);
    let mut fields = vec![
        ("job", job.job_id.to_string()),
        ("workload", job.workload.to_string()),
        ("state", job.state.to_string()),
        ("attempt", job.attempt.to_string()),
        ("priority", job.priority.to_string()),
        ("price", price),
        ("max_price", or_dash(job.price.max_price)),
        ("created_at", job.created_at.to_string()),
        ("started_at", or_dash(job.started_at)),
        ("finished_at", or_dash(job.finished_at)),
        ("expires_at", job.expires_at.to_string()),
        ("miner", or_dash(job.miner_id)),
        ("progress", or_dash(progress)),
        ("receipt", or_dash(job.receipt_id)),
        ("artifacts", job.artifacts.len().to_string()),
    ];
    if let Some(error) = job.error {
        fields.push(("error", format!("{}: {}", error.code, error.message)));
    }
    output.fields(&fields)
}

async fn result(
    session: &Session,
    id: JobId,
    file: Option<PathBuf>,
    force: bool,
) -> Result<Ending, Failure> {
    if let Some(path) = file.as_ref().filter(|path| !force && path.exists()) {
        return Err(Failure::in_the_way(path));
    }
    let reply = session.coordinator.ask(&calls::result(id)).await?;
    let result: JobResult = reply.read()?;
    match file {
        Some(path) => {
            let shown = path.display();
            match follow::printed(&result) {
                Some(content) => std::fs::write(&path, content).map_err(Failure::write(&path))?,
                None => eprintln!("aitbc: job {id} has no result; {shown} is not written"),
            }
        }
        None if session.output.json => session.output.line(reply.text()?)?,
        None => follow::print_result(session, &result)?,
    }
    follow::tell_end(id, result.state, result.error.as_ref());
    Ok(Ending::of_job(result.state))
}
