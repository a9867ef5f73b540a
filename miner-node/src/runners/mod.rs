//! From a job to a plan, one file per kind of runner.
//!
//! A runner only plans: it checks the job and names program, arguments and limits. What runs, and
//! how it is isolated, is `sandbox/`. A runner that is not here is not advertised.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::job::{Network, RunnerKind};
use protocol::{FailureCode, Job, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub mod allowlist;
pub mod builtin;
pub mod cli;
mod hash;
mod matmul;

pub use allowlist::{Allowlist, AllowlistError};
pub use builtin::Builtin;
pub use cli::Cli;

use crate::sandbox;

/// Where a program finds what it is told about its job.
pub const JOB_FILE: &str = "/job.json";

/// How long a program has between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);

/// Processes and threads at once.
const PROCESSES: u64 = 1024;

/// Open files of each process.
const OPEN_FILES: u64 = 1024;

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

/// The most that any job may use on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Wall-clock time in seconds.
    pub runtime_s: u32,
    /// Memory in MiB; absent: the machine's.
    pub ram_mb: Option<u32>,
    /// Memory in MiB of a job for which neither it nor the owner names any.
    pub usual_ram_mb: Option<u32>,
    /// Output in MiB.
    pub output_mb: u32,
    /// Scratch space in MiB; absent: as much as a job asks for.
    pub disk_mb: Option<u32>,
}

impl Ceilings {
    /// What `job` may use: the least of what it asks for and what the node allows.
    pub fn limits(&self, job: &Job) -> sandbox::Limits {
        let least = |asked: Option<u32>, most: u32| asked.map_or(most, |asked| asked.min(most));
        let memory = match (job.limits.ram_mb, self.ram_mb) {
            (Some(asked), most) => Some(least(Some(asked), most.unwrap_or(u32::MAX))),
            (None, most) => most.or(self.usual_ram_mb),
        };
        let output_mb = least(job.limits.max_output_mb, self.output_mb);
        // Scratch files may be more than what is left in the end, if the job says so.
        let disk_mb = least(job.limits.disk_mb, self.disk_mb.unwrap_or(u32::MAX));
        let scratch_mb = job.limits.disk_mb.map_or(output_mb, |_| disk_mb.max(output_mb));
        sandbox::Limits {
            wall: Duration::from_secs(least(job.limits.max_runtime_s, self.runtime_s).into()),
            grace: GRACE,
            cpu_secs: job.limits.cpu_secs.map(u64::from),
            memory_bytes: memory.map(|mb| u64::from(mb) << 20),
            cpu_threads: None,
            processes: PROCESSES,
            open_files: OPEN_FILES,
            output_bytes: u64::from(output_mb) << 20,
            work_bytes: u64::from(scratch_mb) << 20,
        }
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
        let limits = ceilings.limits(job);
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
