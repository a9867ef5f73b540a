//! Files and directories as a module sees them, without what differs from node to node: directories
//! in the order of their names, no inodes, no devices, no times.
//!
//! That nothing outside of a directory can be reached is wasi-common's work (cap-std).

use std::any::Any;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use wasi_common::dir::{OpenResult, ReaddirCursor, ReaddirEntity};
use wasi_common::file::{Advice, FdFlags, FileType, Filestat, OFlags};
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::sync::{self, ambient_authority};
use wasi_common::{Error, ErrorExt as _, SystemTimeSpec, WasiDir, WasiFile};

/// A directory.
pub(super) struct Directory(Box<dyn WasiDir>);

/// A file.
struct File(Box<dyn WasiFile>);

impl Directory {
    /// The directory at `path`.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = sync::Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self(Box::new(sync::dir::Dir::from_cap_std(directory))))
    }

    /// The directory within, of a directory that a call names as its second one.
    fn within(other: &dyn WasiDir) -> Result<&dyn WasiDir, Error> {
        let directory = other.as_any().downcast_ref::<Self>().ok_or_else(Error::badf)?;
        Ok(&*directory.0)
    }
}

/// An error as the module is told it: what wasi-common has no number for would end the module.
fn told(error: Error) -> Error {
    match error.downcast() {
        Ok(errno) => errno.into(),
        Err(other) => match other.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ReadOnlyFilesystem) => Errno::Rofs.into(),
            Some(io::ErrorKind::CrossesDevices) => Errno::Xdev.into(),
            _ => Error::trap(other),
        },
    }
}

/// What is the same wherever the module runs.
fn plain(found: Filestat) -> Filestat {
    // What a directory's size and links are is the file system's affair.
    let is_directory = found.filetype == FileType::Directory;
    Filestat {
        device_id: 0,
        inode: 0,
        nlink: if is_directory { 1 } else { found.nlink },
        size: if is_directory { 0 } else { found.size },
        filetype: found.filetype,
        atim: None,
        mtim: None,
        ctim: None,
    }
}

#[async_trait]
impl WasiDir for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn open_file(
        &self,
        symlink_follow: bool,
        path: &str,
        oflags: OFlags,
        read: bool,
        write: bool,
        fdflags: FdFlags,
    ) -> Result<OpenResult, Error> {
        let opened = self
            .0
            .open_file(symlink_follow, path, oflags, read, write, fdflags)
            .await
            .map_err(told)?;
        Ok(match opened {
            OpenResult::File(file) => OpenResult::File(Box::new(File(file))),
            OpenResult::Dir(directory) => OpenResult::Dir(Box::new(Self(directory))),
        })
    }

    async fn create_dir(&self, path: &str) -> Result<(), Error> {
        self.0.create_dir(path).await.map_err(told)
    }

    async fn readdir(
        &self,
        cursor: ReaddirCursor,
    ) -> Result<Box<dyn Iterator<Item = Result<ReaddirEntity, Error>> + Send>, Error> {
        let entries = self.0.readdir(ReaddirCursor::from(0)).await?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let numbered = entries.into_iter().zip(1_u64..);
        let skipped = usize::try_from(u64::from(cursor)).unwrap_or(usize::MAX);
        Ok(Box::new(numbered.skip(skipped).map(|(entry, number)| {
            Ok(ReaddirEntity { next: ReaddirCursor::from(number), inode: 0, ..entry })
        })))
    }

    async fn symlink(&self, old_path: &str, new_path: &str) -> Result<(), Error> {
        self.0.symlink(old_path, new_path).await.map_err(told)
    }

    async fn remove_dir(&self, path: &str) -> Result<(), Error> {
        self.0.remove_dir(path).await.map_err(told)
    }

    async fn unlink_file(&self, path: &str) -> Result<(), Error> {
        self.0.unlink_file(path).await.map_err(told)
    }

    async fn read_link(&self, path: &str) -> Result<PathBuf, Error> {
        self.0.read_link(path).await
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        Ok(plain(self.0.get_filestat().await?))
    }

    async fn get_path_filestat(&self, path: &str, follow: bool) -> Result<Filestat, Error> {
        Ok(plain(self.0.get_path_filestat(path, follow).await?))
    }

    async fn rename(&self, path: &str, into: &dyn WasiDir, name: &str) -> Result<(), Error> {
        self.0.rename(path, Self::within(into)?, name).await.map_err(told)
    }

    async fn hard_link(&self, path: &str, into: &dyn WasiDir, name: &str) -> Result<(), Error> {
        self.0.hard_link(path, Self::within(into)?, name).await.map_err(told)
    }

    async fn set_times(
        &self,
        _path: &str,
        _atime: Option<SystemTimeSpec>,
        _mtime: Option<SystemTimeSpec>,
        _follow_symlinks: bool,
    ) -> Result<(), Error> {
        // Nobody can read them.
        Ok(())
    }
}

#[async_trait]
impl WasiFile for File {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        self.0.get_filetype().await
    }

    async fn get_fdflags(&self) -> Result<FdFlags, Error> {
        self.0.get_fdflags().await
    }

    async fn set_fdflags(&mut self, flags: FdFlags) -> Result<(), Error> {
        self.0.set_fdflags(flags).await
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        Ok(plain(self.0.get_filestat().await?))
    }

    async fn set_filestat_size(&self, size: u64) -> Result<(), Error> {
        self.0.set_filestat_size(size).await
    }

    async fn advise(&self, _offset: u64, _length: u64, _advice: Advice) -> Result<(), Error> {
        Ok(())
    }

    async fn set_times(
        &self,
        _atime: Option<SystemTimeSpec>,
        _mtime: Option<SystemTimeSpec>,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn read_vectored<'a>(&self, buffers: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        self.0.read_vectored(buffers).await
    }

    async fn read_vectored_at<'a>(
        &self,
        buffers: &mut [IoSliceMut<'a>],
        offset: u64,
    ) -> Result<u64, Error> {
        self.0.read_vectored_at(buffers, offset).await
    }

    async fn write_vectored<'a>(&self, buffers: &[IoSlice<'a>]) -> Result<u64, Error> {
        self.0.write_vectored(buffers).await
    }

    async fn write_vectored_at<'a>(
        &self,
        buffers: &[IoSlice<'a>],
        offset: u64,
    ) -> Result<u64, Error> {
        self.0.write_vectored_at(buffers, offset).await
    }

    async fn seek(&self, position: SeekFrom) -> Result<u64, Error> {
        self.0.seek(position).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn list(directory: &Directory, cursor: u64) -> Vec<(u64, String, u64)> {
        let entries = directory.readdir(ReaddirCursor::from(cursor)).now_or_never().unwrap();
        let entries = entries.unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.next.into(), entry.name, entry.inode)).collect()
    }

    #[test]
    fn directories_are_in_the_order_of_names_whatever_the_file_system_has() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
        for name in names.iter().rev() {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let directory = Directory::open(root.path()).unwrap();
        let all = list(&directory, 0);
        let wanted = [".", ".."].map(str::to_owned).into_iter().chain(names).zip(1..);
        assert_eq!(all, wanted.map(|(name, next)| (next, name, 0)).collect::<Vec<_>>());
        assert_eq!(list(&directory, 60), all[60..]);
        assert!(list(&directory, u64::MAX).is_empty());
    }

    #[test]
    fn a_file_says_of_itself_what_is_the_same_everywhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), "12345").unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let said = |path| directory.get_path_filestat(path, true).now_or_never().unwrap().unwrap();
        let file = said("a");
        assert_eq!((file.size, file.nlink, file.inode, file.device_id), (5, 1, 0, 0));
        assert_eq!((file.atim, file.mtim, file.ctim), (None, None, None));
        assert_eq!((said(".").size, said(".").nlink), (0, 1));
        let opened = directory
            .open_file(true, "a", OFlags::empty(), true, false, FdFlags::empty())
            .now_or_never()
            .unwrap();
        let Ok(OpenResult::File(opened)) = opened else { panic!("it is a file") };
        assert_eq!(opened.get_filestat().now_or_never().unwrap().unwrap(), file);
    }
}
