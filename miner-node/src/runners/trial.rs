//! Tries out every runner that is switched on, as its jobs would be run: what does not work here is
//! not offered, and its owner hears why, and what to do about it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Allowlist, Builtin, Cli, Containers, JOB_FILE, JobFacts, Python, Runners, Wasm};
use crate::config;
use crate::sandbox::{Command, Ending, Interrupt, Places, Sandbox, Shown};
use crate::workdir::write_json;

/// What the runners are tried with.
#[derive(Debug)]
pub struct Trial<'a> {
    /// What the owner decided about them.
    pub settings: &'a config::Runners,
    /// In what they run.
    pub sandbox: &'a Sandbox,
    /// The node's own program.
    pub executable: &'a Path,
    /// A directory of the node's, in which runners keep what they need and trials are made.
    pub root: &'a Path,
    /// Names this node among those that use the same engine of containers.
    pub owner: &'a str,
    /// Whether jobs have to keep off some processors.
    pub divides_processors: bool,
}

/// What an owner should hear about a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which runner, as the configuration calls it.
    pub runner: &'static str,
    /// How it stands.
    pub state: Standing,
    /// In words.
    pub what: String,
}

/// How a runner stands after its trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Works,
    /// Something of it is not offered or not in force, and this would change that.
    Partly(String),
    /// Nothing of it is offered, and this would change that.
    Fails(String),
}

/// What is wrong, and how an owner mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub why: String,
    /// How to mend it.
    pub fix: String,
}

impl Fault {
    /// A fault.
    pub fn new(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { why: why.into(), fix: fix.into() }
    }
}

impl Remark {
    fn works(runner: &'static str, what: impl Into<String>) -> Self {
        Self { runner, state: Standing::Works, what: what.into() }
    }

    fn partly(runner: &'static str, fault: Fault) -> Self {
        Self { runner, state: Standing::Partly(fault.fix), what: fault.why }
    }

    pub(super) fn fails(runner: &'static str, fault: Fault) -> Self {
        Self { runner, state: Standing::Fails(fault.fix), what: fault.why }
    }
}

impl Runners {
    /// The runners of programs that are switched on and work. `tell` hears of each that is switched
    /// on.
    pub async fn tried(trial: &Trial<'_>, mut tell: impl FnMut(Remark)) -> Self {
        let Trial { settings, sandbox, executable, root, owner, divides_processors } = *trial;
        let mut runners = Self::default();
        let directory = root.join("trial");
        let own_program =
            "let jobs read and start the node's own program: chmod a+rx, o+x on the way";
        if settings.builtin.enable {
            match Builtin::probe(executable.to_owned(), sandbox, &directory).await {
                Ok(builtin) => {
                    tell(Remark::works("builtin", "hashed a known text"));
                    runners.builtin = Some(builtin);
                }
                Err(why) => tell(Remark::fails("builtin", Fault::new(why, own_program))),
            }
        }
        if settings.container.enable {
            match Containers::probe(&settings.container, sandbox, &directory, owner).await {
                Ok(containers) => {
                    tell(match containers.strays().filter(|_| divides_processors) {
                        Some(fault) => Remark::partly("container", fault),
                        None => Remark::works("container", containers.description()),
                    });
                    runners.containers = Some(containers);
                }
                Err(fault) => tell(Remark::fails("container", fault)),
            }
        }
        if settings.cli.enable {
            runners.cli = allowed(&settings.cli.allowlist_dir, &mut tell);
        }
        if settings.python.enable {
            runners.python = python(trial, &directory, &mut tell).await;
        }
        if settings.wasm.enable {
            match Wasm::probe(executable.to_owned(), sandbox, &directory).await {
                Ok(wasm) => {
                    tell(Remark::works("wasm", "ran a known module"));
                    runners.wasm = Some(wasm);
                }
                Err(why) => tell(Remark::fails("wasm", Fault::new(why, own_program))),
            }
        }
        runners
    }
}

/// Runs what a runner is tried with below `directory`: `command`, with `facts` as its job and `files`
/// as its input. Nothing is left of it but what `look` makes of its ending and of what it printed.
///
/// # Errors
/// Why it was not run, or what `look` says.
pub(super) async fn run<T>(
    sandbox: &Sandbox,
    directory: &Path,
    facts: &JobFacts,
    files: &[(&str, &[u8])],
    mut command: Command,
    look: impl FnOnce(Ending, &Places) -> Result<T, String>,
) -> Result<T, String> {
    let places = Places::below(directory);
    let job_file = directory.join("job.json");
    let prepare = || {
        fs::create_dir_all(&places.work)?;
        fs::create_dir_all(&places.input)?;
        for (name, content) in files {
            fs::write(places.input.join(name), content)?;
        }
        write_json(&job_file, facts)
    };
    let looked = async {
        prepare().map_err(|error| error.to_string())?;
        command.shown.push(Shown { host: job_file.clone(), inside: PathBuf::from(JOB_FILE) });
        let run = sandbox.run(&command, &places, &Interrupt::default()).await;
        look(run.map_err(|error| error.to_string())?.ending, &places)
    };
    let looked = looked.await;
    // Left behind it is only clutter.
    let _ = fs::remove_dir_all(directory);
    looked
}

fn allowed(directory: &Path, tell: &mut impl FnMut(Remark)) -> Option<Cli> {
    let list = match Allowlist::load(directory) {
        Ok(list) => list,
        Err(error) => {
            tell(Remark::fails("cli", Fault::new(error.to_string(), "correct that file")));
            return None;
        }
    };
    for path in list.absent() {
        let why = format!("allowlisted, but not installed: {}", path.display());
        tell(Remark::partly("cli", Fault::new(why, "install it, or remove its file")));
    }
    let names: Vec<_> = list.programs().keys().map(String::as_str).collect();
    if names.is_empty() {
        let why = format!("{} allows no program", directory.display());
        let fix = "copy the samples you like from etc/miner/allowlist.d there";
        tell(Remark::partly("cli", Fault::new(why, fix)));
    } else {
        tell(Remark::works("cli", names.join(", ")));
    }
    Cli::new(list)
}

async fn python(
    trial: &Trial<'_>,
    directory: &Path,
    tell: &mut impl FnMut(Remark),
) -> Option<Python> {
    let driver: PathBuf = trial.root.join("driver.py");
    let settings = &trial.settings.python;
    let complain = |fault| tell(Remark::partly("python", fault));
    let probed = Python::probe(settings, driver, trial.sandbox, directory, complain).await;
    match probed {
        Ok(Some(python)) => {
            tell(Remark::works("python", python.description()));
            Some(python)
        }
        Ok(None) if settings.task_paths.is_empty() && settings.venv.is_none() => None,
        Ok(None) => {
            let why = "neither a module below runners.python.task_paths nor torch";
            let fix = "put a module there (sample: etc/miner/tasks), or switch the runner off";
            tell(Remark::partly("python", Fault::new(why, fix)));
            None
        }
        Err(fault) => {
            tell(Remark::fails("python", fault));
            None
        }
    }
}
