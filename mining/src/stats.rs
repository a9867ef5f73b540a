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
            of_thread: None,
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

/// What one thread brings while it hashes. Pauses say nothing about that, nor does building a
/// dataset, nor how many threads were allowed: whoever decides by it whether hashing pays must not
/// stop for ever because of a rate that is low only because it has stopped.
#[derive(Debug, Default)]
pub struct Pace {
    /// How many threads hash, and since when so many.
    steady: Option<(usize, Duration)>,
    seen: Duration,
    of_thread: Option<f64>,
}

impl Pace {
    /// Up to `now` it was `ten_secs` over ten seconds, with `threads` hashing at the end.
    pub fn record(&mut self, now: Duration, ten_secs: Option<f64>, threads: usize) {
        let since = match self.steady {
            Some((same, since)) if same == threads => since,
            _ => now,
        };
        self.steady = Some((threads, since));
        let before = std::mem::replace(&mut self.seen, now);
        // A window begins with the last sample before it.
        let is_whole = now.saturating_sub(since) >= TEN_SECS + 2 * APART;
        let rate = ten_secs.filter(|rate| is_whole && threads > 0 && *rate > 0.0);
        if let Some(rate) = rate.map(|rate| rate / threads as f64) {
            let weight = now.saturating_sub(before).as_secs_f64() / MINUTE.as_secs_f64();
            let old = self.of_thread.unwrap_or(rate);
            self.of_thread = Some(old + weight.min(1.0) * (rate - old));
        }
    }

    /// Hashes a second of one thread; `None` until it was steady for a while.
    pub const fn of_thread(&self) -> Option<f64> {
        self.of_thread
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

    #[test]
    fn a_pause_says_nothing_about_the_pace() {
        let (mut meter, mut pace) = (Meter::default(), Pace::default());
        let (mut hashes, mut second) = (0, 0);
        let mut goes_on = |seconds: u64, threads: usize, is_hashing: bool| {
            for _ in 0..seconds {
                let now = Duration::from_secs(second);
                meter.record(now, hashes);
                pace.record(now, meter.rates().ten_secs, if is_hashing { threads } else { 0 });
                second += 1;
                hashes += if is_hashing { 100 * threads as u64 } else { 0 };
            }
            (pace.of_thread(), meter.rates().minute)
        };
        // A dataset is built: nothing is known, whatever the windows say.
        assert_eq!(goes_on(70, 4, false), (None, Some(0.0)));
        assert_eq!(goes_on(11, 4, true).0, None);
        assert_eq!(goes_on(60, 4, true).0, Some(100.0));
        // Neither pauses nor their edges, nor fewer threads.
        assert_eq!(goes_on(600, 4, false), (Some(100.0), Some(0.0)));
        assert_eq!(goes_on(5, 4, true).0, Some(100.0));
        assert_eq!(goes_on(5, 1, true).0, Some(100.0));
        assert_eq!(goes_on(60, 1, true).0, Some(100.0));
        assert_eq!(goes_on(600, 1, false), (Some(100.0), Some(0.0)));
    }

    #[test]
    fn the_pace_follows_slowly() {
        let mut pace = Pace::default();
        for second in 0..=60 {
            pace.record(Duration::from_secs(second), Some(200.0), 2);
        }
        assert_eq!(pace.of_thread(), Some(100.0));
        for second in 61..=120 {
            pace.record(Duration::from_secs(second), Some(100.0), 2);
        }
        let slower = pace.of_thread().unwrap();
        assert!((60.0..75.0).contains(&slower), "{slower}");
        // Nothing at all is no rate.
        pace.record(Duration::from_secs(121), Some(0.0), 2);
        assert_eq!(pace.of_thread(), Some(slower));
    }
}
