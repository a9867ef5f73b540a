//! Work that the node itself knows: `hash` and `torch_bench`.
//!
//! It runs in the sandbox like everything else: the node's own program is shown there and started
//! as `miner-node builtin <workload>`, which ends up in [`perform`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::{FailureCode, Job, Sha256Hex};
use serde_json::Map;

use super::{JOB_FILE, JobFacts, Refusal, hash, matmul, trial};
use crate::sandbox::{Command, Ending, INPUT_DIR, Limits, NODE_PROGRAM, Sandbox, Shown};
use crate::workdir::read_json;

/// The workloads of this runner.
pub const WORKLOADS: [&str; 2] = ["hash", TORCH_BENCH];

/// The matrix product, which torch does where there is torch.
pub const TORCH_BENCH: &str = "torch_bench";

/// The hidden subcommand behind which [`perform`] is.
pub const SUBCOMMAND: &str = "builtin";

/// What the runner has to hash before it is offered.
const KNOWN_TEXT: &str = "abc";

/// The runner.
#[derive(Debug)]
pub struct Builtin {
    executable: PathBuf,
}

impl Builtin {
    /// A runner that starts the node's program at `executable`.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self { executable: executable.into() }
    }

    /// A runner whose program was seen to work: it had to hash a known text below `directory`.
    ///
    /// # Errors
    /// Why it does not work.
    pub async fn probe(
        executable: PathBuf,
        sandbox: &Sandbox,
        directory: &Path,
    ) -> Result<Self, String> {
        let builtin = Self::new(executable);
        let facts = JobFacts {
            params: Map::from_iter([("text".to_owned(), KNOWN_TEXT.into())]),
            ..JobFacts::default()
        };
        let command = builtin.command("hash", Limits::trial());
        let text = trial::run(sandbox, directory, &facts, &[], command, |ending, places| {
            if ending != Ending::Exited(0) {
                return Err(format!("the trial run ended: {ending:?}"));
            }
            std::fs::read_to_string(&places.stdout).map_err(|error| error.to_string())
        });
        let text = text.await?;
        let expected = format!("{}  -\n", Sha256Hex::of(KNOWN_TEXT.as_bytes()));
        if text == expected { Ok(builtin) } else { Err(format!("it printed {text:?}")) }
    }

    pub(super) fn plan(&self, job: &Job, limits: Limits) -> Result<Command, Refusal> {
        if !WORKLOADS.contains(&job.workload.as_str()) {
            let message = format!("unknown builtin workload {}", job.workload);
            return Err(Refusal::new(FailureCode::Unsupported, message));
        }
        Ok(self.command(job.workload.as_str(), limits))
    }

    fn command(&self, workload: &str, limits: Limits) -> Command {
        Command {
            program: PathBuf::from(NODE_PROGRAM),
            args: vec![SUBCOMMAND.to_owned(), workload.to_owned()],
            env: Vec::new(),
            shown: vec![Shown {
                host: self.executable.clone(),
                inside: PathBuf::from(NODE_PROGRAM),
            }],
            limits,
        }
    }
}

/// Does `workload` inside the sandbox, printing its result.
///
/// # Errors
/// Where the workload is unknown, or its input cannot be read.
pub fn perform(workload: &str) -> io::Result<()> {
    let facts: JobFacts = read_json(Path::new(JOB_FILE))?;
    let mut out = io::stdout().lock();
    match workload {
        "hash" => hash::hash(&facts, Path::new(INPUT_DIR), &mut out),
        TORCH_BENCH => matmul::bench(&facts, &mut out, &mut io::stderr().lock()),
        other => Err(io::Error::other(format!("unknown workload {other}"))),
    }?;
    out.flush()
}
