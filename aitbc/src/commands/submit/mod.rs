//! `aitbc submit`: from flags and files to jobs, and to their end if one waits for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use protocol::client::{BatchReply, JobResult, JobView, NewJob, Quote, StoredInput};
use protocol::job::InputFile;
use protocol::{JobId, Sha256Hex};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::follow::{self, Ended, OnInterrupt};
use super::{job_file, why};
use crate::chance;
use crate::coordinator::{Call, Reply, calls, transfer};
use crate::ending::{Ending, Failure};
use crate::output::Progress;
use crate::session::Session;

mod flags;

use flags::{InputPath, JobFlags};

/// Submits a job, or a file of jobs.
#[derive(Debug, Args)]
pub struct Submit {
    /// Jobs as JSON, JSON lines or YAML; `-` reads standard input. Flags win over what it says
    file: Option<PathBuf>,
    /// Wait until it has ended, and print what it made; of several jobs a line each, how it ended
    #[arg(long)]
    wait: bool,
    /// Wait likewise, and print its log as it comes; with --json every event
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    interrupt: OnInterrupt,
    /// Say what it would cost and who could run it; nothing is uploaded or submitted
    #[arg(long, conflicts_with_all = ["wait", "follow"])]
    dry_run: bool,
    /// Under which a repetition of this very call is recognised; made up unless stated
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<Uuid>,
    #[command(flatten)]
    job: JobFlags,
}

impl Submit {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let mut jobs = match &self.file {
            Some(path) => job_file::read(path)?,
            None => vec![flags::empty_job()],
        };
        if self.follow && jobs.len() > 1 {
            return Err(Failure::usage("--follow is for one job; use --wait"));
        }
        let inputs = self.job.inputs().to_vec();
        for job in &mut jobs {
            self.job.apply(job)?;
        }
        if self.dry_run {
            // The coordinator quotes no job whose files it does not have.
            if !inputs.is_empty() {
                session.tell("quoted without its files, which are not uploaded");
            }
            return quote(session, &jobs).await;
        }
        let known = digest(&inputs).await?;
        for job in &mut jobs {
            name_inputs(job, &inputs, &known);
        }
        upload(session, &inputs, &known).await?;
        let key = self.idempotency_key.unwrap_or_else(chance::idempotency_key);
        match &jobs[..] {
            [job] => self.one(session, job, key).await,
            jobs => self.many(session, jobs, key).await,
        }
    }

    async fn one(&self, session: &Session, job: &NewJob, key: Uuid) -> Result<Ending, Failure> {
        let (reply, job) = send::<JobView>(session, &calls::submit(job, key), key).await?;
        let id = job.job_id;
        if !self.wait && !self.follow {
            session.output.line(&match session.output.json {
                true => reply.text()?.to_owned(),
                false => id.to_string(),
            })?;
            return Ok(Ending::Done);
        }
        eprintln!("aitbc: job {id}");
        let mut live = |event: &_| follow::show_live(session, event);
        let on: Option<follow::Show<'_>> = if self.follow { Some(&mut live) } else { None };
        match follow::until_end(session, id, self.interrupt, on).await? {
            Some(ended) => conclude(session, id, &ended, !self.follow).await,
            None => Ok(Ending::Interrupted),
        }
    }

    async fn many(&self, session: &Session, jobs: &[NewJob], key: Uuid) -> Result<Ending, Failure> {
        let call = calls::submit_batch(jobs, key);
        let (reply, batch) = send::<BatchReply>(session, &call, key).await?;
        let mut accepted: Vec<JobId> = Vec::new();
        let mut worst = Ending::Done;
        if session.output.json {
            session.output.line(reply.text()?)?;
        }
        let mut rows = Vec::new();
        for (index, item) in batch.items.into_iter().enumerate() {
            worst = worst.max(Ending::of_status(item.status));
            let outcome = match (item.job, item.error) {
                (Some(job), _) => {
                    accepted.push(job.job_id);
                    ["accepted".to_owned(), job.job_id.to_string()]
                }
                (None, Some(error)) => {
                    ["refused".to_owned(), format!("{}: {}", error.code, error.message)]
                }
                (None, None) => ["refused".to_owned(), format!("HTTP {}", item.status)],
            };
            let [outcome, what] = outcome;
            rows.push([(index + 1).to_string(), outcome, what]);
        }
        if !session.output.json {
            session.output.table(["#", "OUTCOME", "JOB"], rows)?;
        }
        if !self.wait || accepted.is_empty() {
            return Ok(worst);
        }
        let wait = follow::Wait::of(accepted, self.interrupt);
        Ok(worst.max(wait.run(session).await?))
    }
}

/// Submits. Where it is not known whether that worked, the key says how to find out.
async fn send<T: DeserializeOwned>(
    session: &Session,
    call: &Call,
    key: Uuid,
) -> Result<(Reply, T), Failure> {
    let sent = session.coordinator.ask(call).await;
    let sent = sent.and_then(|reply| reply.read().map(|read| (reply, read)));
    let sent = sent.inspect_err(|error| {
        if error.may_have_worked() {
            eprintln!(
                "aitbc: it may have been taken in; the same call with --idempotency-key {key} \
                 submits nothing twice"
            );
        }
    });
    sent.map_err(Failure::from)
}

/// Shows how a job ended that was waited for.
async fn conclude(
    session: &Session,
    id: JobId,
    ended: &Ended,
    show: bool,
) -> Result<Ending, Failure> {
    if show && ended.view.as_ref().is_some_and(|job| job.result_available) {
        let reply = session.coordinator.ask(&calls::result(id)).await?;
        match session.output.json {
            true => session.output.line(reply.text()?)?,
            false => follow::print_result(session, &reply.read::<JobResult>()?)?,
        }
    }
    follow::tell_end(id, ended.state, ended.error.as_ref());
    Ok(Ending::of_job(ended.state))
}

async fn quote(session: &Session, jobs: &[NewJob]) -> Result<Ending, Failure> {
    for job in jobs {
        session
            .show(calls::quote(job), |output, quote: Quote| {
                output.fields(&[
                    ("unit", quote.unit_type.to_string()),
                    ("unit price", quote.unit_price.to_string()),
                    ("costs at most", quote.hold.to_string()),
                ])?;
                why::reach(output, &quote.why)
            })
            .await?;
    }
    Ok(Ending::Done)
}

/// What each input file is, by its path.
async fn digest(inputs: &[InputPath]) -> Result<BTreeMap<PathBuf, StoredInput>, Failure> {
    let mut known = BTreeMap::new();
    for InputPath { path, .. } in inputs {
        let found = transfer::digest(path).await;
        let found = found.map_err(|error| Failure::unreadable(path, &error))?;
        known.insert(path.clone(), found);
    }
    Ok(known)
}

fn name_inputs(job: &mut NewJob, inputs: &[InputPath], known: &BTreeMap<PathBuf, StoredInput>) {
    for InputPath { name, path } in inputs {
        let Some(StoredInput { sha256, bytes }) = known.get(path) else { continue };
        job.input.files.retain(|file| file.name != *name);
        job.input.files.push(InputFile {
            name: name.clone(),
            sha256: *sha256,
            url: None,
            size_bytes: Some(*bytes),
        });
    }
}

/// Uploads each content once. The coordinator is always sent it: only the miner of a job may ask
/// whether it has an input.
async fn upload(
    session: &Session,
    inputs: &[InputPath],
    known: &BTreeMap<PathBuf, StoredInput>,
) -> Result<(), Failure> {
    let mut sent: Vec<Sha256Hex> = Vec::new();
    for InputPath { name, path } in inputs {
        let Some(input) = known.get(path).filter(|input| !sent.contains(&input.sha256)) else {
            continue;
        };
        let progress = Progress::of_file(name.as_str(), input.bytes);
        let stored = session.coordinator.upload(path, input, &progress).await;
        progress.end();
        let stored = stored?;
        if stored != *input {
            let why = "the coordinator stored something else than was sent";
            return Err(Failure::NotGood(format!("{}: {why}", path.display())));
        }
        session.tell(&format!("uploaded {} ({} bytes)", path.display(), input.bytes));
        sent.push(input.sha256);
    }
    Ok(())
}
