//! `pow bench --algo gr`: GhostRider takes eight times as long with one set of CryptoNights as with
//! another, and each block asks for a set of its own. So all are measured, and each counts as
//! often as it occurs.

use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mining::ghostrider::{HEADER_BYTES, Plans, VariantSet, self_test};
use mining::hasher::{Event, Source};
use mining::work::HEADER_NONCE_AT;
use mining::{Hasher, NonceRange, Target, Work};
use serde_json::json;

use super::bench::{Bench, Counted, count, pause};

/// Pause between two looks at whether the lanes have measured what suits them.
const LOOK: Duration = Duration::from_millis(20);

impl Bench {
    pub(super) fn ghostrider(&self) -> Result<String, String> {
        self_test().map_err(|error| error.to_string())?;
        let (sender, events) = channel();
        let hasher = Hasher::start(self.threads(), &sender, |_| {}).map_err(|e| e.to_string())?;
        let plans = Plans::tuned(hasher.lanes());
        hasher.set_source(Some(Source::GhostRider(plans.clone())));
        hasher.set_running(hasher.lanes());
        while !plans.are_known(hasher.lanes()) {
            pause(&events, LOOK)?;
        }
        let wanted = |number| self.rotation.is_none_or(|only| usize::from(only) == number);
        let sets = VariantSet::all().enumerate().filter(|(number, _)| wanted(*number));
        let measured: Result<Vec<_>, String> = sets
            .map(|(number, set)| {
                let counted = measure(&hasher, &events, set, self.seconds())?;
                Ok(Measured { number, set, counted })
            })
            .collect();
        Ok(self.report_sets(&plans, &measured?))
    }

    fn report_sets(&self, plans: &Plans, measured: &[Measured]) -> String {
        let (rate, threads) = (weighted(measured), self.threads());
        if self.wants_json() {
            let report = json!({
                "algo": "gr",
                "threads": threads,
                "compute": plans.to_string(),
                "sets": measured.iter().map(Measured::json).collect::<Vec<_>>(),
                "hashrate": rate,
            });
            return format!("{report:#}\n");
        }
        let mut text = String::new();
        for Measured { number, set, counted } in measured {
            let (share, rate) = (100.0 * set.probability(), counted.rate());
            let set = set.to_string();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{number:2}  {set:27}  {share:4.1} %  {rate:8.1} H/s");
        }
        let _ = writeln!(text, "gr  {rate:.1} H/s  ({threads} threads, {plans})");
        text
    }
}

/// One set.
struct Measured {
    number: usize,
    set: VariantSet,
    counted: Counted,
}

impl Measured {
    fn json(&self) -> serde_json::Value {
        json!({
            "rotation": self.number,
            "set": self.set.to_string(),
            "probability": self.set.probability(),
            "seconds": self.counted.took.as_secs_f64(),
            "hashes": self.counted.hashes,
            "hashrate": self.counted.rate(),
        })
    }
}

/// The mean over the sets, each counted as often as it occurs.
fn weighted(measured: &[Measured]) -> f64 {
    let of = |measured: &Measured| measured.set.probability();
    let sum: f64 = measured.iter().map(|one| of(one) * one.counted.rate()).sum();
    sum / measured.iter().map(of).sum::<f64>()
}

fn measure(
    hasher: &Hasher,
    events: &Receiver<Event>,
    set: VariantSet,
    time: Duration,
) -> Result<Counted, String> {
    let mut header = [0; HEADER_BYTES];
    header[4..36].copy_from_slice(&set.example());
    // No hash is that low: nothing but hashing is measured.
    let work = Work::new(header.to_vec(), HEADER_NONCE_AT, NonceRange::ALL, Target::new(1));
    hasher.set_work(Some(work.map_err(|error| error.to_string())?));
    count(hasher, events, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_count_as_often_as_they_occur() {
        let of = |number: usize, hashes| {
            let set = VariantSet::all().nth(number).unwrap();
            Measured { number, set, counted: Counted { hashes, took: Duration::from_secs(2) } }
        };
        assert_eq!(weighted(&[of(3, 8)]), 4.0);
        // Without a turtle 2.7 times as often as with both.
        let mean = weighted(&[of(0, 200), of(9, 20)]);
        assert!((75.0..76.0).contains(&mean), "{mean}");
    }
}
