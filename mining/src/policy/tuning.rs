//! A number that follows how long things take: jobs at once, or hashes in a batch.

use serde::Serialize;

/// The weight of the latest duration in the average.
const ALPHA: f64 = 0.2;

/// How far the average may be from the target, as a part of it, before anything changes.
const BAND: f64 = 0.1;

/// Follows durations with a moving average, and steps a value down where they are too long, and up
/// where they are short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tuner {
    target_secs: f64,
    step_pct: u32,
    most: u32,
    value: u32,
    average_secs: Option<f64>,
}

impl Tuner {
    /// For durations of `target_secs`, in steps of `step_pct` per cent (at least 1), from `most`
    /// downwards.
    pub fn new(target_secs: f64, step_pct: u32, most: u32) -> Self {
        let most = most.max(1);
        Self { target_secs, step_pct, most, value: most, average_secs: None }
    }

    /// The value that works now: 1 at least.
    pub const fn value(&self) -> u32 {
        self.value
    }

    /// The moving average, in seconds.
    pub const fn average_secs(&self) -> Option<f64> {
        self.average_secs
    }

    /// One more took `secs`.
    pub fn observe(&mut self, secs: f64) {
        if !secs.is_finite() || secs < 0.0 {
            return;
        }
        let average = self.average_secs.map_or(secs, |before| before + ALPHA * (secs - before));
        self.average_secs = Some(average);
        let step = (self.value * self.step_pct / 100).max(1);
        if average > self.target_secs * (1.0 + BAND) {
            self.value = self.value.saturating_sub(step).max(1);
        } else if average < self.target_secs * (1.0 - BAND) {
            self.value = self.value.saturating_add(step).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_by_hand() {
        let mut tuner = Tuner::new(10.0, 25, 8);
        let mut seen = |secs| {
            tuner.observe(secs);
            (tuner.value(), (tuner.average_secs().unwrap() * 1000.0).round() / 1000.0)
        };
        // Within the band nothing changes.
        assert_eq!(seen(10.0), (8, 10.0));
        assert_eq!(seen(14.0), (8, 10.8));
        // 0.2 x 20 + 0.8 x 10.8 = 12.64: a quarter less.
        assert_eq!(seen(20.0), (6, 12.64));
        assert_eq!(seen(10.0), (5, 12.112));
        assert_eq!(seen(5.0), (5, 10.69));
        assert_eq!(seen(1.0), (6, 8.752));
        assert_eq!(seen(1.0), (7, 7.201));
        assert_eq!(seen(1.0), (8, 5.961));
        assert_eq!(seen(1.0), (8, 4.969));
    }

    #[test]
    fn it_stays_between_one_and_the_most() {
        let mut tuner = Tuner::new(1.0, 50, 3);
        for _ in 0..20 {
            tuner.observe(1e9);
        }
        assert_eq!(tuner.value(), 1);
        tuner.observe(f64::NAN);
        tuner.observe(-1.0);
        assert_eq!(tuner.value(), 1);
    }
}
