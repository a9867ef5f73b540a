//! The `wasm` runner: a client's WebAssembly module, the same on every node.
//!
//! The engine is linked into the node's own program, which is started in the sandbox as
//! `miner-node wasm`: there it ends up in [`perform`]. A module sees its work directory and nothing
//! of the node; what it computes, and the fuel that it burns, follow from module, input and
//! parameters alone.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use protocol::{FailureCode, Job};
use rustix::process::{Resource, getrlimit};
use serde_json::{Map, json};
use wasi_common::pipe::WritePipe;

use super::report::{REPORTED, Report};
use super::{JOB_FILE, JobFacts, Refusal, trial};
use crate::sandbox::{Command, Ending, INPUT_DIR, Limits, NODE_PROGRAM, Sandbox, Shown, WORK_DIR};
use crate::workdir::read_json;

mod engine;
mod files;
mod host;
mod params;

use engine::{Allowance, LARGEST_MODULE, Outcome};
use params::Params;

/// The workload of jobs that only bring a module.
pub const WORKLOAD: &str = "wasm";

/// The engine, as jobs may ask for it: fuel is counted differently from one release to the next.
pub const ENGINE: &str = "wasmtime-36";

/// The hidden subcommand behind which [`perform`] is.
pub const SUBCOMMAND: &str = "wasm";

/// What a job's memory limit leaves to the engine itself and the compiled module, in bytes; of a
/// small limit it is half.
const ENGINE_BYTES: u64 = 64 << 20;

/// No 32-bit memory is larger, in bytes.
const LARGEST_MEMORY: u64 = 1 << 32;

/// The module that the runner has to run before it is offered: `known.wat`.
const KNOWN: &[u8] = include_bytes!("known.wasm");

/// What [`KNOWN`] prints.
const KNOWN_OUTPUT: &str = "ok\n";

/// What [`KNOWN`] burns in this engine.
const KNOWN_FUEL: u64 = 6;

/// The runner.
#[derive(Debug)]
pub struct Wasm {
    executable: PathBuf,
}

impl Wasm {
    /// A runner that starts the node's program at `executable`.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self { executable: executable.into() }
    }

    /// A runner that was seen to run a known module below `directory`, with the known fuel.
    ///
    /// # Errors
    /// Why it does not work.
    pub async fn probe(
        executable: PathBuf,
        sandbox: &Sandbox,
        directory: &Path,
    ) -> Result<Self, String> {
        let wasm = Self::new(executable);
        let params = Map::from_iter([("module".to_owned(), json!("known.wasm"))]);
        let facts = JobFacts { params, ..JobFacts::default() };
        let files = [("known.wasm", KNOWN)];
        let command = wasm.command(1000, Limits::trial());
        let outcome = trial::run(sandbox, directory, &facts, &files, command, |ending, places| {
            let report = Report::read(&places.stderr);
            let text = fs::read_to_string(&places.stdout).map_err(|error| error.to_string())?;
            if (ending, text.as_str(), report.fuel)
                == (Ending::Exited(0), KNOWN_OUTPUT, Some(KNOWN_FUEL))
            {
                return Ok(());
            }
            Err(format!("the trial run ended: {ending:?}, printed {text:?}, reported {report:?}"))
        });
        outcome.await.map(|()| wasm)
    }

    pub(super) fn plan(&self, job: &Job, limits: Limits) -> Result<Command, Refusal> {
        if let Some(engine) = &job.requirements.engine
            && engine.as_str() != ENGINE
        {
            let message = format!("the engine here is {ENGINE}, not {engine}");
            return Err(Refusal::new(FailureCode::Unsupported, message));
        }
        let fuel = job.limits.max_fuel.ok_or_else(|| {
            Refusal::new(FailureCode::Input, "limits.max_fuel is missing: a wasm job needs it")
        })?;
        let params = Params::read(&job.params)?;
        params::check(&params, job)?;
        Ok(self.command(fuel, limits))
    }

    fn command(&self, fuel: u64, limits: Limits) -> Command {
        let memory = limits.memory_bytes.map_or(LARGEST_MEMORY, guest_bytes);
        let args = [SUBCOMMAND, "--fuel", &fuel.to_string(), "--memory-bytes", &memory.to_string()];
        Command {
            program: PathBuf::from(NODE_PROGRAM),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            shown: vec![Shown {
                host: self.executable.clone(),
                inside: PathBuf::from(NODE_PROGRAM),
            }],
            limits,
        }
    }
}

/// How much of a job's memory its module may have.
fn guest_bytes(all: u64) -> u64 {
    (all - ENGINE_BYTES.min(all / 2)).min(LARGEST_MEMORY)
}

/// Runs the job's module, inside the sandbox, with at most `fuel` and `memory_bytes`; the exit code
/// is the module's own, or says that the report at the end of standard error has the reason.
pub fn perform(fuel: u64, memory_bytes: u64) -> ExitCode {
    let Outcome { fuel, ending } = attempt(fuel, memory_bytes).unwrap_or_else(|error| Outcome {
        fuel: 0,
        ending: Err((FailureCode::Input, error.to_string())),
    });
    let (code, report) = match ending {
        Ok(code) => (code, Report { fuel: Some(fuel), ..Report::default() }),
        Err((code, message)) => {
            (REPORTED, Report { fuel: Some(fuel), code: Some(code), message: Some(message) })
        }
    };
    // Where nobody listens there is nobody to be told.
    let _ = io::stdout().flush();
    let _ = io::stderr().write_all(report.line().as_bytes());
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn attempt(fuel: u64, memory_bytes: u64) -> Result<Outcome, wasmtime::Error> {
    let facts: JobFacts = read_json(Path::new(JOB_FILE))?;
    let params = Params::read(&facts.params)?;
    let module = read_module(&Path::new(INPUT_DIR).join(&params.module))?;
    let streams: [Box<dyn wasi_common::WasiFile>; 2] =
        [Box::new(WritePipe::new(io::stdout())), Box::new(WritePipe::new(io::stderr()))];
    let world = host::world(&params, &facts.args, Path::new(WORK_DIR), streams)?;
    let is_narrow = getrlimit(Resource::As).current.is_some();
    Ok(engine::run(&module, Allowance { fuel, memory_bytes, is_narrow }, world))
}

fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    let mut module = Vec::new();
    fs::File::open(path)?.take(LARGEST_MODULE + 1).read_to_end(&mut module)?;
    if module.len() as u64 > LARGEST_MODULE {
        return Err(io::Error::other(format!("the module is larger than {LARGEST_MODULE} bytes")));
    }
    Ok(module)
}

#[cfg(test)]
mod tests;
