//! The `python` runner: `run(**params)` of a module that the node's owner put there.
//!
//! The workload of a job is the dotted name of the module. A small driver, shown read-only, imports
//! it in the sandbox, with the Python of the owner's virtual environment, and prints the result as
//! JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use protocol::{FailureCode, Job, Name};
use serde::Deserialize;
use serde_json::Map;

use super::{Fault, JobFacts, Refusal, trial};
use crate::config::PythonRunner;
use crate::sandbox::{Command, Ending, Limits, Sandbox, Shown};
use crate::workdir::read_json;

mod interpreter;
mod tasks;

use interpreter::Interpreter;

/// The program that calls a task.
const DRIVER: &str = include_str!("driver.py");

/// Where the sandbox shows it.
const DRIVER_INSIDE: &str = "/driver.py";

/// Below this the sandbox shows the task paths, by their number.
const TASKS_INSIDE: &str = "/tasks";

/// The runner.
#[derive(Debug)]
pub struct Python {
    interpreter: Interpreter,
    driver: PathBuf,
    task_paths: Vec<PathBuf>,
    tasks: Vec<Name>,
    found: Found,
}

/// What a trial run says of a Python.
#[derive(Debug, Clone, Default, Deserialize)]
struct Found {
    /// Its version.
    version: String,
    /// The environment that it belongs to.
    prefix: PathBuf,
    /// Whether torch is installed in it.
    torch: bool,
    /// The modules, and why one is no task.
    modules: BTreeMap<Name, Option<String>>,
}

impl Python {
    /// A runner whose Python was seen to work, and to find the tasks, in the sandbox; `None` where
    /// there is neither a task nor torch. The driver is kept at `driver`; the trial is below
    /// `directory`. What an owner should hear goes to `complain`.
    ///
    /// # Errors
    /// Why it does not work.
    pub async fn probe(
        settings: &PythonRunner,
        driver: PathBuf,
        sandbox: &Sandbox,
        directory: &Path,
        mut complain: impl FnMut(Fault),
    ) -> Result<Option<Self>, Fault> {
        if settings.task_paths.is_empty() && settings.venv.is_none() {
            return Ok(None);
        }
        let mut names = Vec::new();
        let mut task_paths = Vec::new();
        for path in &settings.task_paths {
            match tasks::modules(path) {
                Ok(found) => {
                    names.extend(found);
                    task_paths.push(path.clone());
                }
                Err(why) => complain(Fault::new(
                    format!("runners.python.task_paths: {why}; none of it runs"),
                    "give its files to root or to the node's user, writable for nobody else (chmod -R go-w)",
                )),
            }
        }
        write_driver(&driver).map_err(|error| {
            let why = format!("{}: {error}", driver.display());
            Fault::new(why, "see to the work directory")
        })?;
        let interpreter = Interpreter::find(settings.venv.as_deref())?;
        let found = Found::default();
        let mut python = Self { interpreter, driver, task_paths, tasks: Vec::new(), found };
        let outcome = python.look(names, sandbox, directory).await;
        python.found = outcome.map_err(|why| {
            let fix = "start runners.python.venv's bin/python by hand as the node's user; make it anew if that fails";
            Fault::new(why, fix)
        })?;
        for (name, why) in &python.found.modules {
            match why {
                Some(why) => complain(Fault::new(
                    format!("the Python module {name} is not offered: {why}"),
                    "correct the module, or install what it imports into runners.python.venv",
                )),
                None => python.tasks.push(name.clone()),
            }
        }
        Ok((!python.tasks.is_empty() || python.found.torch).then_some(python))
    }

    async fn look(
        &self,
        names: Vec<Name>,
        sandbox: &Sandbox,
        directory: &Path,
    ) -> Result<Found, String> {
        let params = Map::from_iter([("modules".to_owned(), serde_json::json!(names))]);
        let facts = JobFacts { params, ..JobFacts::default() };
        let command = self.command(&["probe"], 1, Limits::trial());
        let found = trial::run(sandbox, directory, &facts, &[], command, |ending, places| {
            let said = || crate::output::tail(&places.stderr, 1024);
            if ending != Ending::Exited(0) {
                let program = self.interpreter.program.display();
                return Err(format!("{program} ended: {ending:?} {}", said().trim()));
            }
            read_json(&places.stdout).map_err(|error| format!("{error} {}", said().trim()))
        });
        found.await
    }

    /// The workloads: the modules.
    pub fn workloads(&self) -> &[Name] {
        &self.tasks
    }

    /// Whether it has torch.
    pub const fn has_torch(&self) -> bool {
        self.found.torch
    }

    /// Which Python it is, for `probe` and `doctor`.
    pub fn description(&self) -> String {
        let torch = if self.found.torch { ", with torch" } else { "" };
        let (version, prefix) = (&self.found.version, self.found.prefix.display());
        let names: Vec<_> = self.tasks.iter().map(Name::as_str).collect();
        let tasks = if names.is_empty() { "no module".to_owned() } else { names.join(", ") };
        format!("Python {version} of {prefix}{torch}: {tasks}")
    }

    pub(super) fn plan(&self, job: &Job, limits: Limits) -> Result<Command, Refusal> {
        let deny = |why| Refusal::new(FailureCode::Deny, why);
        if !self.tasks.contains(&job.workload) {
            return Err(deny(format!("{} is not one of this node's tasks", job.workload)));
        }
        // The owner's files may have been opened to others since they were listed.
        for path in &self.task_paths {
            tasks::check(path).map_err(deny)?;
        }
        Ok(self.command(&["run", job.workload.as_str()], JobFacts::of(job).threads, limits))
    }

    /// The command that does `torch_bench` with torch.
    pub(super) fn torch_bench(&self, job: &Job, limits: Limits) -> Command {
        self.command(&["torch_bench"], JobFacts::of(job).threads, limits)
    }

    fn command(&self, task: &[&str], threads: u32, limits: Limits) -> Command {
        let inside = |number: usize| format!("{TASKS_INSIDE}/{number}");
        let mut args = vec!["-I".to_owned(), "-B".to_owned(), DRIVER_INSIDE.to_owned()];
        args.extend(task.iter().map(|word| (*word).to_owned()));
        args.extend((0..self.task_paths.len()).map(inside));
        let mut shown = self.interpreter.shown.clone();
        shown.push(Shown { host: self.driver.clone(), inside: PathBuf::from(DRIVER_INSIDE) });
        shown.extend(self.task_paths.iter().enumerate().map(|(number, path)| Shown {
            host: path.clone(),
            inside: PathBuf::from(inside(number)),
        }));
        let env = vec![("OMP_NUM_THREADS".to_owned(), threads.to_string())];
        Command { program: self.interpreter.program.clone(), args, env, shown, limits }
    }
}

/// Puts the driver where the sandbox can show it. It is no secret, and a job that has a user of its
/// own has to be able to read it.
fn write_driver(path: &Path) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, DRIVER)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o644))?;
    fs::rename(&draft, path)
}
