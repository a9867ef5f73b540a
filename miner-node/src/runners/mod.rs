//! From a job to a plan, one file per kind of runner.
//!
//! A runner only plans: it checks the job and names program, arguments and limits. What runs, and
//! how it is isolated, is `sandbox/`. A runner that is not here is not advertised.

use std::path::{Path, PathBuf};

use protocol::job::{Network, RunnerKind};
use protocol::{FailureCode, Job, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub mod allowlist;
pub mod builtin;
mod ceilings;
pub mod cli;
mod hash;
mod matmul;

pub use allowlist::{Allowlist, AllowlistError};
pub use builtin::Builtin;
pub use ceilings::Ceilings;
pub use cli::Cli;

use crate::sandbox;

/// Where a program finds what it is told about its job.
pub const JOB_FILE: &str = "/job.json";

/// Why a job is not run, or its result not accepted: the code and sentence of the failure report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code.
    pub code: FailureCode,
    /// A sentence for people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// How a job is to be done.
#[derive(Debug, Clone)]
pub enum Plan {
    /// By a program in the sandbox.
    Sandboxed(sandbox::Command),
}

impl Plan {
    /// What it may use.
    pub const fn limits(&self) -> &sandbox::Limits {
        match self {
            Self::Sandboxed(command) => &command.limits,
        }
    }
}

/// The runners that passed their probe.
#[derive(Debug, Default)]
pub struct Runners {
    /// Work that the node itself knows.
    pub builtin: Option<Builtin>,
    /// Allowlisted programs.
    pub cli: Option<Cli>,
}

/// What a node can run, as it advertises it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The runners.
    pub runners: Vec<RunnerKind>,
    /// The workloads.
    pub workloads: Vec<Name>,
    /// The programs of the `cli` runner.
    pub commands: Vec<String>,
    /// The sandbox level; absent: none, and then nothing is offered.
    pub isolation: Option<String>,
    /// Whether a job can reach a GPU through any of them; without one, a GPU is not offered.
    pub reaches_gpu: bool,
}

impl Runners {
    /// What can be run with them under the sandbox level `isolation`.
    pub fn offer(&self, isolation: &str) -> Offer {
        let mut offer = Offer { isolation: Some(isolation.to_owned()), ..Offer::default() };
        let mut add = |kind, workloads: &[&str]| {
            offer.runners.push(kind);
            offer.workloads.extend(workloads.iter().filter_map(|name| name.parse().ok()));
        };
        if self.builtin.is_some() {
            add(RunnerKind::Builtin, &builtin::WORKLOADS);
        }
        if let Some(cli) = &self.cli {
            add(RunnerKind::Cli, &[cli::WORKLOAD]);
            offer.commands = cli.commands();
        }
        offer
    }

    /// How `job` is done; a program can read about it in `job_file`.
    ///
    /// # Errors
    /// Why this node does not run it.
    pub fn plan(&self, job: &Job, job_file: &Path, ceilings: &Ceilings) -> Result<Plan, Refusal> {
        let unsupported = || {
            Refusal::new(FailureCode::Unsupported, format!("no {} runner here", job.runner.kind))
        };
        if job.limits.network == Some(Network::Egress) {
            return Err(Refusal::new(FailureCode::Egress, "this node gives jobs no network"));
        }
        let limits = ceilings.limits(job)?;
        let mut command = match job.runner.kind {
            RunnerKind::Builtin => self.builtin.as_ref().ok_or_else(unsupported)?.plan(job, limits),
            RunnerKind::Cli => self.cli.as_ref().ok_or_else(unsupported)?.plan(job, limits),
            RunnerKind::Python | RunnerKind::Ollama | RunnerKind::Container | RunnerKind::Wasm => {
                Err(unsupported())
            }
        }?;
        command
            .shown
            .push(sandbox::Shown { host: job_file.to_owned(), inside: PathBuf::from(JOB_FILE) });
        Ok(Plan::Sandboxed(command))
    }
}

/// What a program is told about its job: the content of [`JOB_FILE`]. No lease, no price.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobFacts {
    /// The job's id.
    pub id: String,
    /// The workload.
    pub workload: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Small input values.
    pub inline: Map<String, Value>,
    /// The names of the files in `input/`, in the job's order.
    pub files: Vec<String>,
    /// How many threads the job asked for.
    pub threads: u32,
}

impl JobFacts {
    /// Those of `job`.
    pub fn of(job: &Job) -> Self {
        Self {
            id: job.id.to_string(),
            workload: job.workload.to_string(),
            params: job.params.clone(),
            inline: job.input.inline.clone(),
            files: job.input.files.iter().map(|file| file.name.to_string()).collect(),
            threads: job.requirements.cpu_threads.unwrap_or(1).max(1),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
