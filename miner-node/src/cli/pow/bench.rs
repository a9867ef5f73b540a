//! `pow`: one proof-of-work hash, or how many this machine computes in a second. Needs neither
//! coordinator nor pool.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use mining::hasher::{Event, Source};
use mining::randomx::{self, Builder, Cache, Machine, Mode};
use mining::work::MONERO_NONCE_AT;
use mining::{Algorithm, Hasher, NonceRange, Target, Work};
use serde_json::json;

use super::{FAILED, USAGE, answer, complain};

/// The longest seed, in bytes: RandomX ignores what lies beyond.
const LONGEST_KEY: usize = 60;

/// The longest input, in bytes.
const LONGEST_INPUT: usize = 64 << 10;

/// The seed of the benchmark; any other would do.
const BENCH_KEY: [u8; 32] = [0; 32];

/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Computes proof-of-work hashes.
#[derive(Debug, Subcommand)]
pub(super) enum Pow {
    /// Print the hash of an input
    Hash(Hash),
    /// Measure the hashrate
    Bench(Bench),
}

/// Prints the hash of an input.
#[derive(Debug, Args)]
pub(super) struct Hash {
    /// The algorithm, as pools call it
    #[arg(long, value_name = "NAME", default_value_t = Algorithm::RandomX)]
    algo: Algorithm,
    /// The seed, in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    key: String,
    /// What is hashed, in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    input: String,
}

/// Measures the hashrate.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The algorithm, as pools call it
    #[arg(long, value_name = "NAME", default_value_t = Algorithm::RandomX)]
    algo: Algorithm,
    /// How many threads; without it, one per processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How long is measured, after the dataset is there
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Without a dataset: 256 MiB instead of 2.3 GiB, and slow
    #[arg(long)]
    light: bool,
    /// On reserved large pages (`sysctl vm.nr_hugepages`) or none
    #[arg(long)]
    reserved_pages: bool,
    /// As JSON (also where standard output is no terminal)
    #[arg(long)]
    json: bool,
}

/// What was measured.
struct Measured {
    hashes: u64,
    took: Duration,
    dataset: Option<(Duration, randomx::Pages)>,
}

impl Pow {
    pub(super) fn main(&self) -> ExitCode {
        match self {
            Self::Hash(hash) => hash.main(),
            Self::Bench(bench) => bench.main(),
        }
    }
}

impl Hash {
    fn main(&self) -> ExitCode {
        let bytes = || -> Result<_, String> {
            let key = digits("--key", &self.key, LONGEST_KEY)?;
            Ok((key, digits("--input", &self.input, LONGEST_INPUT)?))
        };
        let (key, input) = match bytes() {
            Ok(bytes) => bytes,
            Err(why) => return complain(&why, USAGE),
        };
        let Algorithm::RandomX = self.algo;
        let hash = Cache::new(Mode::fastest(), &key)
            .and_then(|cache| Machine::light(&cache))
            .map(|mut machine| machine.hash(&input));
        match hash {
            Ok(hash) => answer(&format!("{}\n", hex::encode(hash))),
            Err(error) => complain(&error, FAILED),
        }
    }
}

/// The bytes of a flag: at least one, at most `longest`.
fn digits(flag: &str, text: &str, longest: usize) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(text).map_err(|error| format!("{flag}: {error}"))?;
    match bytes.len() {
        0 => Err(format!("{flag} is empty")),
        length if length > longest => Err(format!("{flag} is longer than {longest} bytes")),
        _ => Ok(bytes),
    }
}

impl Bench {
    fn main(&self) -> ExitCode {
        let Algorithm::RandomX = self.algo;
        let mode = Mode { reserved_pages: self.reserved_pages, ..Mode::fastest() };
        match self.measure(mode) {
            Ok(measured) => answer(&self.report(mode, &measured)),
            Err(why) => complain(&why, FAILED),
        }
    }

    fn threads(&self) -> usize {
        let all = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.map_or_else(all, usize::from)
    }

    fn measure(&self, mode: Mode) -> Result<Measured, String> {
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
        // Whoever still makes its scratchpad does not hash yet.
        let (before, begun) = (hasher.hashes(), Instant::now());
        let end = begun + Duration::from_secs(self.seconds.into());
        while Instant::now() < end {
            pause(&events, end.saturating_duration_since(Instant::now()).min(LOOK))?;
        }
        Ok(Measured { hashes: hasher.hashes() - before, took: begun.elapsed(), dataset })
    }

    fn report(&self, mode: Mode, measured: &Measured) -> String {
        let rate = measured.hashes as f64 / measured.took.as_secs_f64();
        let (threads, took) = (self.threads(), measured.took.as_secs_f64());
        let pages = measured.dataset.map(|(_, pages)| pages.to_string());
        let built = measured.dataset.map(|(built, _)| built.as_secs_f64());
        if self.json || !std::io::stdout().is_terminal() {
            let report = json!({
                "algo": self.algo.as_str(),
                "threads": threads,
                "mode": if self.light { "light" } else { "fast" },
                "compute": mode.to_string(),
                "pages": pages,
                "dataset_seconds": built,
                "seconds": took,
                "hashes": measured.hashes,
                "hashrate": rate,
            });
            return format!("{report:#}\n");
        }
        let dataset = match (pages, built) {
            (Some(pages), Some(built)) => format!("pages {pages}, dataset in {built:.1} s"),
            _ => "light mode".to_owned(),
        };
        let algo = self.algo;
        format!("{algo}  {rate:.1} H/s  ({threads} threads, {mode}, {dataset}, {took:.0} s)\n")
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
fn pause(events: &Receiver<Event>, time: Duration) -> Result<(), String> {
    match events.recv_timeout(time) {
        Ok(Event::OutOfMemory(error)) => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_checked() {
        assert_eq!(digits("--key", "00ff", 60), Ok(vec![0, 255]));
        assert_eq!(digits("--key", "", 60).unwrap_err(), "--key is empty");
        assert_eq!(digits("--key", "0", 60).unwrap_err(), "--key: Odd number of digits");
        let long = "00".repeat(61);
        assert_eq!(digits("--key", &long, 60).unwrap_err(), "--key is longer than 60 bytes");
    }
}
