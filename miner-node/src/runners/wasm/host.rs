//! What a module is told of the world: a clock that only its own waiting moves, random numbers out
//! of a seed, its arguments, and the work directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use cap_std::time::{Duration, Instant, SystemTime};
use sha2::{Digest as _, Sha256};
use wasi_common::random::Deterministic;
use wasi_common::sched::{RwEventFlags, Subscription};
use wasi_common::{
    Error, Poll, Table, WasiClocks, WasiCtx, WasiFile, WasiMonotonicClock, WasiSched,
    WasiSystemClock,
};

use super::files::Directory;
use super::params::Params;

/// What the system's clock shows at the start: 2024-01-01T00:00:00Z, in seconds.
const EPOCH_SECS: u64 = 1_704_067_200;

/// After so many bytes the random numbers come again.
const RANDOM_BYTES: usize = 64 << 10;

/// The names under which the module finds its work directory; the first is also where relative
/// paths begin.
const WORK_NAMES: [&str; 2] = [".", crate::sandbox::WORK_DIR];

/// The world of a module that works in `work` and prints into `streams`, output and error.
///
/// # Errors
/// Where the directory cannot be opened, or an argument holds what WASI does not know.
pub(super) fn world(
    params: &Params,
    args: &[String],
    work: &Path,
    streams: [Box<dyn WasiFile>; 2],
) -> Result<WasiCtx, wasmtime::Error> {
    let clock = Clock::default();
    let clocks = WasiClocks::new().with_system(clock.clone()).with_monotonic(clock.clone());
    let random = Box::new(Deterministic::new(random_bytes(params.seed)));
    let mut world = WasiCtx::new(random, clocks, Box::new(clock), Table::new());
    let [stdout, stderr] = streams;
    world.set_stdout(stdout);
    world.set_stderr(stderr);
    world.push_arg(&params.module)?;
    for arg in args {
        world.push_arg(arg)?;
    }
    for (name, value) in &params.env {
        world.push_env(name, value)?;
    }
    for name in WORK_NAMES {
        world.push_preopened_dir(Box::new(Directory::open(work)?), name)?;
    }
    Ok(world)
}

/// SHA-256 over seed and counter, again and again.
fn random_bytes(seed: u64) -> Vec<u8> {
    let block = |counter: u64| {
        let mut digest = Sha256::new();
        digest.update(seed.to_le_bytes());
        digest.update(counter.to_le_bytes());
        digest.finalize()
    };
    (0_u64..).flat_map(block).take(RANDOM_BYTES).collect()
}

/// A clock that stands still until somebody waits: then it is that much later at once.
#[derive(Clone)]
struct Clock {
    /// A moment without meaning: only what has passed since is ever shown.
    origin: Instant,
    nanos: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        let origin = Instant::from_std(std::time::Instant::now());
        Self { origin, nanos: Arc::default() }
    }
}

impl Clock {
    fn passed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn wait(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = self.nanos.load(Ordering::Relaxed);
        // Far beyond, clocks overflow: nobody waits for centuries.
        self.nanos.store(now.saturating_add(nanos).min(i64::MAX.unsigned_abs()), Ordering::Relaxed);
    }
}

impl WasiSystemClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self, _precision: Duration) -> SystemTime {
        let epoch = std::time::UNIX_EPOCH + Duration::from_secs(EPOCH_SECS);
        SystemTime::from_std(epoch + self.passed())
    }
}

impl WasiMonotonicClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self, _precision: Duration) -> Instant {
        self.origin + self.passed()
    }
}

#[async_trait]
impl WasiSched for Clock {
    async fn poll_oneoff<'a>(&self, poll: &mut Poll<'a>) -> Result<(), Error> {
        let mut is_ready = false;
        // Files and pipes are always ready.
        for subscription in poll.rw_subscriptions() {
            is_ready = true;
            match subscription {
                Subscription::Read(file) | Subscription::Write(file) => {
                    file.complete(1, RwEventFlags::empty());
                }
                Subscription::MonotonicClock(_) => {}
            }
        }
        let earliest = poll.earliest_clock_deadline().filter(|_| !is_ready);
        if let Some(duration) = earliest.and_then(|clock| clock.duration_until()) {
            self.wait(duration);
        }
        Ok(())
    }

    async fn sched_yield(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Error> {
        self.wait(duration);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_by_waiting_only() {
        let clock = Clock::default();
        let system = |clock: &Clock| WasiSystemClock::now(clock, Duration::ZERO);
        let start = system(&clock);
        assert_eq!(start, system(&clock));
        clock.wait(Duration::from_secs(7));
        assert_eq!(system(&clock).duration_since(start).unwrap(), Duration::from_secs(7));
        clock.wait(Duration::MAX);
        clock.wait(Duration::MAX);
        assert!(system(&clock) > start);
        assert!(WasiMonotonicClock::now(&clock, Duration::ZERO) > clock.origin);
    }

    #[test]
    fn random_numbers_follow_from_the_seed() {
        let first = random_bytes(1);
        assert_eq!(first.len(), RANDOM_BYTES);
        assert_eq!(first, random_bytes(1));
        assert_ne!(first[..32], random_bytes(2)[..32]);
        assert_ne!(first[..32], first[32..64]);
    }
}
