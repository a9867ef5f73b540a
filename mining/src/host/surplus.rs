//! Surplus huge pages: large pages that the kernel puts together when they are asked for and takes
//! apart when they are given back. Root may permit more of them; nothing is reserved by that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The permission for some more huge pages, until it is dropped.
#[derive(Debug)]
pub struct Surplus {
    file: PathBuf,
    pages: u64,
}

impl Surplus {
    /// Permits `bytes` more on huge pages of the default size (proc_sys_vm(5),
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
        Self::raise(Path::new("/proc/sys/vm/nr_overcommit_hugepages"), bytes.div_ceil(2 << 20))
    }

    fn raise(file: &Path, pages: u64) -> io::Result<Self> {
        change(file, |now| now.saturating_add(pages))?;
        Ok(Self { file: file.to_owned(), pages })
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
    fs::write(file, to(now).to_string())
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
        let one = Surplus::raise(&file, 1000).unwrap();
        let other = Surplus::raise(&file, 100).unwrap();
        assert_eq!(now(), "1107");
        drop(one);
        assert_eq!(now(), "107");
        drop(other);
        assert_eq!(now(), "7");
        assert!(Surplus::raise(&directory.path().join("none"), 1).is_err());
    }
}
