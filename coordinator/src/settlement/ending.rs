//! What a failed attempt means for its job. Pure.

use std::time::Duration;

use protocol::{FailureCode, JobState};

/// What becomes of a job whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes back to the queue.
    Requeue {
        /// Whether the try counts.
        counted: bool,
        /// How long it waits there before anybody gets it.
        delay: Duration,
        /// Whether this miner may get it again.
        exclude: bool,
    },
    /// It ends.
    End(JobState),
}

/// The rule. `attempt` counts from 1; `others` says whether another miner could run the job.
pub fn after_failure(
    code: FailureCode,
    attempt: u32,
    max_attempts: u32,
    others: bool,
    retry: Duration,
) -> Next {
    let left = attempt < max_attempts;
    match code {
        FailureCode::Canceled => Next::End(JobState::Canceled),
        // The manifest is wrong wherever it runs.
        FailureCode::Signature => Next::End(JobState::Failed),
        FailureCode::NoGpu => {
            Next::Requeue { counted: false, delay: Duration::ZERO, exclude: false }
        }
        FailureCode::Deny | FailureCode::Unsupported | FailureCode::Input if left && others => {
            Next::Requeue { counted: true, delay: Duration::ZERO, exclude: true }
        }
        FailureCode::Crash if left => {
            Next::Requeue { counted: true, delay: Duration::ZERO, exclude: false }
        }
        FailureCode::Timeout
        | FailureCode::Oom
        | FailureCode::Exit
        | FailureCode::Signal
        | FailureCode::Output
        | FailureCode::Upload
        | FailureCode::Egress
        | FailureCode::Internal
            if left =>
        {
            let delay = retry * 2_u32.saturating_pow(attempt.saturating_sub(1));
            Next::Requeue { counted: true, delay, exclude: false }
        }
        _ => Next::End(JobState::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(5);

    fn requeue(counted: bool, secs: u64, exclude: bool) -> Next {
        Next::Requeue { counted, delay: Duration::from_secs(secs), exclude }
    }

    #[test]
    fn the_table_of_the_contract() {
        use FailureCode::*;
        let failed = Next::End(JobState::Failed);
        for code in [Deny, Unsupported, Input] {
            assert_eq!(after_failure(code, 1, 3, true, RETRY), requeue(true, 0, true), "{code}");
            assert_eq!(after_failure(code, 1, 3, false, RETRY), failed, "{code}");
            assert_eq!(after_failure(code, 3, 3, true, RETRY), failed, "{code}");
        }
        for code in [Timeout, Oom, Exit, Signal, Output, Upload, Egress, Internal] {
            assert_eq!(after_failure(code, 1, 3, false, RETRY), requeue(true, 5, false), "{code}");
            assert_eq!(after_failure(code, 2, 3, false, RETRY), requeue(true, 10, false), "{code}");
            assert_eq!(after_failure(code, 3, 3, true, RETRY), failed, "{code}");
        }
        assert_eq!(after_failure(Signature, 1, 3, true, RETRY), failed);
        assert_eq!(after_failure(NoGpu, 3, 3, false, RETRY), requeue(false, 0, false));
        assert_eq!(after_failure(Crash, 2, 3, false, RETRY), requeue(true, 0, false));
        assert_eq!(after_failure(Crash, 3, 3, true, RETRY), failed);
        assert_eq!(after_failure(Canceled, 1, 3, true, RETRY), Next::End(JobState::Canceled));
    }
}
