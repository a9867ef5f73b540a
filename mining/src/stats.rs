//! How fast it is: hashes over windows of time, as miners know them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Hashrate;

const TEN_SECS: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const QUARTER_HOUR: Duration = Duration::from_secs(900);

/// The least time between two samples that are kept.
const APART: Duration = Duration::from_millis(900);

/// Counts of hashes over the last quarter of an hour.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Duration, u64)>,
    highest: Option<f64>,
}

impl Meter {
    /// So many `hashes` were computed in all up to `now`, a time since some fixed beginning.
    pub fn record(&mut self, now: Duration, hashes: u64) {
        if self.samples.back().is_some_and(|(last, _)| now.saturating_sub(*last) < APART) {
            return;
        }
        self.samples.push_back((now, hashes));
        while self.samples.get(1).is_some_and(|(at, _)| *at + QUARTER_HOUR <= now) {
            self.samples.pop_front();
        }
        if let Some(rate) = self.over(TEN_SECS) {
            self.highest = Some(self.highest.map_or(rate, |highest| highest.max(rate)));
        }
    }

    /// The rates up to the last record.
    pub fn rates(&self) -> Hashrate {
        Hashrate {
            ten_secs: self.over(TEN_SECS),
            minute: self.over(MINUTE),
            quarter_hour: self.over(QUARTER_HOUR),
            highest: self.highest,
        }
    }

    fn over(&self, window: Duration) -> Option<f64> {
        let (now, hashes) = *self.samples.back()?;
        let begin = now.checked_sub(window)?;
        let later = self.samples.partition_point(|(at, _)| *at <= begin);
        let (at, before) = *self.samples.get(later.checked_sub(1)?)?;
        Some(hashes.saturating_sub(before) as f64 / now.saturating_sub(at).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fill_one_after_the_other() {
        let mut meter = Meter::default();
        let secs = Duration::from_secs;
        for second in 0..=9 {
            meter.record(secs(second), second * 100);
        }
        assert_eq!(meter.rates(), Hashrate::default());
        meter.record(secs(10), 1000);
        assert_eq!(meter.rates().ten_secs, Some(100.0));
        assert_eq!(meter.rates().minute, None);
        // It pauses: the short window forgets, the best one stays.
        for second in 11..=60 {
            meter.record(secs(second), 1000);
        }
        let rates = meter.rates();
        assert_eq!((rates.ten_secs, rates.highest), (Some(0.0), Some(100.0)));
        assert_eq!(rates.minute, Some(1000.0 / 60.0));
        for second in 61..=4000 {
            meter.record(secs(second), (second - 50) * 100);
        }
        assert_eq!(meter.rates().quarter_hour, Some(100.0));
        assert!(meter.samples.len() <= 902);
    }

    #[test]
    fn samples_that_are_too_close_say_nothing() {
        let mut meter = Meter::default();
        meter.record(Duration::ZERO, 0);
        for _ in 0..100 {
            meter.record(Duration::from_millis(10), 1 << 40);
        }
        assert_eq!(meter.samples.len(), 1);
    }
}
