//! What a miner has done so far, from its days. Pure.

use protocol::miner::Reputation;
use protocol::{Name, Timestamp, Units};

use super::store::Day;

/// Over how many days rates are taken.
const WINDOW_DAYS: i32 = 30;

/// An hour, in microseconds.
const HOUR_MICROS: i64 = 3_600_000_000;

/// Adds a miner's days up.
pub fn reputation(
    miner_id: Name,
    since: Timestamp,
    last_seen: Option<Timestamp>,
    now: Timestamp,
    days: &[Day],
) -> Reputation {
    let from = now.day() - WINDOW_DAYS;
    // The hour of 30 days ago is the first that counts, this hour the last.
    let lately = days.iter().filter(|day| day.day >= from);
    let (mut completed, mut failed, mut hours) = (0, 0, 0);
    for day in lately {
        completed += i64::from(day.completed);
        failed += i64::from(day.failed);
        let of_window = if day.day == from { !0 << now.hour() } else { !0 };
        hours += i64::from((day.hours & of_window).count_ones());
    }
    let first = Timestamp::of_day(from).micros() / HOUR_MICROS + i64::from(now.hour());
    let first = first.max(since.micros() / HOUR_MICROS);
    let whole = now.micros() / HOUR_MICROS - first + 1;
    let sum = |part: fn(&Day) -> i64| days.iter().map(part).sum::<i64>();
    Reputation {
        miner_id,
        since,
        last_seen,
        jobs_completed: u64::try_from(sum(|day| i64::from(day.completed))).unwrap_or(0),
        jobs_failed: u64::try_from(sum(|day| i64::from(day.failed))).unwrap_or(0),
        compute_hours: hours_of(sum(|day| day.busy_us)),
        success_bp: share(completed, completed + failed),
        uptime_bp: share(hours, whole).unwrap_or(0),
    }
}

/// Microseconds as hours, rounded down to 10^-9.
fn hours_of(micros: i64) -> Units {
    let nanos = i128::from(micros) * 1_000_000_000 / i128::from(HOUR_MICROS);
    i64::try_from(nanos).map_or(Units::MAX, Units::from_nanos)
}

/// Hundredths of a per cent, rounded down; `None` of nothing.
fn share(part: i64, whole: i64) -> Option<u16> {
    let share = (part.max(0) * 10_000).checked_div(whole).filter(|_| whole > 0)?;
    u16::try_from(share.min(10_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: i32 = 0xff_ffff;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn of(since: &str, now: &str, days: &[Day]) -> Reputation {
        reputation("m1".parse().unwrap(), at(since), None, at(now), days)
    }

    #[test]
    fn nothing_yet_is_no_rate() {
        let new = of("2026-01-24T00:10:00Z", "2026-01-24T00:20:00Z", &[]);
        assert_eq!((new.success_bp, new.uptime_bp), (None, 0));
        assert_eq!(new.compute_hours, Units::ZERO);
    }

    #[test]
    fn rates_are_of_thirty_days_and_sums_of_all() {
        let now = at("2026-03-31T12:30:00Z");
        let day = |ago: i32, hours, completed, failed| Day {
            day: now.day() - ago,
            hours,
            completed,
            failed,
            busy_us: HOUR_MICROS / 2,
        };
        let days =
            [day(0, 0x1fff, 2, 0), day(1, HOURS, 0, 1), day(30, HOURS, 0, 0), day(31, 1, 9, 9)];
        let known = of("2026-01-01T00:00:00Z", "2026-03-31T12:30:00Z", &days);
        assert_eq!((known.jobs_completed, known.jobs_failed), (11, 10));
        assert_eq!(known.success_bp, Some(6_666));
        assert_eq!(known.compute_hours.to_string(), "2");
        // 13 of today, 24 of yesterday, and 12 of the day 30 days ago, from its hour 12 on.
        assert_eq!(known.uptime_bp, u16::try_from((13 + 24 + 12) * 10_000 / 721).unwrap());
    }

    #[test]
    fn who_is_new_is_not_blamed_for_the_time_before() {
        let today = Day { day: at("2026-01-24T00:00:00Z").day(), hours: 0b110, ..Day::default() };
        let new = of("2026-01-24T01:59:00Z", "2026-01-24T02:01:00Z", &[today]);
        assert_eq!(new.uptime_bp, 10_000);
    }
}
