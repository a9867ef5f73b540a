//! Our side: lanes in this process, parked between their slices.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use mining::ghostrider::{HEADER_BYTES, Plans, VariantSet};
use mining::hasher::{Event, Source};
use mining::randomx::{Builder, Cache, Mode};
use mining::work::{HEADER_NONCE_AT, MONERO_NONCE_AT};
use mining::{Algorithm, Hasher, NonceRange, Target, Work};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::Options;
use crate::time::{Moment, Slice, cpu_seconds};

/// Pause between two looks at what the lanes do.
const LOOK: Duration = Duration::from_millis(1);

/// Keeps this process, from now on, to the first `count` of its processors; which ones these are.
pub(crate) fn keep_to_processors(count: usize) -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("the processors of this process");
    let allowed = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    let kept: Vec<usize> = allowed.take(count).collect();
    let mut set = CpuSet::new();
    kept.iter().for_each(|processor| set.set(*processor));
    sched_setaffinity(None, &set).expect("some of its processors");
    kept
}

/// The lanes.
pub(crate) struct Ours {
    hasher: Hasher,
    /// The lanes tell into it.
    _events: Receiver<Event>,
    /// What they hash with, in words.
    in_force: String,
    begun: Instant,
    prepared: Duration,
}

impl Ours {
    /// Builds the dataset, or finds the best widths; then the lanes are parked.
    pub(crate) fn start(options: &Options) -> Self {
        let begun = Instant::now();
        let (sender, events) = channel();
        let hasher = Hasher::start(options.threads, &sender, |_| {}).expect("threads");
        let in_force = match options.algorithm {
            Algorithm::RandomX => build(&hasher, options.huge),
            Algorithm::GhostRider => tune(&hasher),
        };
        let ours = Self { hasher, _events: events, in_force, begun, prepared: begun.elapsed() };
        ours.park();
        ours
    }

    /// What is hashed from now on.
    pub(crate) fn set(&self, set: VariantSet) {
        let mut header = [0; HEADER_BYTES];
        header[4..36].copy_from_slice(&set.example());
        self.hasher.set_work(Some(work(&header, HEADER_NONCE_AT)));
    }

    /// Hashes for so long.
    pub(crate) fn slice(&self, time: Duration) -> Slice {
        self.go_on();
        let first = self.moment();
        thread::sleep(time);
        let last = self.moment();
        self.park();
        Slice { first, last }
    }

    fn moment(&self) -> Moment {
        Moment {
            hashes: self.hasher.hashes(),
            seconds: self.begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds("self"),
        }
    }

    pub(crate) fn go_on(&self) {
        self.hasher.set_running(self.hasher.lanes());
    }

    /// How long it took until all lanes had let go.
    pub(crate) fn park(&self) -> Duration {
        let begun = Instant::now();
        self.hasher.set_running(0);
        while self.hasher.parked() < self.hasher.lanes() {
            thread::yield_now();
        }
        begun.elapsed()
    }

    /// What they are, in words.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "in_force": self.in_force,
            "prepared_seconds": self.prepared.as_secs_f64(),
        })
    }
}

/// No hash is that low: nothing but hashing is measured.
fn work(blob: &[u8], nonce_at: usize) -> Work {
    Work::new(blob.to_vec(), nonce_at, NonceRange::ALL, Target::new(1)).expect("a blob")
}

fn build(hasher: &Hasher, huge: bool) -> String {
    let mode = Mode { reserved_pages: huge, ..Mode::fastest() };
    let cache = Cache::new(mode, &[0; 32]).expect("256 MiB");
    let builder = Arc::new(Builder::new(&cache).expect("2080 MiB"));
    hasher.set_work(Some(work(&[0; 76], MONERO_NONCE_AT)));
    hasher.set_source(Some(Source::Building(Arc::clone(&builder))));
    hasher.set_running(hasher.lanes());
    let pages = loop {
        if let Some(dataset) = builder.finish() {
            break dataset.pages();
        }
        thread::sleep(LOOK);
    };
    // The scratchpads are made, and the first hashes computed.
    while hasher.hashes() < 10 * hasher.lanes() as u64 {
        thread::sleep(LOOK);
    }
    format!("pages {pages}, {mode}, {} threads, fast mode", hasher.lanes())
}

fn tune(hasher: &Hasher) -> String {
    let plans = Plans::tuned(hasher.lanes());
    hasher.set_source(Some(Source::GhostRider(plans.clone())));
    hasher.set_running(hasher.lanes());
    while !plans.are_known(hasher.lanes()) {
        thread::sleep(LOOK);
    }
    format!("{plans}, {} threads", hasher.lanes())
}
