//! How much energy the machine takes while jobs run, by the counters that processors and GPUs have.
//!
//! The counters are of whole packages and cards: they know nothing of jobs, and count what the
//! machine would have used idle, too. Honest is therefore only this: what is used at a time is
//! charged to the jobs that run at that time, in equal parts, so that no joule is counted twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

mod nvml;
mod rapl;

pub use nvml::NvmlCounter;
pub use rapl::Rapl;

/// Pause between two looks at the counters: a processor's runs over within minutes.
const PAUSE: Duration = Duration::from_secs(10);

/// What a counter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Energy since some moment, in microjoules.
    pub microjoules: u64,
    /// At which value it begins anew; absent: never.
    pub range: Option<u64>,
}

/// A counter of energy.
pub trait Counter: Send + Sync + std::fmt::Debug {
    /// Its name, as `energy_method` states it.
    fn name(&self) -> &'static str;

    /// What its devices say, always in the same order; `None` for one that does not answer.
    fn read(&self) -> Vec<Option<Reading>>;
}

/// The counters of a machine, and the runs that what they count is charged to.
#[derive(Debug)]
pub struct Meter {
    counters: Vec<Box<dyn Counter>>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    last: Vec<Vec<Option<Reading>>>,
    runs: BTreeMap<u64, f64>,
    next_run: u64,
}

/// A run that energy is charged to, until it is dropped.
#[derive(Debug)]
pub struct Metered {
    meter: Arc<Meter>,
    run: u64,
}

impl Meter {
    /// The counters of this machine that answer.
    pub fn of_machine() -> Self {
        let counters: Vec<Box<dyn Counter>> = vec![Box::new(Rapl::of_machine())];
        let nvml = NvmlCounter::open().map(|counter| Box::new(counter) as Box<dyn Counter>);
        Self::with(counters.into_iter().chain(nvml).collect())
    }

    /// Those of `counters` that answer.
    pub fn with(mut counters: Vec<Box<dyn Counter>>) -> Self {
        counters.retain(|counter| counter.read().iter().any(Option::is_some));
        Self { counters, books: Mutex::default() }
    }

    /// The names of the counters, with `+` between them; `None` where nothing can be measured.
    pub fn method(&self) -> Option<String> {
        let names: Vec<_> = self.counters.iter().map(|counter| counter.name()).collect();
        (!names.is_empty()).then(|| names.join("+"))
    }

    /// Begins to charge a run; `None` where nothing can be measured.
    pub fn begin(self: &Arc<Self>) -> Option<Metered> {
        if self.counters.is_empty() {
            return None;
        }
        let mut books = self.settled();
        let run = books.next_run;
        books.next_run += 1;
        books.runs.insert(run, 0.0);
        Some(Metered { meter: Arc::clone(self), run })
    }

    /// Charges what was used since the last time to the runs that there are.
    fn settled(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let readings: Vec<_> = self.counters.iter().map(|counter| counter.read()).collect();
        let joules = used(&books.last, &readings);
        books.last = readings;
        let share = joules / books.runs.len().max(1) as f64;
        for charged in books.runs.values_mut() {
            *charged += share;
        }
        books
    }
}

impl Metered {
    /// Keeps the books for as long as it is asked: counters begin anew before a long run is over.
    pub async fn follow(&self) {
        loop {
            sleep(PAUSE).await;
            let meter = Arc::clone(&self.meter);
            // What could not be read now is read the next time.
            let _ = tokio::task::spawn_blocking(move || drop(meter.settled())).await;
        }
    }

    /// What was charged to the run until now, in joules.
    pub fn joules(&self) -> f64 {
        self.meter.settled().runs.get(&self.run).copied().unwrap_or_default()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.settled().runs.remove(&self.run);
    }
}

/// What was used between two looks at all counters, in joules.
pub(crate) fn used(before: &[Vec<Option<Reading>>], now: &[Vec<Option<Reading>>]) -> f64 {
    let pairs = before.iter().flatten().zip(now.iter().flatten());
    let microjoules = pairs.filter_map(|(before, now)| difference((*before)?, (*now)?));
    microjoules.map(|used| used as f64 / 1e6).sum()
}

/// What a counter went on by; `None` where it was set back, as by a driver that was loaded anew.
fn difference(before: Reading, now: Reading) -> Option<u64> {
    match now.microjoules.checked_sub(before.microjoules) {
        Some(used) => Some(used),
        None => now.range?.checked_sub(before.microjoules)?.checked_add(now.microjoules),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A counter that is moved by hand, and begins anew at 1000 J.
    #[derive(Debug, Clone, Default)]
    struct Handle(Arc<AtomicU64>);

    impl Handle {
        fn uses(&self, joules: u64) {
            let now = self.0.load(Ordering::Relaxed) + joules * 1_000_000;
            self.0.store(now % 1_000_000_000, Ordering::Relaxed);
        }
    }

    impl Counter for Handle {
        fn name(&self) -> &'static str {
            "hand"
        }

        fn read(&self) -> Vec<Option<Reading>> {
            let microjoules = self.0.load(Ordering::Relaxed);
            vec![None, Some(Reading { microjoules, range: Some(1_000_000_000) })]
        }
    }

    fn meter() -> (Handle, Arc<Meter>) {
        let hand = Handle::default();
        (hand.clone(), Arc::new(Meter::with(vec![Box::new(hand)])))
    }

    #[test]
    fn no_joule_is_charged_twice() {
        let (hand, meter) = meter();
        hand.uses(500);
        let first = meter.begin().unwrap();
        hand.uses(10);
        let second = meter.begin().unwrap();
        hand.uses(6);
        assert_eq!((first.joules(), second.joules()), (13.0, 3.0));
        drop(first);
        hand.uses(4);
        assert_eq!(second.joules(), 7.0);
        assert_eq!(meter.method().as_deref(), Some("hand"));
    }

    #[test]
    fn a_counter_that_begins_anew_goes_on() {
        let (hand, meter) = meter();
        let run = meter.begin().unwrap();
        hand.uses(900);
        assert_eq!(run.joules(), 900.0);
        hand.uses(300);
        assert_eq!(run.joules(), 1200.0);
    }

    #[test]
    fn what_was_set_back_is_not_charged() {
        let reading = |microjoules, range| Reading { microjoules, range };
        assert_eq!(difference(reading(7, None), reading(5, None)), None);
        assert_eq!(difference(reading(7, Some(6)), reading(5, Some(6))), None);
        assert_eq!(difference(reading(7, Some(10)), reading(5, Some(10))), Some(8));
        assert_eq!(difference(reading(0, None), reading(u64::MAX, None)), Some(u64::MAX));
    }

    #[test]
    fn without_counters_nothing_is_stated() {
        let meter = Arc::new(Meter::with(Vec::new()));
        assert!(meter.begin().is_none() && meter.method().is_none());
        // Whatever this machine has, it can be asked.
        let machine = Arc::new(Meter::of_machine());
        assert_eq!(machine.begin().is_some(), machine.method().is_some());
    }
}
