//! What happened when, over the whole fleet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::JobId;
use serde::Serialize;
use tokio::sync::Notify;

use super::Submitted;

/// Half of all, and the slowest, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half took at most this.
    pub p50_ms: f64,
    /// 99 of 100 took at most this.
    pub p99_ms: f64,
    /// All took at most this.
    pub most_ms: f64,
}

impl Quantiles {
    /// Of `all`; `None` of nothing.
    pub fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let at = |permille: usize| {
            // The nearest rank, from below.
            let rank = (all.len() * permille).div_ceil(1000).max(1);
            all.get(rank - 1).map(|one| one.as_secs_f64() * 1000.0)
        };
        Some(Self { p50_ms: at(500)?, p99_ms: at(990)?, most_ms: at(1000)? })
    }
}

/// How credits came, by the time since a beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// How many in each tenth of a second, up to the last one.
    pub each_100_ms: Vec<u32>,
    /// The longest time between two.
    pub longest_pause: Option<Duration>,
    /// When the last one came.
    pub last: Option<Duration>,
}

impl Flow {
    fn of(mut credits: Vec<Duration>) -> Self {
        credits.sort_unstable();
        let mut each_100_ms: Vec<u32> = Vec::new();
        for at in &credits {
            let tenth = usize::try_from(at.as_millis() / 100).unwrap_or(usize::MAX);
            each_100_ms.resize(tenth + 1, 0);
            each_100_ms[tenth] += 1;
        }
        let pauses = credits.windows(2).map(|two| two[1] - two[0]);
        Self { each_100_ms, longest_pause: pauses.max(), last: credits.last().copied() }
    }
}

/// Collects what all parts of a simulation saw.
#[derive(Debug, Default)]
pub struct Times {
    all: Mutex<All>,
    credited: AtomicUsize,
    heartbeats: AtomicUsize,
    moved: Notify,
}

#[derive(Debug, Default)]
struct All {
    submitted: Vec<Submitted>,
    started: HashMap<JobId, Instant>,
    credits: HashMap<JobId, Instant>,
    paid: usize,
    failures: usize,
    first_failure: Option<String>,
}

impl Times {
    /// Jobs were submitted.
    pub fn submitted(&self, jobs: impl IntoIterator<Item = Submitted>) {
        self.all().submitted.extend(jobs);
    }

    /// A job has arrived at a miner, and was credited later.
    pub fn credit(&self, job: JobId, started: Instant, paid: bool) {
        let now = Instant::now();
        let mut all = self.all();
        all.started.insert(job, started);
        all.credits.insert(job, now);
        all.paid += usize::from(paid);
        // Of a job that was credited twice the map would keep one, so this counts what is in it.
        self.credited.store(all.credits.len(), Ordering::Release);
        drop(all);
        self.moved.notify_one();
    }

    /// A miner gave a sign of life.
    pub fn heartbeat(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    /// Something went wrong and is tried again.
    pub fn failure(&self, what: String) {
        let mut all = self.all();
        all.failures += 1;
        all.first_failure.get_or_insert(what);
    }

    /// How many jobs were credited.
    pub fn credited(&self) -> usize {
        self.credited.load(Ordering::Acquire)
    }

    /// How many of the credits were above zero.
    pub fn paid(&self) -> usize {
        self.all().paid
    }

    /// How many signs of life were answered.
    pub fn heartbeats(&self) -> usize {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// How many requests failed, and the first of them.
    pub fn failures(&self) -> (usize, Option<String>) {
        let all = self.all();
        (all.failures, all.first_failure.clone())
    }

    /// How credits came since `begun`.
    pub fn flow(&self, begun: Instant) -> Flow {
        let all = self.all();
        Flow::of(all.credits.values().map(|at| at.saturating_duration_since(begun)).collect())
    }

    /// From submission to arrival.
    pub fn to_start(&self) -> Option<Quantiles> {
        let all = self.all();
        Quantiles::of(since(&all.submitted, &all.started))
    }

    /// From submission to credit.
    pub fn to_credit(&self) -> Option<Quantiles> {
        let all = self.all();
        Quantiles::of(since(&all.submitted, &all.credits))
    }

    /// Waits for one more credit, but not longer than `most`.
    pub async fn wait(&self, most: Duration) {
        // Either way the caller looks again.
        let _ = tokio::time::timeout(most, self.moved.notified()).await;
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since(begun: &[Submitted], ended: &HashMap<JobId, Instant>) -> Vec<Duration> {
    let took = |(job, begun): &Submitted| Some(ended.get(job)?.saturating_duration_since(*begun));
    begun.iter().filter_map(took).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(Quantiles::of(Vec::new()), None);
        let one = Quantiles::of(vec![Duration::from_millis(7)]).unwrap();
        assert_eq!((one.p50_ms, one.p99_ms, one.most_ms), (7.0, 7.0, 7.0));
        let many = Quantiles::of((1..=200).rev().map(Duration::from_millis).collect()).unwrap();
        assert_eq!((many.p50_ms, many.p99_ms, many.most_ms), (100.0, 198.0, 200.0));
    }

    #[test]
    fn a_flow_has_a_count_for_every_tenth_of_a_second() {
        let flow = Flow::of([950, 20, 30, 400].map(Duration::from_millis).to_vec());
        assert_eq!(flow.each_100_ms, [2, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(flow.longest_pause, Some(Duration::from_millis(550)));
        assert_eq!(flow.last, Some(Duration::from_millis(950)));
        let none = Flow { each_100_ms: Vec::new(), longest_pause: None, last: None };
        assert_eq!(Flow::of(Vec::new()), none);
    }
}
