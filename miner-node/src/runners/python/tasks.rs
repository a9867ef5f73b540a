//! The owner's task modules: where they are, and whether only the owner can have put them there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use protocol::Name;

/// The most files and directories below one path.
const MOST_ENTRIES: usize = 10_000;

/// The most modules below one path.
const MOST_MODULES: usize = 256;

/// How deep packages go.
const DEEPEST: usize = 16;

/// The modules below `root`, by the dotted names under which jobs ask for them. What begins with an
/// underscore is the owner's own.
///
/// # Errors
/// What is not trustworthy below it; then none of it is a task.
pub(super) fn modules(root: &Path) -> Result<BTreeSet<Name>, String> {
    let root = fs::canonicalize(root).map_err(said(root))?;
    let mut walk = Walk { root: root.clone(), ..Walk::default() };
    walk.directory(&root, Some(""), 0)?;
    Ok(walk.modules)
}

/// Whether `root` is still as trustworthy as it was when its modules were listed.
///
/// # Errors
/// What is not.
pub(super) fn check(root: &Path) -> Result<(), String> {
    modules(root).map(drop)
}

#[derive(Default)]
struct Walk {
    root: PathBuf,
    modules: BTreeSet<Name>,
    entries: usize,
}

impl Walk {
    /// Looks at a directory and everything in it; `package` is what names of modules in it begin
    /// with, absent where Python finds none in it.
    fn directory(
        &mut self,
        path: &Path,
        package: Option<&str>,
        depth: usize,
    ) -> Result<(), String> {
        self.check(path)?;
        if depth > DEEPEST {
            return Err(format!("{}: directories are nested too deep", path.display()));
        }
        for entry in fs::read_dir(path).map_err(said(path))? {
            let path = entry.map_err(said(path))?.path();
            if fs::symlink_metadata(&path).map_err(said(&path))?.is_dir() {
                let name = package.and_then(|package| self.package(&path, package));
                self.directory(&path, name.as_deref(), depth + 1)?;
            } else {
                self.check(&path)?;
                self.file(&path, package)?;
            }
        }
        Ok(())
    }

    /// What the names of modules in a package begin with; the package itself is one, too.
    fn package(&mut self, path: &Path, within: &str) -> Option<String> {
        let name = path.file_name()?.to_str().filter(|name| is_public(name))?;
        if !path.join("__init__.py").is_file() {
            return None;
        }
        let name = format!("{within}{name}");
        self.modules.extend(name.parse::<Name>().ok());
        Some(format!("{name}."))
    }

    fn file(&mut self, path: &Path, package: Option<&str>) -> Result<(), String> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_python = path.extension().is_some_and(|extension| extension == "py");
        if let Some(package) = package
            && is_python
            && is_public(stem)
        {
            self.modules.extend(format!("{package}{stem}").parse::<Name>().ok());
        }
        if self.modules.len() > MOST_MODULES {
            return Err(format!("{}: more than {MOST_MODULES} modules", self.root.display()));
        }
        Ok(())
    }

    /// Only its owner, who is root or us, can have written it, and it leads nowhere else.
    fn check(&mut self, path: &Path) -> Result<(), String> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(format!("{}: more than {MOST_ENTRIES} files", self.root.display()));
        }
        let fail = |why: &str| Err(format!("{} {why}", path.display()));
        let target = fs::canonicalize(path).map_err(said(path))?;
        if !target.starts_with(&self.root) {
            return fail("is a link that leads out of the task path");
        }
        let found = fs::symlink_metadata(path).map_err(said(path))?;
        if found.is_symlink() {
            // What it leads to is looked at by its own name.
            return Ok(());
        }
        if !found.is_dir() && !found.is_file() {
            return fail("is neither a file nor a directory");
        }
        if found.permissions().mode() & 0o022 != 0 {
            return fail("is writable for others; run: chmod go-w");
        }
        if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
            return fail("belongs neither to root nor to the user who runs the node");
        }
        Ok(())
    }
}

/// A name that Python can import and that the owner did not keep back.
fn is_public(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn said(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn root(files: &[&str]) -> TempDir {
        let root = TempDir::new().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "def run(): pass\n").unwrap();
            // Whatever the umask of the tests is.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            for above in path.ancestors().skip(1).take_while(|above| *above != root.path()) {
                fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        root
    }

    fn names(root: &TempDir) -> Vec<String> {
        modules(root.path()).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn modules_and_packages_have_dotted_names() {
        let root = root(&[
            "resize.py",
            "_own.py",
            "notes.txt",
            "no-name.py",
            "acme/__init__.py",
            "acme/blur.py",
            "acme/_part/__init__.py",
            "acme/_part/x.py",
            "data/table.py",
            "__pycache__/resize.cpython-311.pyc",
        ]);
        assert_eq!(names(&root), ["acme", "acme.blur", "resize"]);
    }

    #[test]
    fn what_others_can_write_is_no_task() {
        let root = root(&["a.py", "deep/b.txt"]);
        assert!(check(root.path()).is_ok());
        for path in ["a.py", "deep/b.txt", "deep", ""] {
            let path = root.path().join(path);
            let mode = path.metadata().unwrap().permissions().mode();
            for write in [0o002, 0o020] {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | write)).unwrap();
                let why = check(root.path()).unwrap_err();
                assert!(why.contains("writable for others"), "{why}");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert!(check(root.path()).is_ok());
    }

    #[test]
    fn links_stay_within() {
        let (root, outside) = (root(&["a.py"]), root(&["b.py"]));
        symlink(root.path().join("a.py"), root.path().join("c.py")).unwrap();
        assert_eq!(names(&root), ["a", "c"]);
        let link = root.path().join("d.py");
        for target in [outside.path().join("b.py"), outside.path().to_owned()] {
            symlink(target, &link).unwrap();
            assert!(check(root.path()).unwrap_err().contains("leads out"));
            fs::remove_file(&link).unwrap();
        }
        symlink(root.path().join("missing"), &link).unwrap();
        assert!(check(root.path()).is_err());
        assert!(check(&root.path().join("nowhere")).is_err());
    }
}
