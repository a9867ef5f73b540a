//! What a failed attempt means for its job. Pure.

use std::time::Duration;

use protocol::job::SlotKind;
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

/// The tries of a job so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Chargeable ones, the current included: from 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// How often the job was leased, counted or not.
    pub leases: i64,
}

/// How often a miner may say that it has no GPU after all, per try, before it counts: who says so
/// for ever must not keep a job going round for ever.
const FREE_LEASES: i64 = 4;

/// The rule. `slot` is where the job runs; `others` says whether another miner could run it.
pub fn after_failure(
    code: FailureCode,
    tries: Tries,
    slot: SlotKind,
    others: bool,
    retry: Duration,
) -> Next {
    let left = tries.attempt < tries.max_attempts;
    let free = tries.leases <= i64::from(tries.max_attempts) * FREE_LEASES;
    match code {
        FailureCode::NoGpu if slot == SlotKind::Gpu && free => {
            Next::Requeue { counted: false, delay: Duration::ZERO, exclude: false }
        }
        FailureCode::Deny
        | FailureCode::Unsupported
        | FailureCode::Input
        | FailureCode::Signature
        | FailureCode::Egress
        | FailureCode::NoGpu
            if left && others =>
        {
            Next::Requeue { counted: true, delay: Duration::ZERO, exclude: true }
        }
        // A client's cancellation takes the job out of the queue first: a miner that says so of a
        // job that is still there gave up by itself.
        FailureCode::Crash | FailureCode::Canceled if left => {
            Next::Requeue { counted: true, delay: Duration::ZERO, exclude: false }
        }
        FailureCode::Timeout
        | FailureCode::Oom
        | FailureCode::Exit
        | FailureCode::Signal
        | FailureCode::Output
        | FailureCode::Upload
        | FailureCode::Internal
            if left =>
        {
            let delay = retry * 2_u32.saturating_pow(tries.attempt.saturating_sub(1));
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

    fn after(code: FailureCode, attempt: u32, others: bool) -> Next {
        let tries = Tries { attempt, max_attempts: 3, leases: i64::from(attempt) };
        after_failure(code, tries, SlotKind::Gpu, others, RETRY)
    }

    #[test]
    fn the_table_of_the_contract() {
        use FailureCode::*;
        let failed = Next::End(JobState::Failed);
        for code in [Deny, Unsupported, Input, Signature, Egress] {
            assert_eq!(after(code, 1, true), requeue(true, 0, true), "{code}");
            assert_eq!(after(code, 1, false), failed, "{code}");
            assert_eq!(after(code, 3, true), failed, "{code}");
        }
        for code in [Timeout, Oom, Exit, Signal, Output, Upload, Internal] {
            assert_eq!(after(code, 1, false), requeue(true, 5, false), "{code}");
            assert_eq!(after(code, 2, false), requeue(true, 10, false), "{code}");
            assert_eq!(after(code, 3, true), failed, "{code}");
        }
        for code in [Crash, Canceled] {
            assert_eq!(after(code, 2, false), requeue(true, 0, false), "{code}");
            assert_eq!(after(code, 3, true), failed, "{code}");
        }
    }

    #[test]
    fn a_missing_gpu_is_free_but_not_for_ever_and_not_on_a_processor() {
        let no_gpu = |slot, leases| {
            let tries = Tries { attempt: 1, max_attempts: 3, leases };
            after_failure(FailureCode::NoGpu, tries, slot, true, RETRY)
        };
        assert_eq!(no_gpu(SlotKind::Gpu, 12), requeue(false, 0, false));
        assert_eq!(no_gpu(SlotKind::Gpu, 13), requeue(true, 0, true));
        assert_eq!(no_gpu(SlotKind::Cpu, 1), requeue(true, 0, true));
    }
}
