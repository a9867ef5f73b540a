//! Which programs a `cli` job may start, and with which arguments: `allowlist.d/*.yaml`.
//!
//! One file allows one program: where it is ([`trust`]) and with which arguments ([`arguments`]). A file that cannot be trusted or understood makes the whole list
//! void: the owner hears of it, and nothing runs. An empty directory allows nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Yaml};
use protocol::job::Network;
use serde::Deserialize;

mod arguments;
mod trust;

use arguments::{Arguments, Entry, shortened};

/// The largest file, in bytes.
const LARGEST_FILE: u64 = 64 << 10;

/// The most files.
const MOST_FILES: usize = 1000;

/// The longest name of a program, in bytes.
const LONGEST_NAME: usize = 64;

/// What jobs see of their own: nothing of the host may be put there.
const TAKEN: [&str; 8] = [
    "/work",
    "/tmp",
    "/proc",
    "/dev",
    "/sys",
    "/run",
    super::JOB_FILE,
    crate::sandbox::NODE_PROGRAM,
];

/// Why there is no allowlist.
#[derive(Debug, thiserror::Error)]
#[error("allowlist {path}: {why}; no program may run until this is corrected")]
pub struct AllowlistError {
    /// The file or directory at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What an owner allows, by the name under which jobs ask for it.
#[derive(Debug, Default)]
pub struct Allowlist {
    programs: BTreeMap<String, Program>,
    absent: BTreeMap<String, Program>,
}

/// A program that jobs may start.
#[derive(Debug)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// The longest run, in seconds.
    pub max_runtime_s: Option<u32>,
    /// The largest output, in MiB.
    pub max_output_mb: Option<u32>,
    /// The most memory, in MiB.
    pub max_ram_mb: Option<u32>,
    /// The most processor time, in seconds.
    pub max_cpu_secs: Option<u32>,
    /// The network without which it is of no use.
    pub network: Network,
    /// Whether it may use a GPU.
    pub gpu: bool,
    /// Files and directories of the host that it needs to see, besides `/usr`.
    pub show: Vec<PathBuf>,
    arguments: Arguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    command: CommandEntry,
    #[serde(default)]
    args: Vec<Entry>,
    #[serde(default = "default_total")]
    max_total_args_len: usize,
    max_runtime_s: Option<u32>,
    max_output_mb: Option<u32>,
    max_ram_mb: Option<u32>,
    max_cpu_secs: Option<u32>,
    #[serde(default = "no_network")]
    network: Network,
    #[serde(default)]
    gpu: bool,
    #[serde(default)]
    show: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandEntry {
    name: Option<String>,
    path: PathBuf,
}

const fn default_total() -> usize {
    4096
}

const fn no_network() -> Network {
    Network::None
}

impl Allowlist {
    /// Reads every `*.yaml` of `directory`. A directory that is not there allows nothing.
    ///
    /// # Errors
    /// The first file that is bad; then nothing is allowed.
    pub fn load(directory: &Path) -> Result<Self, AllowlistError> {
        let mut list = Self::default();
        for path in files(directory)? {
            list.add(&path).map_err(|why| AllowlistError { path: path.clone(), why })?;
        }
        Ok(list)
    }

    fn add(&mut self, path: &Path) -> Result<(), String> {
        trust::check_file(path, LARGEST_FILE)?;
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let file: File =
            Figment::from(Yaml::string(&text)).extract().map_err(|error| error.to_string())?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = file.command.name.clone().unwrap_or_else(|| stem.to_owned());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
        if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(format!("{name:?} is no name for a program"));
        }
        if self.programs.contains_key(&name) || self.absent.contains_key(&name) {
            return Err(format!("{name} is allowed by another file already"));
        }
        let program = Program::new(file)?;
        if fs::symlink_metadata(&program.path).is_err() {
            self.absent.insert(name, program);
            return Ok(());
        }
        trust::check_program(&program.path)
            .map_err(|why| format!("{} {why}", program.path.display()))?;
        self.programs.insert(name, program);
        Ok(())
    }

    /// The allowed programs that are installed, by name.
    pub const fn programs(&self) -> &BTreeMap<String, Program> {
        &self.programs
    }

    /// Where the allowed programs would be that are not installed.
    pub fn absent(&self) -> Vec<&Path> {
        self.absent.values().map(|program| program.path.as_path()).collect()
    }

    /// The program that may be started as `name args..`.
    ///
    /// # Errors
    /// Why it may not, in a sentence for the client.
    pub fn check(&self, name: &str, args: &[String]) -> Result<&Program, String> {
        let program = self.judge(name, args)?;
        if self.absent.contains_key(name) {
            return Err(format!("{name} is not installed on this node"));
        }
        Ok(program)
    }

    /// The same by the rules alone, whether it is installed or not.
    ///
    /// # Errors
    /// The rule that says no.
    pub fn judge(&self, name: &str, args: &[String]) -> Result<&Program, String> {
        let program = self.programs.get(name).or_else(|| self.absent.get(name));
        let program = program
            .ok_or_else(|| format!("{:?} is not on this node's allowlist", shortened(name)))?;
        program.arguments.check(args)?;
        Ok(program)
    }
}

impl Program {
    /// Whether it is still what it was when the list was read: nobody else's.
    ///
    /// # Errors
    /// What has become of it, as the end of a sentence.
    pub fn check_still(&self) -> Result<(), String> {
        trust::check_program(&self.path)
    }

    fn new(file: File) -> Result<Self, String> {
        let path = file.command.path;
        if !trust::is_plain(&path) {
            return Err(format!("command.path {} must be absolute and plain", path.display()));
        }
        for shown in &file.show {
            let mut taken = TAKEN.iter().map(Path::new);
            let taken = taken.find(|own| shown.starts_with(own) || own.starts_with(shown));
            let checked = match taken.map(Path::display) {
                Some(taken) => Err(format!("is in the way of the job's own {taken}")),
                None => trust::check_shown(shown),
            };
            checked.map_err(|why| format!("show: {} {why}", shown.display()))?;
        }
        Ok(Self {
            path,
            max_runtime_s: file.max_runtime_s,
            max_output_mb: file.max_output_mb,
            max_ram_mb: file.max_ram_mb,
            max_cpu_secs: file.max_cpu_secs,
            network: file.network,
            gpu: file.gpu,
            show: file.show,
            arguments: Arguments::new(file.args, file.max_total_args_len)?,
        })
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, AllowlistError> {
    let fail = |why: String| AllowlistError { path: directory.to_owned(), why };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| fail(error.to_string()))?,
    };
    trust::check_directory(directory).map_err(fail)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(error.to_string()))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    if paths.len() > MOST_FILES {
        return Err(fail(format!("holds more than {MOST_FILES} files")));
    }
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests;
