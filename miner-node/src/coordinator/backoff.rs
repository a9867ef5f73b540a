//! Pauses between repetitions of a failed call. Pure: chance comes in as an argument.

use std::time::Duration;

/// Doubling pauses.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), next: first }
    }

    /// Those of the protocol: 1 s, doubling, to 60 s.
    pub fn standard() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// The next pause: at least `least`, and ±10 % by `random`.
    pub fn pause(&mut self, least: Option<Duration>, random: u32) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        let pause = jittered(pause, 10, random);
        // Coming back earlier than asked would be refused again.
        least.map_or(pause, |least| least.max(pause))
    }

    /// After success. Says whether there had been a pause before it.
    pub fn reset(&mut self) -> bool {
        std::mem::replace(&mut self.next, self.first) != self.first
    }
}

/// `pause` ± `percent` by `random`, where 0 is the least and `u32::MAX` the most.
pub fn jittered(pause: Duration, percent: u8, random: u32) -> Duration {
    let span = f64::from(percent.min(100)) / 100.0;
    pause.mul_f64(1.0 - span + 2.0 * span * (f64::from(random) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_anew() {
        let mut backoff = Backoff::standard();
        let middle = u32::MAX / 2 + 1;
        let seconds: Vec<_> =
            (0..8).map(|_| backoff.pause(None, middle).as_secs_f64().round() as u32).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(backoff.reset() && !backoff.reset());
        assert_eq!(backoff.pause(None, 0), Duration::from_millis(900));
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_less() {
        let mut backoff = Backoff::standard();
        let minute = Duration::from_secs(60);
        assert_eq!(backoff.pause(Some(minute), 0), minute);
        assert_eq!(backoff.pause(Some(Duration::ZERO), 0), Duration::from_millis(1800));
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 10, u32::MAX), Duration::from_millis(1100));
        assert_eq!(jittered(second, 0, 12345), second);
    }
}
