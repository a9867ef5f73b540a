//! Times of the week: `mon-fri 22:00-06:00`, and with a value behind them `22:00-06:00=0.19`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Decimal, LocalTime};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A time of the week. One that ends before it begins lasts beyond midnight, and belongs to the day
/// on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The first and the last day; Monday is 0.
    days: (u8, u8),
    from: u16,
    to: u16,
    /// What holds meanwhile: a share in per cent, or a price.
    pub value: Option<Decimal>,
}

impl Window {
    /// Whether `now` is within.
    pub fn holds(&self, now: LocalTime) -> bool {
        let (first, last) = self.days;
        let on = |day: u8| {
            if first <= last { (first..=last).contains(&day) } else { day >= first || day <= last }
        };
        let (today, yesterday) = (on(now.weekday), on((now.weekday + 6) % 7));
        if self.from < self.to {
            today && (self.from..self.to).contains(&now.minute)
        } else {
            (today && now.minute >= self.from) || (yesterday && now.minute < self.to)
        }
    }
}

/// The value of the first of `windows` that holds and has one.
pub(super) fn value_at(windows: &[Window], now: LocalTime) -> Option<f64> {
    windows.iter().filter(|window| window.holds(now)).find_map(|window| Some(window.value?.get()))
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    (minutes < 60).then_some(hours.checked_mul(60)?.checked_add(minutes)?).filter(|m| *m <= DAY)
}

fn days(text: &str) -> Option<(u8, u8)> {
    let day = |text: &str| {
        let found = DAYS.iter().position(|day| text.trim().eq_ignore_ascii_case(day))?;
        u8::try_from(found).ok()
    };
    match text.split_once('-') {
        Some((first, last)) => Some((day(first)?, day(last)?)),
        None => day(text).map(|day| (day, day)),
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let short: String = text.chars().take(60).collect();
        let wrong = || {
            format!(
                "{short:?} is no time of the week, as in \"mon-fri 22:00-06:00\" or \"22:00-06:00=50\""
            )
        };
        let (time, value) = match text.split_once('=') {
            Some((time, value)) => (time, Some(value.parse()?)),
            None => (text, None),
        };
        let (on, time) = match time.trim().rsplit_once(' ') {
            Some((on, time)) => (days(on).ok_or_else(wrong)?, time),
            None => ((0, 6), time.trim()),
        };
        let (from, to) = time.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
        if from == to || from == DAY {
            return Err(wrong());
        }
        Ok(Self { days: on, from, to, value })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |number: u8| DAYS[usize::from(number % 7)];
        match self.days {
            (0, 6) => {}
            (first, last) if first == last => write!(f, "{} ", day(first))?,
            (first, last) => write!(f, "{}-{} ", day(first), day(last))?,
        }
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))?;
        match self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(weekday: u8, hour: u16, minute: u16) -> LocalTime {
        LocalTime { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights: Window = "mon-fri 22:00-06:00".parse().unwrap();
        assert!(nights.holds(at(0, 22, 0)) && nights.holds(at(5, 5, 59)));
        assert!(!nights.holds(at(0, 5, 0)) && !nights.holds(at(5, 22, 0)));
        assert!(!nights.holds(at(2, 6, 0)) && !nights.holds(at(2, 21, 59)));
        let weekend: Window = "sat-sun 00:00-24:00".parse().unwrap();
        assert!(weekend.holds(at(6, 23, 59)) && !weekend.holds(at(4, 23, 59)));
        let across: Window = "sun-mon 12:00-13:00".parse().unwrap();
        assert!(
            across.holds(at(6, 12, 0)) && across.holds(at(0, 12, 0)) && !across.holds(at(3, 12, 0))
        );
    }

    #[test]
    fn they_are_read_as_they_are_written() {
        for text in ["mon-fri 22:00-06:00", "08:00-24:00", "sun 00:00-12:30=0.19", "22:00-06:00=50"]
        {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "22-06",
            "25:00-01:00",
            "foo 22:00-06:00",
            "22:00-22:00",
            "22:00-06:00=x",
            "+1:00-2:00",
        ] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_window_that_holds_has_the_price() {
        let tariff: Vec<Window> = ["22:00-06:00=0.2", "00:00-24:00=0.3"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(value_at(&tariff, at(0, 23, 0)), Some(0.2));
        assert_eq!(value_at(&tariff, at(0, 12, 0)), Some(0.3));
        assert_eq!(value_at(&[], at(0, 12, 0)), None);
    }
}
