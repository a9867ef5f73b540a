//! Where jobs live on disk: `jobs/<id>/{input,work,output,logs}` and `state.json`, all private.
//!
//! What is written here survives a crash at any moment: write, fsync, rename, fsync of the
//! directory. What the states mean for a restarted node is decided in `recovery`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::{Job, JobId, LeaseToken, Timestamp};
use rustix::fs::{FlockOperation, flock};
use tracing::warn;

use crate::private::{self, NotPrivate};

mod job_dir;
mod json;
mod state;
mod trash;

pub use job_dir::JobDir;
use json::sync_directory;
pub use json::{read_json, write_json};
pub use state::{Phase, RunRecord, State};
pub use trash::Trash;

/// The most of each output stream that is kept of a job that is over, in bytes.
const KEPT_OUTPUT: u64 = 64 << 10;

/// Why the work directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Another node works in it.
    #[error("another node is working in {0}")]
    Busy(PathBuf),
    /// Others can change it.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// It cannot be created or locked.
    #[error("{path}: {source}")]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The node's work directory, locked against a second node.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    trash: Trash,
    /// Held while a job's directory is made anew, or is looked at and changed for an older lease:
    /// the job may be leased again while the report about its last attempt is being settled.
    making: Mutex<()>,
    _lock: File,
}

impl Workspace {
    /// Creates what is missing of it and locks it.
    ///
    /// # Errors
    /// Where it cannot be used, or another node uses it.
    pub fn open(root: &Path) -> Result<Self, WorkspaceError> {
        for path in [root, &root.join("jobs")] {
            private::directory(path)?;
        }
        let fail = |source| WorkspaceError::Io { path: root.to_owned(), source };
        let lock = private::file().create(true).truncate(false).open(root.join("node.lock"));
        let lock = lock.map_err(fail)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| WorkspaceError::Busy(root.to_owned()))?;
        let (root, trash) = (root.to_owned(), Trash::open(root.join("trash"))?);
        Ok(Self { root, trash, making: Mutex::new(()), _lock: lock })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens or closes the way to jobs' own directories for users who know where those are, as jobs
    /// with a user id of their own have to. Nobody else can list or read anything either way.
    ///
    /// # Errors
    /// Of the file system.
    pub fn let_others_through(&self, open: bool) -> io::Result<()> {
        let mode = Permissions::from_mode(if open { 0o711 } else { 0o700 });
        for path in [&self.root, &self.root.join("jobs")] {
            fs::set_permissions(path, mode.clone())?;
        }
        Ok(())
    }

    /// The directory of a job, whether it exists or not.
    pub fn job(&self, id: JobId) -> JobDir {
        JobDir(self.root.join("jobs").join(id.to_string()))
    }

    /// An empty directory for a job just leased; an earlier attempt's files are gone afterwards,
    /// as its lease is.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(&self, job: &Job, now: Timestamp) -> io::Result<JobDir> {
        let dir = self.job(job.id);
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.trash.toss(&dir.0)?;
        let made = self.furnish(&dir, job, now);
        if made.is_err() {
            // Without its state nobody would ever remove it. What failed is told already.
            let _ = self.trash.toss(&dir.0);
        }
        made.map(|()| dir)
    }

    fn furnish(&self, dir: &JobDir, job: &Job, now: Timestamp) -> io::Result<()> {
        for part in ["input", "work", "output", "logs"] {
            private::create(&dir.0.join(part))?;
        }
        dir.save(&State {
            phase: Phase::Pulling,
            updated_at: now,
            job: job.clone(),
            run: None,
            error: None,
        })?;
        sync_directory(&self.root.join("jobs"))
    }

    /// Does something with a job's directory if it still belongs to that lease.
    ///
    /// # Errors
    /// Those of `act`, and of reading whose directory it is.
    pub fn if_still(
        &self,
        dir: &JobDir,
        token: LeaseToken,
        act: impl FnOnce(State) -> io::Result<()>,
    ) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match dir.state()? {
            state if state.job.lease.token == token => act(state),
            _ => Ok(()),
        }
    }

    /// What is to be removed.
    pub const fn trash(&self) -> &Trash {
        &self.trash
    }

    /// Throws away what a job that has ended needs no more: its files, and its output but for the
    /// last of it. What is kept is small, whoever the client was.
    ///
    /// # Errors
    /// The first that occurred; everything was tried.
    pub fn strip(&self, dir: &JobDir) -> io::Result<()> {
        let places = [dir.input(), dir.work(), dir.output()];
        let mut result = Ok(());
        for path in places {
            result = result.and(self.trash.toss(&path));
        }
        for (file, kept) in
            [(dir.out_txt(), dir.0.join("logs/stdout.log")), (dir.stderr_log(), dir.stderr_log())]
        {
            result = result.and(self.shorten(&file, &kept));
        }
        result
    }

    /// Leaves of a `file` that is too large to be kept only its end, at `kept`.
    fn shorten(&self, file: &Path, kept: &Path) -> io::Result<()> {
        let end = match end_of(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(None) => return Ok(()),
            Ok(Some(end)) => end,
            Err(error) => return Err(error),
        };
        self.trash.toss(file)?;
        self.trash.toss(kept)?;
        private::file().create_new(true).open(kept)?.write_all(&end)
    }

    /// How much room there is for jobs, in MiB.
    ///
    /// # Errors
    /// Of the file system.
    pub fn free_mb(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize) >> 20)
    }

    /// The jobs that are on disk, oldest first.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn jobs(&self) -> io::Result<Vec<JobDir>> {
        let entries = fs::read_dir(self.root.join("jobs"))?;
        let mut ids: Vec<JobId> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids.into_iter().map(|id| self.job(id)).collect())
    }

    /// Removes the jobs that are over for longer than they are to be kept. Returns how many.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn sweep(
        &self,
        now: Timestamp,
        keep_success: Duration,
        keep_failed: Duration,
    ) -> io::Result<usize> {
        let mut removed = 0;
        for dir in self.jobs()? {
            // One without a state is being made, or goes when the node starts anew.
            let Ok(state) = dir.state() else { continue };
            let keep = if state.phase == Phase::Done { keep_success } else { keep_failed };
            if state.phase.is_over() && now.since(state.updated_at) > keep {
                match self.trash.toss(&dir.0) {
                    Ok(()) => removed += 1,
                    Err(error) => warn!(event = "sweep_failed", "{}: {error}", dir.0.display()),
                }
            }
        }
        Ok(removed)
    }
}

/// The last of a file that is longer than [`KEPT_OUTPUT`].
fn end_of(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length <= KEPT_OUTPUT {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length - KEPT_OUTPUT))?;
    let mut end = Vec::new();
    file.take(KEPT_OUTPUT).read_to_end(&mut end)?;
    Ok(Some(end))
}

#[cfg(test)]
mod tests;
