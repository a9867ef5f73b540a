//! What an engine tells while it works, in the words that miners know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::algorithm::Algorithm;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Notice {
    /// A pool took our login.
    Connected {
        /// The pool.
        pool: String,
    },
    /// The connection to a pool ended.
    Disconnected {
        /// The pool.
        pool: String,
        /// Why.
        reason: String,
        /// When the next try begins, in seconds.
        again_in_secs: u64,
    },
    /// There is other work.
    Job {
        /// The pool.
        pool: String,
        /// The difficulty of its shares.
        difficulty: u64,
        /// What is computed.
        algorithm: Algorithm,
        /// The height of the block, where the pool tells.
        height: Option<u64>,
    },
    /// A share was answered, or never will be.
    Share {
        /// What became of it.
        verdict: Outcome,
        /// Accepted so far.
        accepted: u64,
        /// Not accepted so far.
        refused: u64,
        /// Its difficulty.
        difficulty: u64,
        /// Why it was not accepted.
        reason: Option<String>,
        /// How long the answer took, in milliseconds.
        took_ms: u64,
    },
    /// A dataset is begun.
    Preparing {
        /// Of the block that comes next.
        ahead: bool,
    },
    /// So much of the dataset is there.
    Dataset {
        /// In percent.
        percent: u64,
    },
    /// All is there that hashing needs.
    Ready {
        /// Pages, mode and threads in words.
        in_force: String,
        /// How long the dataset took.
        #[serde(serialize_with = "seconds")]
        took: Option<Duration>,
    },
    /// The dataset of the block that comes next is there: the change will cost nothing.
    ReadyAhead,
    /// The dataset's memory went back to the machine.
    GivenBack,
    /// Something that an owner should look at.
    Warning {
        /// What, and what to do.
        text: String,
    },
}

/// What became of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The pool pays for it.
    Accepted,
    /// It does not.
    Rejected,
    /// It came too late.
    Stale,
    /// Nobody knows.
    Lost,
}

/// Who is told. Called by the engine's thread: must return soon.
pub type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

fn seconds<S: serde::Serializer>(took: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    took.map(|took| took.as_secs_f64()).serialize(to)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Stale => "stale",
            Self::Lost => "lost",
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { pool } => write!(f, "use pool {pool}"),
            Self::Disconnected { pool, reason, again_in_secs } => {
                write!(f, "{pool}: {reason}; again in {again_in_secs} s")
            }
            Self::Job { pool, difficulty, algorithm, height } => {
                write!(f, "new job from {pool} diff {difficulty} algo {algorithm}")?;
                height.map_or(Ok(()), |height| write!(f, " height {height}"))
            }
            Self::Share { verdict, accepted, refused, difficulty, reason, took_ms } => {
                write!(f, "{verdict} ({accepted}/{refused}) diff {difficulty}")?;
                if let Some(reason) = reason {
                    write!(f, " \"{reason}\"")?;
                }
                write!(f, " ({took_ms} ms)")
            }
            Self::Preparing { ahead: false } => f.write_str("dataset is being built"),
            Self::Preparing { ahead: true } => f.write_str("next dataset is being built ahead"),
            Self::Dataset { percent } => write!(f, "dataset {percent} %"),
            Self::Ready { in_force, took: None } => write!(f, "ready: {in_force}"),
            Self::Ready { in_force, took: Some(took) } => {
                write!(f, "dataset ready ({:.1} s): {in_force}", took.as_secs_f64())
            }
            Self::ReadyAhead => f.write_str("next dataset ready"),
            Self::GivenBack => f.write_str("memory given back"),
            Self::Warning { text } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_miners_know() {
        let job = Notice::Job {
            pool: "pool.example:3333".into(),
            difficulty: 10_000,
            algorithm: Algorithm::RandomX,
            height: Some(3_000_000),
        };
        let text = "new job from pool.example:3333 diff 10000 algo rx/0 height 3000000";
        assert_eq!(job.to_string(), text);
        let share = |verdict, reason: Option<&str>| Notice::Share {
            verdict,
            accepted: 3,
            refused: 1,
            difficulty: 10_000,
            reason: reason.map(str::to_owned),
            took_ms: 41,
        };
        let text = "accepted (3/1) diff 10000 (41 ms)";
        assert_eq!(share(Outcome::Accepted, None).to_string(), text);
        let text = "rejected (3/1) diff 10000 \"Low difficulty share\" (41 ms)";
        let rejected = share(Outcome::Rejected, Some("Low difficulty share"));
        assert_eq!(rejected.to_string(), text);
        let json = serde_json::to_value(rejected).unwrap();
        assert_eq!((&json["event"], &json["verdict"]), (&"share".into(), &"rejected".into()));
    }
}
