//! From a job to a plan, one file per kind of runner.
//!
//! A runner only plans: it checks the job and names program, arguments and limits, or what to ask
//! of a server. What runs, and how it is isolated, is `sandbox/`; what is asked of servers, and with
//! which limits, is `servers/`. A runner that is not here is not advertised.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::job::{RunnerKind, SlotKind};
use protocol::{FailureCode, Job, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub mod allowlist;
pub mod builtin;
mod ceilings;
pub mod cli;
pub mod container;
mod hash;
pub mod llm;
mod matmul;
pub mod python;
pub mod report;
pub mod sd;
mod served;
mod trial;
pub mod wasm;

pub use allowlist::{Allowlist, AllowlistError};
pub use builtin::Builtin;
pub use ceilings::Ceilings;
pub use cli::Cli;
pub use container::Containers;
pub use llm::Llm;
pub use python::Python;
pub use report::Report;
pub use sd::Sd;
pub use trial::{Fault, Remark, Standing, Trial};
pub use wasm::Wasm;

use crate::{sandbox, servers};

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
    /// By a container of the owner's engine.
    Contained(sandbox::container::Container),
    /// By a server of the owner's.
    Call(servers::Call),
}

impl Plan {
    /// What it may use.
    pub const fn limits(&self) -> &sandbox::Limits {
        match self {
            Self::Sandboxed(command) => &command.limits,
            Self::Contained(container) => &container.limits,
            Self::Call(call) => &call.limits,
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
    /// The owner's Python modules.
    pub python: Option<Python>,
    /// WebAssembly modules that jobs bring.
    pub wasm: Option<Wasm>,
    /// A server that generates text; it may be away for now.
    pub llm: Option<Llm>,
    /// A server that paints; it may be away for now.
    pub sd: Option<Sd>,
    /// Images in the owner's podman or docker.
    pub containers: Option<Containers>,
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
    /// Models at hand.
    pub models: Vec<Name>,
    /// The engines of the `wasm` runner.
    pub engines: Vec<Name>,
    /// The sandbox level; absent: none, and then no program is run.
    pub isolation: Option<String>,
    /// Whether a job can reach a GPU through any of them; without one, a GPU is not offered.
    pub reaches_gpu: bool,
    /// Whether a server of the owner's does so: it needs no device files of ours.
    pub serves_gpu: bool,
}

impl Offer {
    fn add(&mut self, kind: RunnerKind, workloads: &[&str]) {
        if !self.runners.contains(&kind) {
            self.runners.push(kind);
        }
        self.workloads.extend(workloads.iter().filter_map(|name| name.parse().ok()));
    }

    /// Adds what a server of the owner's can do, if it has anything to do it with.
    fn add_models(&mut self, kind: RunnerKind, workload: &str, models: Vec<Name>, is_on_gpu: bool) {
        if !models.is_empty() {
            self.reaches_gpu |= is_on_gpu;
            self.add(kind, &[workload]);
            self.models.extend(models);
        }
    }
}

impl Runners {
    /// What can be run with them under the sandbox level `isolation`, if there is a sandbox.
    pub fn offer(&self, isolation: Option<&str>) -> Offer {
        let mut offer = Offer { isolation: isolation.map(str::to_owned), ..Offer::default() };
        if self.builtin.is_some() {
            offer.add(RunnerKind::Builtin, &builtin::WORKLOADS);
        }
        if let Some(cli) = &self.cli {
            offer.add(RunnerKind::Cli, &[cli::WORKLOAD]);
            offer.commands = cli.commands();
        }
        if self.containers.is_some() {
            offer.add(RunnerKind::Container, &[container::WORKLOAD]);
        }
        if let Some(llm) = &self.llm {
            offer.add_models(RunnerKind::Ollama, llm::WORKLOAD, llm.models(), llm.is_on_gpu());
        }
        if let Some(sd) = &self.sd {
            offer.add_models(sd::KIND, sd::WORKLOAD, sd.models(), sd.is_on_gpu());
        }
        if let Some(python) = &self.python {
            let names: Vec<_> = python.workloads().iter().map(Name::as_str).collect();
            if !names.is_empty() {
                offer.add(RunnerKind::Python, &names);
            }
        }
        if self.wasm.is_some() {
            offer.add(RunnerKind::Wasm, &[wasm::WORKLOAD]);
            offer.engines.extend(wasm::ENGINE.parse::<Name>().ok());
        }
        offer.serves_gpu = offer.reaches_gpu;
        offer.reaches_gpu |= self.gives_gpu();
        // A workload that two runners know is one workload.
        offer.workloads.sort_unstable();
        offer.workloads.dedup();
        offer
    }

    /// Whether any of them gives its programs a GPU.
    fn gives_gpu(&self) -> bool {
        self.python.is_some() || self.cli.as_ref().is_some_and(Cli::reaches_gpu)
    }

    /// Whether `job` is done by a server of the owner's: what that takes of the machine is not
    /// the node's to give.
    pub fn is_served(&self, job: &Job) -> bool {
        match (job.runner.kind, job.workload.as_str()) {
            (RunnerKind::Ollama, llm::WORKLOAD) => self.llm.is_some(),
            (sd::KIND, sd::WORKLOAD) => self.sd.is_some(),
            _ => false,
        }
    }

    /// What `job` keeps busy here: a server of the owner's may do on the GPU what is paid as a
    /// processor's work.
    pub fn slot(&self, job: &Job) -> SlotKind {
        let is_on_gpu = match (job.runner.kind, job.workload.as_str()) {
            (RunnerKind::Ollama, llm::WORKLOAD) => self.llm.as_ref().is_some_and(Llm::is_on_gpu),
            (sd::KIND, sd::WORKLOAD) => self.sd.as_ref().is_some_and(Sd::is_on_gpu),
            _ => false,
        };
        if is_on_gpu { SlotKind::Gpu } else { job.slot }
    }

    /// Whether `job`, if it is for a GPU, is work that reaches one here: nobody pays for a GPU and
    /// gets a processor.
    fn check_gpu(&self, job: &Job) -> Result<(), Refusal> {
        if job.slot == SlotKind::Cpu {
            return Ok(());
        }
        let able = match job.runner.kind {
            RunnerKind::Builtin => {
                self.torch().is_some() && job.workload.as_str() == builtin::TORCH_BENCH
            }
            // A container is given no device.
            RunnerKind::Wasm | RunnerKind::Container => false,
            // The allowlist says it of each program.
            RunnerKind::Cli => true,
            RunnerKind::Ollama => self.llm.as_ref().is_some_and(Llm::is_on_gpu),
            RunnerKind::Python => match &self.sd {
                Some(sd) if job.workload.as_str() == sd::WORKLOAD => sd.is_on_gpu(),
                _ => true,
            },
        };
        // Not E_NOGPU: the GPU is there, and stays on offer for those who can use it.
        let message = format!("{} does not use a GPU on this node", job.workload);
        able.then_some(()).ok_or_else(|| Refusal::new(FailureCode::Unsupported, message))
    }

    /// The Python that has torch, if there is one.
    fn torch(&self) -> Option<&Python> {
        self.python.as_ref().filter(|python| python.has_torch())
    }

    /// What the program of ours that ran `job` says of it at the end of the log `stderr`. What
    /// other programs print there says nothing.
    pub fn report(&self, job: &Job, stderr: &Path) -> Report {
        let is_ours = match job.runner.kind {
            RunnerKind::Python | RunnerKind::Wasm => true,
            RunnerKind::Builtin => {
                self.torch().is_some() && job.workload.as_str() == builtin::TORCH_BENCH
            }
            RunnerKind::Cli | RunnerKind::Ollama | RunnerKind::Container => false,
        };
        if is_ours { Report::read(stderr) } else { Report::default() }
    }

    /// How `job` is done; a program can read about it in `job_file`.
    ///
    /// # Errors
    /// Why this node does not run it.
    pub fn plan(&self, job: &Job, job_file: &Path, ceilings: &Ceilings) -> Result<Plan, Refusal> {
        let unsupported = || {
            Refusal::new(FailureCode::Unsupported, format!("no {} runner here", job.runner.kind))
        };
        self.check_gpu(job)?;
        let limits = ceilings.limits(job)?;
        match (job.runner.kind, job.workload.as_str(), &self.llm, &self.sd) {
            (RunnerKind::Ollama, llm::WORKLOAD, Some(llm), _) => {
                return llm.plan(job, limits).map(Plan::Call);
            }
            (RunnerKind::Container, container::WORKLOAD, _, _) => {
                let containers = self.containers.as_ref().ok_or_else(unsupported)?;
                return containers.plan(job, job_file, limits).map(Plan::Contained);
            }
            (sd::KIND, sd::WORKLOAD, _, Some(sd)) => return sd.plan(job, limits).map(Plan::Call),
            _ => {}
        }
        let mut command = match job.runner.kind {
            RunnerKind::Builtin => {
                let builtin = self.builtin.as_ref().ok_or_else(unsupported)?;
                match self.torch().filter(|_| job.workload.as_str() == builtin::TORCH_BENCH) {
                    Some(torch) => Ok(torch.torch_bench(job, limits)),
                    None => builtin.plan(job, limits),
                }
            }
            RunnerKind::Cli => self.cli.as_ref().ok_or_else(unsupported)?.plan(job, limits),
            RunnerKind::Python => self.python.as_ref().ok_or_else(unsupported)?.plan(job, limits),
            RunnerKind::Wasm => self.wasm.as_ref().ok_or_else(unsupported)?.plan(job, limits),
            RunnerKind::Ollama | RunnerKind::Container => Err(unsupported()),
        }?;
        command
            .shown
            .push(sandbox::Shown { host: job_file.to_owned(), inside: PathBuf::from(JOB_FILE) });
        Ok(Plan::Sandboxed(command))
    }
}

/// The model that a job wants, out of those at hand: the one that it names or, where it names none,
/// the one that it requires. Never another one.
fn wanted_model<'a, T>(
    job: &Job,
    named: Option<&str>,
    models: &'a BTreeMap<Name, T>,
) -> Result<(&'a Name, &'a T), Refusal> {
    let required = match job.requirements.models.as_slice() {
        [model] => Some(model.as_str()),
        _ => None,
    };
    let Some(wanted) = named.or(required) else {
        return Err(Refusal::new(FailureCode::Input, "params: model is missing"));
    };
    models.iter().find(|(name, _)| name.as_str() == wanted).ok_or_else(|| {
        let wanted: String = wanted.chars().take(128).collect();
        Refusal::new(FailureCode::Unsupported, format!("no model {wanted:?} here"))
    })
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
    /// The arguments.
    #[serde(default)]
    pub args: Vec<String>,
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
            args: job.args.clone(),
            threads: job.requirements.cpu_threads.unwrap_or(1).max(1),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
