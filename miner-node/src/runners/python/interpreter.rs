//! Which Python runs tasks, and what of the host has to be shown for it to run inside the sandbox.
//!
//! A virtual environment is shown where it is. The Python that it was made with may be anywhere
//! (pyenv, uv, conda keep theirs in the home directory): of that one only the program and its
//! libraries are shown, never the directory that they are in.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Fault;
use crate::sandbox::Shown;

/// Python where the owner names no virtual environment.
const SYSTEM: &str = "/usr/bin/python3";

/// What the sandbox shows of the system anyway.
const SYSTEM_ROOT: &str = "/usr";

/// The most links from a virtual environment to its Python.
const MOST_LINKS: usize = 16;

/// A Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// The program, outside as inside.
    pub(super) program: PathBuf,
    /// What it needs to be shown.
    pub(super) shown: Vec<Shown>,
}

impl Interpreter {
    /// The Python of the virtual environment `venv`, or the system's.
    ///
    /// # Errors
    /// What is missing, for the owner.
    pub(super) fn find(venv: Option<&Path>) -> Result<Self, Fault> {
        let Some(venv) = venv else {
            let program = PathBuf::from(SYSTEM);
            return match program.is_file() {
                true => Ok(Self { program, shown: Vec::new() }),
                false => Err(Fault::new(
                    format!("{SYSTEM} is not there"),
                    "install it (Debian: apt install python3), or set runners.python.venv",
                )),
            };
        };
        let program = venv.join("bin/python");
        let configuration = venv.join("pyvenv.cfg");
        let anew = |why: String| Fault::new(why, format!("run python3 -m venv {}", venv.display()));
        let text = fs::read_to_string(&configuration)
            .map_err(|error| anew(format!("{}: {error}", configuration.display())))?;
        let mut shown = vec![same(venv)];
        shown.extend(links(&program, venv).map_err(anew)?);
        shown.extend(libraries(&text, &configuration).map_err(anew)?);
        shown.retain(|shown| !shown.inside.starts_with(SYSTEM_ROOT));
        Ok(Self { program, shown })
    }
}

fn same(path: &Path) -> Shown {
    Shown { host: path.to_owned(), inside: path.to_owned() }
}

/// The programs outside `venv` to which `program` leads, each under the name by which it is reached.
fn links(program: &Path, venv: &Path) -> Result<Vec<Shown>, String> {
    let fail = |error| format!("{}: {error}", program.display());
    let host = fs::canonicalize(program).map_err(fail)?;
    let mut shown = Vec::new();
    let mut step = program.to_owned();
    for _ in 0..MOST_LINKS {
        let directory = step.parent().and_then(|parent| fs::canonicalize(parent).ok());
        let is_system = directory.is_some_and(|directory| directory.starts_with(SYSTEM_ROOT));
        if !is_system && !step.starts_with(venv) {
            shown.push(Shown { host: host.clone(), inside: step.clone() });
        }
        let Ok(target) = fs::read_link(&step) else { return Ok(shown) };
        step = step.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(format!("{}: too many links", program.display()))
}

/// The libraries of the Python that `pyvenv.cfg` names.
fn libraries(text: &str, configuration: &Path) -> Result<Option<Shown>, String> {
    let home = text.lines().filter_map(|line| line.split_once('='));
    let home = home.filter(|(key, _)| key.trim() == "home").map(|(_, value)| value.trim()).next();
    let home = home.ok_or_else(|| format!("{} names no home", configuration.display()))?;
    let home = Path::new(home);
    if home.starts_with(SYSTEM_ROOT) || !home.is_absolute() {
        return Ok(None);
    }
    // `/bin` is `/usr/bin` nowadays.
    if fs::canonicalize(home).is_ok_and(|home| home.starts_with(SYSTEM_ROOT)) {
        return Ok(None);
    }
    let libraries = home.parent().unwrap_or(home).join("lib");
    // Anything else that happens to be called lib is not Python's and not shown.
    if !holds_python(&libraries) {
        return Err(format!(
            "{}: home = {}, but {} holds no python3",
            configuration.display(),
            home.display(),
            libraries.display()
        ));
    }
    Ok(Some(same(&libraries)))
}

fn holds_python(libraries: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libraries) else { return false };
    let mut entries = entries.flatten().map(|entry| entry.path());
    entries.any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("python3") && path.join("os.py").is_file()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A Python in somebody's home directory, and a virtual environment made with it.
    fn homely() -> (TempDir, PathBuf) {
        let root = TempDir::new().unwrap();
        let python = root.path().join("pythons/3.99");
        for directory in ["bin", "lib/python3.99"] {
            fs::create_dir_all(python.join(directory)).unwrap();
        }
        fs::write(python.join("bin/python3.99"), "").unwrap();
        fs::write(python.join("lib/python3.99/os.py"), "").unwrap();
        symlink("python3.99", python.join("bin/python3")).unwrap();
        let venv = root.path().join("venv");
        fs::create_dir_all(venv.join("bin")).unwrap();
        symlink("python3", venv.join("bin/python")).unwrap();
        symlink(python.join("bin/python3"), venv.join("bin/python3")).unwrap();
        let home = python.join("bin");
        fs::write(venv.join("pyvenv.cfg"), format!("home = {}\nversion = 3.99\n", home.display()))
            .unwrap();
        (root, venv)
    }

    #[test]
    fn of_a_python_elsewhere_only_program_and_libraries_are_shown() {
        let (root, venv) = homely();
        let python = Interpreter::find(Some(&venv)).unwrap();
        assert_eq!(python.program, venv.join("bin/python"));
        let base = root.path().join("pythons/3.99");
        let program = base.join("bin/python3.99");
        assert_eq!(
            python.shown,
            [
                same(&venv),
                Shown { host: program.clone(), inside: base.join("bin/python3") },
                Shown { host: program.clone(), inside: program },
                same(&base.join("lib")),
            ]
        );
    }

    #[test]
    fn a_directory_without_python_is_not_shown() {
        let (root, venv) = homely();
        fs::remove_file(root.path().join("pythons/3.99/lib/python3.99/os.py")).unwrap();
        assert!(Interpreter::find(Some(&venv)).unwrap_err().why.contains("holds no python3"));
        fs::write(venv.join("pyvenv.cfg"), "version = 3\n").unwrap();
        assert!(Interpreter::find(Some(&venv)).unwrap_err().why.contains("names no home"));
        assert!(Interpreter::find(Some(root.path())).unwrap_err().fix.contains("python3 -m venv"));
    }
}
