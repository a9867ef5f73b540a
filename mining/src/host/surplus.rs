//! Surplus huge pages: large pages that the kernel puts together when they are asked for and takes
//! apart when they are given back. Root may permit more of them; nothing is reserved by that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The permission for some more huge pages, until it is dropped.
#[derive(Debug)]
pub struct Surplus {
    file: PathBuf,
    /// How many had not been permitted before.
    pages: u64,
}

impl Surplus {
    /// Permits `bytes` beyond what is in use on huge pages of the default size (proc_sys_vm(5),
    /// `nr_overcommit_hugepages`).
    ///
    /// # Errors
    /// Without root's rights, or without huge pages of 2 MiB.
    pub fn permit(bytes: u64) -> io::Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let size = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
        if size.map(str::trim) != Some("2048 kB") {
            return Err(io::Error::other("huge pages are not of 2 MiB here"));
        }
        let taken = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Surp:"));
        let taken = taken.and_then(|pages| pages.trim().parse().ok()).unwrap_or(0);
        let file = Path::new("/proc/sys/vm/nr_overcommit_hugepages");
        Self::raise(file, bytes.div_ceil(2 << 20), taken)
    }

    /// Has so many be permitted beyond those that are `taken`. What an earlier life that was killed
    /// has left permitted counts; otherwise it would grow with each.
    fn raise(file: &Path, pages: u64, taken: u64) -> io::Result<Self> {
        let mut raised = 0;
        change(file, |now| {
            raised = taken.saturating_add(pages).saturating_sub(now);
            now.saturating_add(raised)
        })?;
        Ok(Self { file: file.to_owned(), pages: raised })
    }
}

impl Drop for Surplus {
    fn drop(&mut self) {
        // Not set to what it was: others may have changed it meanwhile.
        let _ = change(&self.file, |now| now.saturating_sub(self.pages));
    }
}

fn change(file: &Path, to: impl FnOnce(u64) -> u64) -> io::Result<()> {
    let now = fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)?;
    let then = to(now);
    // What root has permitted already, everybody may use.
    if then == now { Ok(()) } else { fs::write(file, then.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_permitted_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nr_overcommit_hugepages");
        let now = || fs::read_to_string(&file).unwrap();
        fs::write(&file, "7\n").unwrap();
        let one = Surplus::raise(&file, 1000, 0).unwrap();
        assert_eq!(now(), "1000");
        let other = Surplus::raise(&file, 100, 1000).unwrap();
        assert_eq!(now(), "1100");
        drop(one);
        assert_eq!(now(), "107");
        drop(other);
        assert_eq!(now(), "7");
        assert!(Surplus::raise(&directory.path().join("none"), 1, 0).is_err());
        // Where enough is permitted, nothing is written.
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        drop(Surplus::raise(&file, 5, 0).unwrap());
        assert_eq!(file.metadata().unwrap().modified().unwrap(), written);
    }

    #[test]
    fn lives_that_were_killed_add_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nr_overcommit_hugepages");
        fs::write(&file, "7\n").unwrap();
        for _ in 0..3 {
            std::mem::forget(Surplus::raise(&file, 1000, 0).unwrap());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "1000");
    }
}
