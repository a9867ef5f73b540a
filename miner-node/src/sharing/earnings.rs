//! What jobs brought lately, and how many of them at once are worth it.

use std::time::Duration;

use mining::policy::{Rules, Tuner};
use protocol::Amount;
use tokio::time::Instant;

/// The weight of the latest job in the average.
const ALPHA: f64 = 0.2;

/// After so long without a job, what they pay is not known any more: one is tried again.
const STALE: Duration = Duration::from_secs(3600);

pub(super) struct Earnings {
    slots: u32,
    /// What one job pays in an hour on average, and when it was learned last.
    rate: Option<(f64, Instant)>,
    tuner: Option<Tuner>,
    /// What the tuner was made for.
    made_for: (u32, u8),
}

impl Earnings {
    pub(super) fn new(rules: &Rules, slots: u32) -> Self {
        let mut earnings = Self { slots, rate: None, tuner: None, made_for: (0, 0) };
        earnings.follow(rules);
        earnings
    }

    /// Heeds the rules; what was learned stays where they are the same.
    pub(super) fn follow(&mut self, rules: &Rules) {
        let wanted = (rules.job_target_s, rules.step_pct);
        if wanted != self.made_for {
            let (target_s, step_pct) = wanted;
            let tuner = || Tuner::new(target_s.into(), step_pct.into(), self.slots);
            self.tuner = (target_s > 0).then(tuner);
            self.made_for = wanted;
        }
    }

    pub(super) fn take_in(&mut self, price: Option<Amount>, wall: Duration) {
        if let Some(tuner) = &mut self.tuner {
            tuner.observe(wall.as_secs_f64());
        }
        let hours = wall.as_secs_f64() / 3600.0;
        let price = price.and_then(|price| price.to_string().parse::<f64>().ok());
        if let Some(price) = price.filter(|_| hours > 0.0) {
            let rate = price / hours;
            let average = self.rate.map_or(rate, |(before, _)| before + ALPHA * (rate - before));
            self.rate = Some((average, Instant::now()));
        }
    }

    /// What all slots together would earn with such jobs, in AITBC an hour.
    pub(super) fn per_hour(&self) -> Option<f64> {
        let (rate, learned) = self.rate?;
        (learned.elapsed() < STALE).then(|| rate * f64::from(self.slots.max(1)))
    }

    /// How many jobs are taken at once, where that follows their durations.
    pub(super) fn slots(&self) -> Option<u32> {
        self.tuner.map(|tuner| tuner.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_paid_is_known_for_an_hour() {
        let mut earnings = Earnings::new(&Rules::default(), 2);
        assert_eq!((earnings.per_hour(), earnings.slots()), (None, None));
        let price = |text: &str| Some(text.parse::<Amount>().unwrap());
        earnings.take_in(price("0.01"), Duration::from_secs(36));
        assert!((earnings.per_hour().unwrap() - 2.0).abs() < 1e-9);
        earnings.take_in(price("0.02"), Duration::from_secs(36));
        assert!((earnings.per_hour().unwrap() - 2.4).abs() < 1e-9);
        earnings.take_in(None, Duration::from_secs(36));
        tokio::time::advance(STALE).await;
        assert_eq!(earnings.per_hour(), None);
    }

    #[test]
    fn long_jobs_take_slots_away() {
        let rules = Rules { job_target_s: 10, step_pct: 50, ..Rules::default() };
        let mut earnings = Earnings::new(&rules, 4);
        assert_eq!(earnings.slots(), Some(4));
        earnings.take_in(None, Duration::from_secs(60));
        assert_eq!(earnings.slots(), Some(2));
        earnings.follow(&rules);
        assert_eq!(earnings.slots(), Some(2));
        earnings.follow(&Rules::default());
        assert_eq!(earnings.slots(), None);
    }
}
