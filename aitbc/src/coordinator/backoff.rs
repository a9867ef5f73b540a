//! Repetition of calls that may work later, with pauses in between.

use std::time::Duration;

use tokio::time::sleep;

use super::CallError;
use crate::chance;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. Who is asked to stay away for longer is told so, and does not wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether a call may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// A second one has no further effect.
    Safe,
    /// Only where the first one had no effect for certain.
    Unsent,
}

/// How often a call is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Repetitions after the first try.
    pub retries: u32,
    /// Whether pauses are announced on standard error.
    pub quiet: bool,
}

impl Patience {
    /// Calls until it works, cannot work, or patience ends.
    ///
    /// # Errors
    /// That of the last call.
    pub async fn keep_trying<T>(
        self,
        repeat: Repeat,
        mut call: impl AsyncFnMut() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut tried = 0;
        loop {
            let error = match call().await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let pause = error.pause(repeat).map(|least| pause(tried, least, chance::random_u32()));
            let Some(pause) = pause.filter(|pause| *pause <= LONGEST_PAUSE * 11 / 10) else {
                return Err(error);
            };
            if tried == self.retries {
                return Err(error);
            }
            if !self.quiet {
                eprintln!("aitbc: {error}; trying again in {} s", pause.as_secs().max(1));
            }
            sleep(pause).await;
            tried += 1;
        }
    }
}

/// The pause after so many tries: at least `least`, and ±10 % by `random`.
pub fn pause(tried: u32, least: Duration, random: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2u32.saturating_pow(tried.min(16));
    let percent = 90 + random % 21;
    (doubled.min(LONGEST_PAUSE) * percent / 100).max(least)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::error::Refusal;
    use super::*;

    const PATIENCE: Patience = Patience { retries: 4, quiet: true };

    fn refused(status: u16, code: &str, retry_after: Option<u64>) -> CallError {
        let retry_after = retry_after.map(Duration::from_secs);
        let refusal = Refusal { status, code: code.to_owned(), retry_after, ..Refusal::default() };
        CallError::Refused(Box::new(refusal))
    }

    /// After how many calls and how long a call ends that always gets this answer.
    async fn endure(repeat: Repeat, answer: impl Fn() -> CallError) -> (u32, Duration) {
        let (mut calls, started) = (0, Instant::now());
        let ended: Result<(), _> = PATIENCE
            .keep_trying(repeat, async || {
                calls += 1;
                Err(answer())
            })
            .await;
        ended.unwrap_err();
        (calls, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_with_growing_pauses() {
        for answer in [
            || refused(500, "INTERNAL", None),
            || refused(503, "DB_UNAVAILABLE", None),
            || refused(408, "REQUEST_TIMEOUT", None),
            || refused(409, "IDEMPOTENCY_IN_FLIGHT", None),
            || CallError::Unreachable("no route".to_owned()),
        ] {
            let (calls, waited) = endure(Repeat::Safe, answer).await;
            assert_eq!(calls, 5);
            assert!((13..=17).contains(&waited.as_secs()), "{waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_coordinator_says_when_to_come_back() {
        let (calls, waited) = endure(Repeat::Safe, || refused(429, "RATE_LIMITED", Some(30))).await;
        assert_eq!((calls, waited.as_secs()), (5, 120));
        // Nobody sits at a terminal until midnight.
        let (calls, _) = endure(Repeat::Safe, || refused(429, "RATE_LIMITED", Some(3600))).await;
        assert_eq!(calls, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_is_not_tried_again() {
        for answer in [
            || refused(401, "UNAUTHORIZED_KEY", None),
            || refused(404, "JOB_NOT_FOUND", None),
            || refused(422, "INVALID_PAYLOAD", None),
            || refused(425, "JOB_NOT_READY", None),
            || refused(429, "QUOTA_EXCEEDED", Some(1)),
            || refused(503, "NO_ELIGIBLE_MINER", None),
        ] {
            assert_eq!(endure(Repeat::Safe, answer).await.0, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_happened_is_not_done_twice() {
        let broken = || CallError::Unreachable("broken off".to_owned());
        assert_eq!(endure(Repeat::Unsent, broken).await.0, 1);
        assert_eq!(endure(Repeat::Unsent, || refused(500, "INTERNAL", None)).await.0, 1);
        assert_eq!(endure(Repeat::Unsent, || refused(429, "RATE_LIMITED", None)).await.0, 5);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let secs: Vec<_> = (0..8).map(|tried| pause(tried, Duration::ZERO, 10).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(0, Duration::ZERO, 0), Duration::from_millis(900));
        assert_eq!(pause(0, Duration::from_secs(7), 0), Duration::from_secs(7));
    }
}
