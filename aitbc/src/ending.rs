//! How the program ends: the one place where outcomes and errors become exit codes.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use protocol::JobState;

use crate::coordinator::CallError;
use crate::profile::ProfileError;

/// What an exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It was done.
    Done,
    /// The job failed, or a check.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// The job was canceled, or nobody took it in time.
    Canceled,
    /// The coordinator refused.
    Refused,
    /// The coordinator refused the key.
    KeyRefused,
    /// It may work later.
    Later,
    /// Ctrl-C; what runs at the coordinator goes on.
    Interrupted,
}

impl Ending {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Canceled,
        Self::Refused,
        Self::KeyRefused,
        Self::Later,
        Self::Interrupted,
    ];

    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Canceled => 3,
            Self::Refused => 4,
            Self::KeyRefused => 5,
            Self::Later => 6,
            Self::Interrupted => 130,
        }
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "the job failed, a check failed, or a file could not be written",
            Self::Usage => "the command line, an input or the configuration is wrong",
            Self::Canceled => "the job was canceled, or nobody took it in time",
            Self::Refused => "the coordinator refused (4xx)",
            Self::KeyRefused => "the coordinator refused the key (401, 403)",
            Self::Later => {
                "the coordinator cannot be reached or cannot do it now (408, 425, 429, 5xx)"
            }
            Self::Interrupted => "interrupted (Ctrl-C); jobs go on",
        }
    }

    /// How the program ends that waited for a job.
    ///
    /// A job that has not ended is nothing that was waited for.
    pub const fn of_job(state: JobState) -> Self {
        match state {
            JobState::Completed | JobState::Queued | JobState::Assigned | JobState::Running => {
                Self::Done
            }
            JobState::Failed => Self::Failed,
            JobState::Canceled | JobState::Expired => Self::Canceled,
        }
    }

    /// How the program ends after a reply of this status.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Done,
            401 | 403 => Self::KeyRefused,
            408 | 425 | 429 => Self::Later,
            400..=499 => Self::Refused,
            _ => Self::Later,
        }
    }
}

/// The table of exit codes, as `--help` prints it.
pub fn table() -> String {
    let mut text = "Exit codes:\n".to_owned();
    for ending in Ending::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:>3}  {}", ending.code(), ending.meaning());
    }
    text
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line, or a file that it names, makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something was checked and is not good.
    #[error("{0}")]
    NotGood(String),
    /// A file cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// The command line, or a file that it names, makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A file that the command line names cannot be read.
    pub fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Usage(format!("{}: {error}", path.display()))
    }

    /// A file is where another one shall be written, and `--force` was not said.
    pub fn in_the_way(path: &Path) -> Self {
        Self::Usage(format!("{} is there; --force replaces it", path.display()))
    }

    /// For `map_err`: `path` cannot be written.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Write { path, error }
    }

    /// How the program ends.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Usage(_) | Self::Profile(_) => Ending::Usage,
            Self::NotGood(_) | Self::Write { .. } | Self::Call(CallError::File(_)) => {
                Ending::Failed
            }
            // A reader that has seen enough (`| head`) is no fault.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ending::Done,
            Self::Output(_) => Ending::Failed,
            Self::Call(CallError::Refused(refusal)) => Ending::of_status(refusal.status),
            Self::Call(CallError::Unreachable(_) | CallError::Nonsense(_)) => Ending::Later,
            Self::Call(CallError::Local(_)) => Ending::Usage,
        }
    }

    /// What can be done about it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Call(error) => error.advice(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_and_every_state_has_its_ending() {
        for (status, ending) in [
            (200, Ending::Done),
            (400, Ending::Refused),
            (401, Ending::KeyRefused),
            (402, Ending::Refused),
            (403, Ending::KeyRefused),
            (404, Ending::Refused),
            (408, Ending::Later),
            (409, Ending::Refused),
            (422, Ending::Refused),
            (425, Ending::Later),
            (429, Ending::Later),
            (302, Ending::Later),
            (500, Ending::Later),
            (503, Ending::Later),
        ] {
            assert_eq!(Ending::of_status(status), ending, "{status}");
        }
        let ends: Vec<_> = JobState::ALL.iter().map(|s| Ending::of_job(*s).code()).collect();
        assert_eq!(ends, [0, 0, 0, 0, 1, 3, 3]);
    }

    #[test]
    fn codes_differ() {
        let mut codes: Vec<_> = Ending::ALL.iter().map(|ending| ending.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130]);
    }
}
