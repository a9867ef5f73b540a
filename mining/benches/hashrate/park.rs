//! How long it takes until all lanes have let go of their processors, when told so in the midst of
//! whatever they are at.

use std::thread;
use std::time::Duration;

use mining::ghostrider::VariantSet;
use serde_json::{Value, json};

use crate::ours::Ours;

/// How many arrivals one block sees before another follows.
const PER_BLOCK: usize = 10;

/// The distribution over so many arrivals, while blocks come and go as often as they occur.
pub(crate) fn measure(ours: &Ours, arrivals: usize) -> Value {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut millis: Vec<f64> = (0..arrivals)
        .map(|arrival| {
            if arrival % PER_BLOCK == 0 {
                ours.set(random.set());
            }
            ours.go_on();
            // Long enough for all lanes to be anywhere in a batch.
            thread::sleep(Duration::from_micros(50_000 + random.below(100_000)));
            ours.park().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    let at = |permille: usize| millis.get((millis.len() * permille / 1000).min(millis.len() - 1));
    json!({
        "arrivals": arrivals,
        "ours": ours.describe(),
        "median_ms": at(500),
        "p90_ms": at(900),
        "p99_ms": at(990),
        "longest_ms": millis.last(),
    })
}

/// A xorshift of Marsaglia's: the same arrivals in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A set, as often as blocks ask for it.
    fn set(&mut self) -> VariantSet {
        let mut left = self.below(1 << 20) as f64 / f64::from(1 << 20);
        let mut sets = VariantSet::all();
        let found = sets.find(|set| {
            left -= set.probability();
            left < 0.0
        });
        found.or_else(|| VariantSet::all().last()).expect("a set")
    }
}
