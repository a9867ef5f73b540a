//! Which programs a `cli` job may start, and with which arguments: `allowlist.d/*.yaml`.
//!
//! One file allows one program. A file that cannot be trusted or understood makes the whole list
//! void: the owner hears of it, and nothing runs. An empty directory allows nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Yaml};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// The largest file, in bytes.
const LARGEST_FILE: u64 = 64 << 10;

/// The most files.
const MOST_FILES: usize = 1000;

/// The largest compiled expression, in bytes.
const LARGEST_REGEX: usize = 1 << 20;

/// The most arguments of one call.
const MOST_ARGUMENTS: usize = 256;

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
    absent: Vec<PathBuf>,
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
    max_total_args_len: usize,
    arguments: Vec<Alternative>,
}

/// One thing that may stand in a list of arguments.
#[derive(Debug)]
enum Alternative {
    Literal(String),
    Option(String, Regex),
    Positional(Regex),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    command: CommandEntry,
    #[serde(default)]
    args: Vec<ArgumentEntry>,
    #[serde(default = "default_total")]
    max_total_args_len: usize,
    max_runtime_s: Option<u32>,
    max_output_mb: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandEntry {
    name: Option<String>,
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ArgumentEntry {
    Words(Vec<String>),
    Positional(Positional),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Positional {
    matches: String,
}

const fn default_total() -> usize {
    4096
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
        check_trusted(path, LARGEST_FILE)?;
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let file: File =
            Figment::from(Yaml::string(&text)).extract().map_err(|error| error.to_string())?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = file.command.name.clone().unwrap_or_else(|| stem.to_owned());
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte)) {
            return Err(format!("{name:?} is no name for a program"));
        }
        let program = Program::new(file)?;
        if fs::symlink_metadata(&program.path).is_err() {
            self.absent.push(program.path);
            return Ok(());
        }
        check_program(&program.path)?;
        match self.programs.insert(name.clone(), program) {
            Some(_) => Err(format!("{name} is allowed by another file already")),
            None => Ok(()),
        }
    }

    /// The allowed programs that are installed, by name.
    pub const fn programs(&self) -> &BTreeMap<String, Program> {
        &self.programs
    }

    /// The allowed programs that are not installed.
    pub fn absent(&self) -> &[PathBuf] {
        &self.absent
    }

    /// The program that may be started as `name args..`.
    ///
    /// # Errors
    /// Why it may not, in a sentence for the client.
    pub fn check(&self, name: &str, args: &[String]) -> Result<&Program, String> {
        let program = self
            .programs
            .get(name)
            .ok_or_else(|| format!("{:?} is not on this node's allowlist", shortened(name)))?;
        program.check(args)?;
        Ok(program)
    }
}

impl Program {
    fn new(file: File) -> Result<Self, String> {
        let path = file.command.path;
        let plain =
            |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
        if !path.is_absolute() || !path.components().all(plain) {
            return Err(format!("command.path {} must be absolute and plain", path.display()));
        }
        let arguments = file.args.into_iter().map(Alternative::new).collect::<Result<_, _>>()?;
        Ok(Self {
            path,
            max_runtime_s: file.max_runtime_s,
            max_output_mb: file.max_output_mb,
            max_total_args_len: file.max_total_args_len,
            arguments,
        })
    }

    fn check(&self, args: &[String]) -> Result<(), String> {
        let total = args.iter().fold(0_usize, |sum, arg| sum.saturating_add(arg.len() + 1));
        if args.len() > MOST_ARGUMENTS || total > self.max_total_args_len {
            return Err("too many or too long arguments".to_owned());
        }
        let plain = |arg: &&String| !arg.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if let Some(arg) = args.iter().find(plain) {
            return Err(format!("argument {:?} is not printable ASCII", shortened(arg)));
        }
        // The sandbox has nothing to climb to; an expression such as `.+` need not know that.
        if let Some(arg) = args.iter().find(|arg| arg.split('/').any(|part| part == "..")) {
            return Err(format!("argument {:?} leads upwards", shortened(arg)));
        }
        // `reached[n]`: the first n arguments are covered. Every way to cover them counts, without
        // the exponential time of trying one after the other.
        let mut reached = vec![false; args.len() + 1];
        reached[0] = true;
        for start in 0..args.len() {
            if reached[start] {
                for length in self.arguments.iter().filter_map(|one| one.covers(&args[start..])) {
                    reached[start + length] = true;
                }
            }
        }
        match reached.iter().rposition(|reached| *reached) {
            Some(covered) if covered < args.len() => Err(format!(
                "argument {:?} is not on this node's allowlist",
                shortened(&args[covered])
            )),
            _ => Ok(()),
        }
    }
}

impl Alternative {
    fn new(entry: ArgumentEntry) -> Result<Self, String> {
        match entry {
            ArgumentEntry::Positional(positional) => {
                Ok(Self::Positional(anchored(&positional.matches)?))
            }
            ArgumentEntry::Words(words) => match <[String; 2]>::try_from(words) {
                Ok([literal, expression]) => Ok(Self::Option(literal, anchored(&expression)?)),
                Err(words) => match <[String; 1]>::try_from(words) {
                    Ok([literal]) => Ok(Self::Literal(literal)),
                    Err(_) => Err("each of args is [literal] or [literal, expression]".to_owned()),
                },
            },
        }
    }

    /// How many of `args` it covers, if it fits at all.
    fn covers(&self, args: &[String]) -> Option<usize> {
        let first = args.first()?;
        match self {
            Self::Literal(literal) => (first == literal).then_some(1),
            Self::Positional(expression) => {
                // What looks like an option has to be allowed as one.
                (!first.starts_with('-') && expression.is_match(first)).then_some(1)
            }
            Self::Option(literal, expression) => {
                (first == literal && expression.is_match(args.get(1)?)).then_some(2)
            }
        }
    }
}

/// `expression` over a whole argument, whatever it says itself about its ends.
fn anchored(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!(r"\A(?:{expression})\z"))
        .size_limit(LARGEST_REGEX)
        .build()
        .map_err(|error| format!("expression {expression:?}: {error}"))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, AllowlistError> {
    let fail = |why: String| AllowlistError { path: directory.to_owned(), why };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| fail(error.to_string()))?,
    };
    let mode = directory.metadata().map_err(|error| fail(error.to_string()))?.permissions().mode();
    if mode & 0o002 != 0 {
        return Err(fail("is writable for everybody".to_owned()));
    }
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

/// A plain file that only its owner, who is root or us, can have written.
fn check_trusted(path: &Path, largest: u64) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("is a link or no plain file".to_owned());
    }
    if found.permissions().mode() & 0o002 != 0 {
        return Err("is writable for everybody".to_owned());
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err("belongs to another user".to_owned());
    }
    if found.len() > largest {
        return Err(format!("is larger than {largest} bytes"));
    }
    Ok(())
}

fn check_program(path: &Path) -> Result<(), String> {
    check_trusted(path, u64::MAX).map_err(|why| format!("{} {why}", path.display()))?;
    let mode = path.metadata().map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
