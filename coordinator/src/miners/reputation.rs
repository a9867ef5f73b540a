//! What a miner has done so far, from its days. Pure.

use std::time::Duration;

use protocol::miner::Reputation;
use protocol::{Name, Timestamp, Units};

use super::store::Day;

/// Over how many days rates are taken.
const WINDOW_DAYS: i32 = 30;

/// An hour, in microseconds.
const HOUR_MICROS: i64 = 3_600_000_000;

/// A day, in microseconds.
const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// Adds a miner's days up, and for how long it was there without that being written.
pub fn reputation(
    miner_id: Name,
    since: Timestamp,
    last_seen: Option<Timestamp>,
    now: Timestamp,
    days: &[Day],
    unwritten: Duration,
) -> Reputation {
    let from = now.day() - WINDOW_DAYS;
    let lately = days.iter().filter(|day| day.day >= from);
    let (mut completed, mut failed) = (0, 0);
    let mut up = i64::try_from(unwritten.as_micros()).unwrap_or(i64::MAX);
    let begin = now.micros() - i64::from(WINDOW_DAYS) * DAY_MICROS;
    for day in lately {
        completed += i64::from(day.completed);
        failed += i64::from(day.failed);
        // Of the first day, what it was there is taken to lie in its last hours.
        let left = Timestamp::of_day(day.day + 1).micros() - begin;
        up = up.saturating_add(day.up_us.min(left));
    }
    let whole = now.micros() - begin.max(since.micros());
    let sum = |part: fn(&Day) -> i64| days.iter().map(part).sum::<i64>();
    Reputation {
        miner_id,
        since,
        last_seen,
        jobs_completed: u64::try_from(sum(|day| i64::from(day.completed))).unwrap_or(0),
        jobs_failed: u64::try_from(sum(|day| i64::from(day.failed))).unwrap_or(0),
        compute_hours: hours_of(sum(|day| day.busy_us)),
        success_bp: share(completed, completed + failed),
        uptime_bp: share(up, whole).unwrap_or(0),
    }
}

/// Microseconds as hours, rounded down to 10^-9.
fn hours_of(micros: i64) -> Units {
    let nanos = i128::from(micros) * 1_000_000_000 / i128::from(HOUR_MICROS);
    i64::try_from(nanos).map_or(Units::MAX, Units::from_nanos)
}

/// Hundredths of a per cent, rounded down; `None` of nothing.
fn share(part: i64, whole: i64) -> Option<u16> {
    let share = (i128::from(part.max(0)) * 10_000).checked_div(i128::from(whole));
    u16::try_from(share.filter(|_| whole > 0)?.min(10_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn of(since: &str, now: &str, days: &[Day], unwritten: u64) -> Reputation {
        let unwritten = Duration::from_secs(unwritten);
        reputation("m1".parse().unwrap(), at(since), None, at(now), days, unwritten)
    }

    #[test]
    fn nothing_yet_is_no_rate() {
        let new = of("2026-01-24T00:10:00Z", "2026-01-24T00:20:00Z", &[], 0);
        assert_eq!((new.success_bp, new.uptime_bp), (None, 0));
        assert_eq!(new.compute_hours, Units::ZERO);
        let now = of("2026-01-24T00:10:00Z", "2026-01-24T00:10:00Z", &[], 0);
        assert_eq!(now.uptime_bp, 0);
    }

    #[test]
    fn rates_are_of_thirty_days_and_sums_of_all() {
        let now = at("2026-03-31T12:30:00Z");
        let day = |ago: i32, hours: i64, completed, failed| Day {
            day: now.day() - ago,
            up_us: hours * HOUR_MICROS,
            completed,
            failed,
            busy_us: HOUR_MICROS / 2,
        };
        let days = [day(0, 12, 2, 0), day(1, 24, 0, 1), day(30, 24, 0, 0), day(31, 1, 9, 9)];
        let known = of("2026-01-01T00:00:00Z", "2026-03-31T12:30:00Z", &days, 1800);
        assert_eq!((known.jobs_completed, known.jobs_failed), (11, 10));
        assert_eq!(known.success_bp, Some(6_666));
        assert_eq!(known.compute_hours.to_string(), "2");
        // 12.5 of today, 24 of yesterday, and 11.5 of the day 30 days ago.
        assert_eq!(known.uptime_bp, 666);
    }

    #[test]
    fn who_is_new_is_not_blamed_for_the_time_before() {
        let new = of("2026-01-24T01:59:00Z", "2026-01-24T02:01:00Z", &[], 60);
        assert_eq!(new.uptime_bp, 5_000);
        let minute =
            Day { day: at("2026-01-24T00:00:00Z").day(), up_us: 60_000_000, ..Day::default() };
        let new = of("2026-01-24T01:59:00Z", "2026-01-24T02:01:00Z", &[minute], 60);
        assert_eq!(new.uptime_bp, 10_000);
    }
}
