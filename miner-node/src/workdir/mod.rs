//! Where jobs live on disk: `jobs/<id>/{input,work,output,logs}` and `state.json`, all private.
//!
//! What is written here survives a crash at any moment: write, fsync, rename, fsync of the
//! directory. What the states mean for a restarted node is decided in `recovery`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::job::SlotKind;
use protocol::proof::ArtifactProof;
use protocol::{Job, JobId, Sha256Hex, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sandbox::Places;

/// The largest of our own files that is read back.
const LARGEST_FILE: u64 = 16 << 20;

/// Why the work directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Another node works in it.
    #[error("another node is working in {0}")]
    Busy(PathBuf),
    /// Somebody else owns it, or it is no directory.
    #[error("{0} must be a directory that belongs to the user who runs the node")]
    Foreign(PathBuf),
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
    _lock: File,
}

/// How far a job has come on this node. A job of which there is no directory is `IDLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Leased.
    Pulling,
    /// Leased and acknowledged.
    Acked,
    /// Its input is being fetched.
    Prep,
    /// Its program runs.
    Running,
    /// The program has ended well; its files are being uploaded.
    Uploading,
    /// Its proof or failure report is on disk and has to be delivered.
    RetryWait,
    /// Proven and credited.
    Done,
    /// Failed, canceled or lost.
    Failed,
}

impl Phase {
    /// Whether the node has nothing more to do for the job.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// The content of `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// How far the job has come.
    pub phase: Phase,
    /// Since when.
    pub updated_at: Timestamp,
    /// The job, with its lease.
    pub job: Job,
    /// The finished run, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a proof is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// On what it ran.
    pub mode: SlotKind,
    /// The sandbox level that was in force.
    pub isolation: String,
    /// When the program started.
    pub started_at: Timestamp,
    /// How long it ran, in microseconds.
    pub wall_micros: u64,
    /// Processor time of all its processes, in microseconds.
    pub cpu_micros: u64,
    /// The most memory that it was seen to hold, in bytes.
    pub max_rss_bytes: u64,
    /// SHA-256 of `out.txt`.
    pub output_sha: Sha256Hex,
    /// The declared files.
    pub artifacts: Vec<ArtifactProof>,
}

/// The directory of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDir(PathBuf);

impl Workspace {
    /// Creates what is missing of it and locks it.
    ///
    /// # Errors
    /// Where it cannot be used, or another node uses it.
    pub fn open(root: &Path) -> Result<Self, WorkspaceError> {
        let jobs = root.join("jobs");
        let fail = |source| WorkspaceError::Io { path: root.to_owned(), source };
        create_private(&jobs).map_err(fail)?;
        for path in [root, &jobs] {
            let found = fs::symlink_metadata(path).map_err(fail)?;
            if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
                return Err(WorkspaceError::Foreign(path.to_owned()));
            }
        }
        fs::set_permissions(&jobs, fs::Permissions::from_mode(0o700)).map_err(fail)?;
        let lock = private_file().create(true).truncate(false).open(root.join("node.lock"));
        let lock = lock.map_err(fail)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| WorkspaceError::Busy(root.to_owned()))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
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
        remove_tree(&dir.0)?;
        for part in ["input", "work", "output", "logs"] {
            create_private(&dir.0.join(part))?;
        }
        dir.save(&State {
            phase: Phase::Pulling,
            updated_at: now,
            job: job.clone(),
            run: None,
            error: None,
        })?;
        sync_directory(&self.root.join("jobs"))?;
        Ok(dir)
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
            let Ok(state) = dir.state() else { continue };
            let keep = if state.phase == Phase::Done { keep_success } else { keep_failed };
            if state.phase.is_over() && now.since(state.updated_at) > keep {
                remove_tree(&dir.0)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl JobDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its input files.
    pub fn input(&self) -> PathBuf {
        self.0.join("input")
    }

    /// The program's own directory.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The collected artifacts.
    pub fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// The program's standard output: its hash is the job's `output_sha`.
    pub fn out_txt(&self) -> PathBuf {
        self.0.join("out.txt")
    }

    /// The program's standard error.
    pub fn stderr_log(&self) -> PathBuf {
        self.0.join("logs/stderr.log")
    }

    /// What the program is told about the job.
    pub fn job_file(&self) -> PathBuf {
        self.0.join("job.json")
    }

    /// The report that has to be delivered.
    pub fn report_file(&self) -> PathBuf {
        self.0.join("report.json")
    }

    /// The receipt that the coordinator attested.
    pub fn receipt_file(&self) -> PathBuf {
        self.0.join("receipt.json")
    }

    /// The parts that the sandbox needs to know.
    pub fn places(&self) -> Places {
        Places {
            work: self.work(),
            input: self.input(),
            stdout: self.out_txt(),
            stderr: self.stderr_log(),
        }
    }

    /// Reads `state.json`.
    ///
    /// # Errors
    /// Where it is not there or not ours.
    pub fn state(&self) -> io::Result<State> {
        read_json(&self.0.join("state.json"))
    }

    /// Writes `state.json`, durably.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(&self, state: &State) -> io::Result<()> {
        write_json(&self.0.join("state.json"), state)
    }

    /// Writes another phase.
    ///
    /// # Errors
    /// Of the file system.
    pub fn enter(&self, phase: Phase, now: Timestamp) -> io::Result<()> {
        self.save(&State { phase, updated_at: now, ..self.state()? })
    }

    /// Gives the program's standard output its second name, `logs/stdout.log`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn link_stdout(&self) -> io::Result<()> {
        fs::hard_link(self.out_txt(), self.0.join("logs/stdout.log"))
    }
}

/// Reads one of our own JSON files.
///
/// # Errors
/// Where it is missing, too large or something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let file = File::open(path)?;
    if file.metadata()?.len() > LARGEST_FILE {
        return Err(io::Error::other("larger than any file of ours"));
    }
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

/// Replaces a file by `value` as JSON, so that after a crash it is the old or the new one.
///
/// # Errors
/// Of the file system.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = private_file().create(true).truncate(true).open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a directory and everything in it, also where a job made parts of it unreadable.
///
/// # Errors
/// Of the file system.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Makes every directory below `path` accessible to its owner. Follows no link.
fn unlock(path: &Path) -> io::Result<()> {
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
