//! `pow bench`: hashes for a while, with nothing to be found.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use mining::hasher::{Event, Source};
use mining::host;
use mining::native::FAST_NEEDS_BYTES;
use mining::randomx::{self, Builder, Cache, Mode};
use mining::work::MONERO_NONCE_AT;
use mining::{Algorithm, Hasher, NonceRange, Target, Work};
use serde_json::json;

use super::super::{FAILED, USAGE, answer, complain};

/// The seed of the benchmark; any other would do.
const BENCH_KEY: [u8; 32] = [0; 32];

/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Pause between two looks at the counter of hashes.
const COUNT: Duration = Duration::from_millis(5);

/// Measures the hashrate.
#[derive(Debug, Args)]
pub(in crate::cli) struct Bench {
    /// The algorithm, as pools call it
    #[arg(long, value_name = "NAME", default_value_t = Algorithm::RandomX)]
    algo: Algorithm,
    /// How many threads; without it, one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How long is measured, after all is prepared; for gr, each set of CryptoNights
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Without a dataset: 256 MiB instead of 2.3 GiB, and slow
    #[arg(long)]
    light: bool,
    /// Compiled programs are never in memory that is writable and executable at once
    #[arg(long)]
    secure_jit: bool,
    /// On reserved large pages (`sysctl vm.nr_hugepages`) or none
    #[arg(long)]
    reserved_pages: bool,
    /// For gr, only this of the 20 sets of CryptoNights, 0 to 19; without it, all of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..20))]
    pub(super) rotation: Option<u8>,
    /// As JSON (also where standard output is no terminal)
    #[arg(long)]
    json: bool,
}

/// What was counted.
pub(super) struct Counted {
    pub(super) hashes: u64,
    pub(super) took: Duration,
}

impl Counted {
    /// Hashes per second.
    pub(super) fn rate(&self) -> f64 {
        self.hashes as f64 / self.took.as_secs_f64()
    }
}

impl Bench {
    pub(super) fn main(&self) -> ExitCode {
        if let Some(why) = self.contradiction() {
            return complain(&why, USAGE);
        }
        let report = match self.algo {
            Algorithm::RandomX => self.randomx(),
            Algorithm::GhostRider => self.ghostrider(),
        };
        match report {
            Ok(report) => answer(&report),
            Err(why) => complain(&why, FAILED),
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        match self.algo {
            Algorithm::RandomX if self.rotation.is_some() => Some("rx/0 has no --rotation"),
            Algorithm::GhostRider if self.light => Some("gr has no dataset: leave --light out"),
            Algorithm::GhostRider if self.secure_jit => {
                Some("gr compiles nothing: leave --secure-jit out")
            }
            Algorithm::GhostRider if self.reserved_pages => {
                Some("gr uses transparent large pages only: leave --reserved-pages out")
            }
            _ => None,
        }
    }

    pub(super) fn threads(&self) -> usize {
        let all = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.map_or_else(all, usize::from)
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    pub(super) fn wants_json(&self) -> bool {
        self.json || !std::io::stdout().is_terminal()
    }

    fn randomx(&self) -> Result<String, String> {
        // Reserved pages are no part of what is available.
        let available = host::available_bytes();
        if !self.light && !self.reserved_pages && available < FAST_NEEDS_BYTES {
            let (mib, wants) = (available >> 20, FAST_NEEDS_BYTES >> 20);
            return Err(format!(
                "{mib} MiB of memory are available, a dataset wants {wants}: use --light, a ninth as fast"
            ));
        }
        let mode = Mode { reserved_pages: self.reserved_pages, ..Mode::fastest() };
        let mode = mode.or_secure(self.secure_jit);
        randomx::self_test(mode).map_err(|error| error.to_string())?;
        let cache = Cache::new(mode, &BENCH_KEY).map_err(|error| error.to_string())?;
        let (sender, events) = channel();
        let hasher = Hasher::start(self.threads(), &sender, |_| {}).map_err(|e| e.to_string())?;
        // No hash is that low: nothing but hashing is measured.
        let work = Work::new(vec![0; 76], MONERO_NONCE_AT, NonceRange::ALL, Target::new(1));
        hasher.set_work(Some(work.map_err(|error| error.to_string())?));
        let dataset = if self.light {
            hasher.set_source(Some(Source::Light(cache)));
            hasher.set_running(hasher.lanes());
            None
        } else {
            Some(build(&hasher, &cache, &events)?)
        };
        let counted = count(&hasher, &events, self.seconds())?;
        Ok(self.report(mode, dataset, &counted))
    }

    fn report(
        &self,
        mode: Mode,
        dataset: Option<(Duration, randomx::Pages)>,
        counted: &Counted,
    ) -> String {
        let (threads, took) = (self.threads(), counted.took.as_secs_f64());
        let pages = dataset.map(|(_, pages)| pages.to_string());
        let built = dataset.map(|(built, _)| built.as_secs_f64());
        if self.wants_json() {
            let report = json!({
                "algo": self.algo.as_str(),
                "threads": threads,
                "mode": if self.light { "light" } else { "fast" },
                "compute": mode.to_string(),
                "pages": pages,
                "dataset_seconds": built,
                "seconds": took,
                "hashes": counted.hashes,
                "hashrate": counted.rate(),
            });
            return format!("{report:#}\n");
        }
        let dataset = match (pages, built) {
            (Some(pages), Some(built)) => format!("pages {pages}, dataset in {built:.1} s"),
            _ => "light mode".to_owned(),
        };
        let (algo, rate) = (self.algo, counted.rate());
        format!("{algo}  {rate:.1} H/s  ({threads} threads, {mode}, {dataset}, {took:.0} s)\n")
    }
}

/// Counts for so long, from the end of a hash to the end of a hash: they may come in batches, and
/// half of one would be missing at each end.
pub(super) fn count(
    hasher: &Hasher,
    events: &Receiver<Event>,
    time: Duration,
) -> Result<Counted, String> {
    let (mut first, mut last) = (None, (Instant::now(), hasher.hashes()));
    loop {
        pause(events, COUNT)?;
        let (now, hashes) = (Instant::now(), hasher.hashes());
        if hashes > last.1 {
            last = (now, hashes);
            let (begun, before) = *first.get_or_insert(last);
            if now.duration_since(begun) >= time {
                return Ok(Counted { hashes: hashes - before, took: now.duration_since(begun) });
            }
        }
    }
}

/// Has the lanes build the dataset, and says how far they are.
fn build(
    hasher: &Hasher,
    cache: &Cache,
    events: &Receiver<Event>,
) -> Result<(Duration, randomx::Pages), String> {
    let begun = Instant::now();
    let builder = Arc::new(Builder::new(cache).map_err(|error| error.to_string())?);
    hasher.set_source(Some(Source::Building(Arc::clone(&builder))));
    hasher.set_running(hasher.lanes());
    let mut told = None;
    let dataset = loop {
        if let Some(dataset) = builder.finish() {
            break dataset;
        }
        tell(builder.done_permille() / 10, &mut told);
        pause(events, LOOK)?;
    };
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let pages = dataset.pages();
    if pages.is_slow() {
        eprintln!(
            "[WARN] the dataset lies on small pages: expect 0.6 of the best hashrate \
             (see /sys/kernel/mm/transparent_hugepage/enabled)"
        );
    }
    Ok((begun.elapsed(), pages))
}

/// A line that changes for a terminal, a line for each tenth for a pipe.
fn tell(percent: u64, told: &mut Option<u64>) {
    let mut err = std::io::stderr().lock();
    let done = if err.is_terminal() {
        write!(err, "\rdataset {percent} %").and_then(|()| err.flush())
    } else if *told == Some(percent / 10) {
        Ok(())
    } else {
        *told = Some(percent / 10);
        writeln!(err, "dataset {percent} %")
    };
    // Nobody reads it.
    drop(done);
}

/// Waits, unless a lane has trouble.
pub(super) fn pause(events: &Receiver<Event>, time: Duration) -> Result<(), String> {
    match events.recv_timeout(time) {
        Ok(Event::OutOfMemory(error)) => Err(error.to_string()),
        Ok(Event::BadWork { why, .. }) => Err(why.to_string()),
        _ => Ok(()),
    }
}
