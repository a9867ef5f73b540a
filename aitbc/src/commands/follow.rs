//! Following jobs to their end: log lines on standard output, states on standard error. Ctrl-C
//! ends the following, not the job.

use std::time::Duration;

use clap::Args;
use protocol::client::{Canceled, JobError, JobResult, JobView};
use protocol::event::{Happening, JobEvent};
use protocol::{ErrorCode, JobId, JobState};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::chance;
use crate::coordinator::{CallError, calls};
use crate::ending::{Ending, Failure};
use crate::output::{printable, printable_lines, waiting};
use crate::session::Session;

/// After so long without an event all that a live job has said so far has come.
const SILENCE: Duration = Duration::from_secs(1);

/// What Ctrl-C does to the job.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OnInterrupt {
    /// Ctrl-C cancels the job, too
    #[arg(long)]
    pub cancel_on_interrupt: bool,
}

/// How a job ended.
#[derive(Debug)]
pub struct Ended {
    /// Its last state.
    pub state: JobState,
    /// Why it failed, where it did.
    pub error: Option<JobError>,
    /// All of it; only its client is shown that.
    pub view: Option<JobView>,
}

/// What is done with each event.
pub type Show<'a> = &'a mut dyn FnMut(&JobEvent) -> Result<(), Failure>;

/// Waits for jobs.
#[derive(Debug, Args)]
pub struct Wait {
    /// The jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
    #[command(flatten)]
    interrupt: OnInterrupt,
}

/// What a job printed, or all that happened to it.
#[derive(Debug, Args)]
pub struct Logs {
    /// The job
    id: JobId,
    /// Go on until it has ended; the exit code then says how
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    interrupt: OnInterrupt,
}

impl Wait {
    /// Waits for these.
    pub const fn of(ids: Vec<JobId>, interrupt: OnInterrupt) -> Self {
        Self { ids, interrupt }
    }

    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let mut worst = Ending::Done;
        for id in self.ids {
            let Some(ended) = until_end(session, id, self.interrupt, None).await? else {
                return Ok(Ending::Interrupted);
            };
            if session.output.json {
                session.output.line(&ended.json(id).to_string())?;
            } else {
                session.output.table([""; 2], [[id.to_string(), ended.state.to_string()]])?;
            }
            tell_end(id, ended.state, ended.error.as_ref());
            worst = worst.max(Ending::of_job(ended.state));
        }
        Ok(worst)
    }
}

impl Logs {
    /// Prints the log.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let json = session.output.json;
        self.each(session, &mut |event| {
            let is_log = matches!(event.what, Happening::Log { .. });
            if json && is_log { print_json(session, event) } else { print_log(session, event) }
        })
        .await
    }

    /// Prints what happened.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run_as_events(self, session: &Session) -> Result<Ending, Failure> {
        if session.output.json {
            return self.each(session, &mut |event| print_json(session, event)).await;
        }
        self.each(session, &mut |event| {
            let more = match &event.what {
                Happening::State { state, more } if more.is_empty() => state.to_string(),
                Happening::State { state, more } => {
                    format!("{state} {}", Value::Object(more.clone()))
                }
                Happening::Progress { pct, note } => progress(*pct, note.as_deref()),
                Happening::Log { text, .. } => text.clone().unwrap_or_else(deleted),
            };
            let cells = [event.seq.to_string(), event.at.to_string(), event.what.kind().to_owned()];
            session.output.line(&format!("{}\t{}", cells.join("\t"), printable(&more)))
        })
        .await
    }

    async fn each(self, session: &Session, on: Show<'_>) -> Result<Ending, Failure> {
        if self.follow {
            let Some(ended) = until_end(session, self.id, self.interrupt, Some(on)).await? else {
                return Ok(Ending::Interrupted);
            };
            tell_end(self.id, ended.state, ended.error.as_ref());
            return Ok(Ending::of_job(ended.state));
        }
        // A job that has ended has a last event, however long that takes to come.
        let silence = (!has_ended(session, self.id).await?).then_some(SILENCE);
        let mut events = session.coordinator.events(self.id, 0);
        // Each job has a first one.
        let mut next = events.next().await?;
        while let Some(event) = next {
            on(&event)?;
            next = events.next_within(silence).await?;
        }
        Ok(Ending::Done)
    }
}

async fn has_ended(session: &Session, job: JobId) -> Result<bool, CallError> {
    #[derive(serde::Deserialize)]
    struct Standing {
        state: JobState,
    }
    let standing = session.coordinator.ask_for(&calls::job(job)).await;
    let Standing { state } = match standing {
        // Its events are shown to an admin, too.
        Err(error) if error.code() == ErrorCode::ForbiddenScope.as_str() => {
            session.coordinator.ask_for(&calls::why(job)).await?
        }
        standing => standing?,
    };
    Ok(state.is_terminal())
}

/// Shows a job as it goes: its log on standard output, the rest on standard error; as JSON all on
/// standard output.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn show_live(session: &Session, event: &JobEvent) -> Result<(), Failure> {
    match &event.what {
        _ if session.output.json => return print_json(session, event),
        Happening::Log { .. } => return print_log(session, event),
        Happening::State { state, more } => {
            let miner = more.get("miner_id").and_then(Value::as_str);
            let miner = miner.map(|miner| format!(" by {}", printable(miner))).unwrap_or_default();
            eprintln!("aitbc: {state}{miner}");
        }
        Happening::Progress { pct, note } => {
            eprintln!("aitbc: {}", progress(*pct, note.as_deref()))
        }
    }
    Ok(())
}

fn print_log(session: &Session, event: &JobEvent) -> Result<(), Failure> {
    match &event.what {
        Happening::Log { text: Some(text), .. } => session.output.foreign(text),
        Happening::Log { text: None, .. } => {
            eprintln!("aitbc: {}", deleted());
            Ok(())
        }
        _ => Ok(()),
    }
}

fn print_json(session: &Session, event: &JobEvent) -> Result<(), Failure> {
    session.output.line(&serde_json::to_string(event).unwrap_or_default())
}

fn progress(pct: Option<u8>, note: Option<&str>) -> String {
    let pct = pct.map(|pct| format!("{pct} %"));
    let note = note.map(printable);
    [pct, note].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn deleted() -> String {
    "a piece of the log was deleted".to_owned()
}

/// Waits until `job` has ended and shows each event to `on`; without it there is a spinner.
/// `None`: Ctrl-C.
///
/// # Errors
/// Where the coordinator refuses or cannot be reached for long, or `on` fails.
pub async fn until_end(
    session: &Session,
    job: JobId,
    interrupt: OnInterrupt,
    on: Option<Show<'_>>,
) -> Result<Option<Ended>, Failure> {
    // It would be drawn over what is printed.
    let spinner = on.is_none().then(|| waiting(&format!("waiting for {job}")));
    let mut silent = |_: &_| Ok(());
    let ended = tokio::select! {
        ended = events_to_end(session, job, on.unwrap_or(&mut silent)) => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    match ended {
        Some(ended) => ended.map(Some),
        None if interrupt.cancel_on_interrupt => cancel(session, job).await.map(Some),
        None => {
            eprintln!(
                "aitbc: job {job} goes on; `aitbc job logs --follow {job}` follows it again, \
                 `aitbc job cancel {job}` ends it"
            );
            Ok(None)
        }
    }
}

async fn events_to_end(session: &Session, job: JobId, on: Show<'_>) -> Result<Ended, Failure> {
    let mut events = session.coordinator.events(job, 0);
    let mut last = None;
    while let Some(event) = events.next().await? {
        on(&event)?;
        last = Some(event.what);
    }
    let Some(Happening::State { state, more }) = last.filter(Happening::is_last) else {
        let why = format!("the events of job {job} end without its end");
        return Err(CallError::Nonsense(why).into());
    };
    let told = more.get("error").and_then(|error| JobError::deserialize(error).ok());
    match session.coordinator.ask_for::<JobView>(&calls::job(job)).await {
        Ok(view) => Ok(Ended { state, error: view.error.clone().or(told), view: Some(view) }),
        // Its events are shown to an admin, too.
        Err(error) if error.code() == ErrorCode::ForbiddenScope.as_str() => {
            Ok(Ended { state, error: told, view: None })
        }
        Err(error) => Err(error.into()),
    }
}

impl Ended {
    /// The job as the coordinator has it, or what its last event says.
    fn json(&self, job: JobId) -> Value {
        match &self.view {
            Some(view) => serde_json::to_value(view).unwrap_or_default(),
            None => json!({"job_id": job, "state": self.state, "error": self.error}),
        }
    }
}

/// Cancels after Ctrl-C. A job that ended meanwhile is as good.
async fn cancel(session: &Session, job: JobId) -> Result<Ended, Failure> {
    let call = calls::cancel(job, chance::idempotency_key());
    match session.coordinator.ask_for(&call).await {
        Ok(Canceled { state, .. }) => Ok(Ended { state, error: None, view: None }),
        Err(error) if error.code() == ErrorCode::ConflictState.as_str() => {
            events_to_end(session, job, &mut |_| Ok(())).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Says on standard error how a job ended, where that is not well.
pub fn tell_end(job: JobId, state: JobState, error: Option<&JobError>) {
    if state == JobState::Completed {
        return;
    }
    let Some(error) = error else {
        eprintln!("aitbc: job {job} {state}");
        return;
    };
    eprintln!(
        "aitbc: job {job} {state}: {}: {}",
        printable(&error.code),
        printable(&error.message)
    );
    if let Some(tail) = error.logs_tail.as_deref().filter(|tail| !tail.is_empty()) {
        eprintln!("{}", printable_lines(tail.trim_end()));
    }
}

/// What a job printed, as it came back with its result.
pub fn printed(result: &JobResult) -> Option<String> {
    match result.result.as_ref()? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string() + "\n"),
    }
}

/// Prints what a job made.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn print_result(session: &Session, result: &JobResult) -> Result<(), Failure> {
    if let Some(text) = printed(result) {
        session.output.foreign(&text)?;
    }
    let JobResult { job_id, artifacts, .. } = result;
    if !artifacts.is_empty() {
        let paths: Vec<_> =
            artifacts.iter().map(|artifact| printable(artifact.path.as_str())).collect();
        eprintln!(
            "aitbc: it left {}; `aitbc job artifacts {job_id} --download DIR` fetches that",
            paths.join(", ")
        );
    }
    Ok(())
}
