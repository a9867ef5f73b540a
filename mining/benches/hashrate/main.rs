//! Our hashrate beside that of XMRig, in one run: both programs are resident, and run by turns in
//! slices of a few seconds, since the same program varies by a fifth from one minute to the next.
//! `scripts/bench mining` makes a table of it.
//!
//! ```text
//! hashrate --algo rx/0|gr --threads N [--rounds N] [--slice SECONDS] [--pages thp|huge]
//!          [--rotation N] [--xmrig PATH]
//! hashrate --algo gr --threads N --park ARRIVALS
//! ```
//!
//! Prints one JSON object. Both sides are read alike: hashes done and time taken, at two moments of a
//! slice.

mod ours;
mod park;
mod time;
mod xmrig;

use std::path::PathBuf;
use std::time::Duration;

use mining::Algorithm;
use mining::ghostrider::VariantSet;
use serde_json::{Value, json};

use ours::Ours;
use xmrig::Xmrig;

/// What was asked for.
struct Options {
    algorithm: Algorithm,
    threads: usize,
    rounds: usize,
    slice: Duration,
    huge: bool,
    rotation: Option<usize>,
    xmrig: Option<PathBuf>,
    park: Option<usize>,
}

impl Options {
    fn of_arguments() -> Self {
        let mut options = Self {
            algorithm: Algorithm::RandomX,
            threads: 1,
            rounds: 7,
            slice: Duration::from_secs(4),
            huge: false,
            rotation: None,
            xmrig: None,
            park: None,
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || value.parse::<usize>().unwrap_or_else(|_| panic!("{name}: {value}"));
            match &*name {
                "--algo" => options.algorithm = value.parse().expect("an algorithm"),
                "--threads" => options.threads = number(),
                "--rounds" => options.rounds = number(),
                "--slice" => options.slice = Duration::from_secs(number() as u64),
                "--pages" => options.huge = value == "huge",
                "--rotation" => options.rotation = Some(number()),
                "--xmrig" => options.xmrig = Some(value.into()),
                "--park" => options.park = Some(number()),
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }

    /// The sets of CryptoNights, and their numbers; one without, for RandomX.
    fn sets(&self) -> Vec<Option<(usize, VariantSet)>> {
        match self.algorithm {
            Algorithm::RandomX => vec![None],
            Algorithm::GhostRider => VariantSet::all()
                .enumerate()
                .filter(|(number, _)| self.rotation.is_none_or(|only| only == *number))
                .map(Some)
                .collect(),
        }
    }
}

fn main() {
    let options = Options::of_arguments();
    // Threads that are to share a processor fewer than there are get the same ones on both sides.
    let processors = ours::keep_to_processors(options.threads);
    let ours = Ours::start(&options);
    if let Some(arrivals) = options.park {
        println!("{}", park::measure(&ours, arrivals));
        return;
    }
    let mut theirs = json!(null);
    let mut measured = Vec::new();
    for set in options.sets() {
        if let Some((_, set)) = set {
            ours.set(set);
        }
        let rotation = set.map(|(number, _)| number);
        let mut xmrig = options
            .xmrig
            .as_deref()
            .map(|path| Xmrig::start(path, &options, rotation, &processors));
        let rounds: Vec<Value> = (0..options.rounds)
            .map(|_| {
                let ours = ours.slice(options.slice);
                let theirs = xmrig.as_mut().map(|xmrig| xmrig.slice(options.slice));
                json!({"ours": ours.rates(), "xmrig": theirs.map(|theirs| theirs.rates())})
            })
            .collect();
        eprintln!("{}", progress(set, &rounds));
        if let Some(xmrig) = &xmrig {
            theirs = xmrig.describe();
        }
        measured.push(json!({
            "rotation": rotation,
            "set": set.map(|(_, set)| set.to_string()),
            "probability": set.map_or(1.0, |(_, set)| set.probability()),
            "rounds": rounds,
        }));
    }
    let report = json!({
        "algo": options.algorithm.as_str(),
        "threads": options.threads,
        "slice_seconds": options.slice.as_secs(),
        "ours": ours.describe(),
        "xmrig": theirs,
        "sets": measured,
    });
    println!("{report}");
}

/// The medians so far, for whoever waits.
fn progress(set: Option<(usize, VariantSet)>, rounds: &[Value]) -> String {
    let median = |figure: &dyn Fn(&Value) -> Option<f64>| {
        let mut figures: Vec<f64> = rounds.iter().filter_map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let of = |side, time| move |round: &Value| round[side][time].as_f64();
    let ratio =
        |time| move |round: &Value| Some(of("ours", time)(round)? / of("xmrig", time)(round)?);
    let name = set.map_or_else(|| "rx/0".to_owned(), |(number, set)| format!("{number:2} {set}"));
    let (ours, theirs) = (median(&of("ours", "clock")), median(&of("xmrig", "clock")));
    let (clock, cpu) = (median(&ratio("clock")), median(&ratio("cpu")));
    format!("{name}: {ours:.1} H/s, XMRig {theirs:.1} H/s; ratio {clock:.3}, by CPU time {cpu:.3}")
}
