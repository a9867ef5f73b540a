//! Moments on the wire: ISO-8601 in UTC, with a `Z`, whole microseconds inside.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment as microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text was no `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO-8601 time in UTC such as 2026-01-24T00:00:30Z")]
pub struct TimestampError;

/// 9999-12-31T23:59:59Z: the last second that four digits of a year can state.
const LAST_MICROS: i64 = 253_402_300_799_000_000;

/// A day, in microseconds.
const DAY_MICROS: i64 = 86_400_000_000;

impl Timestamp {
    /// From microseconds since the epoch, clamped to the years 1970 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(0, LAST_MICROS))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        (self.0 / 1_000) as u64
    }

    /// This moment and `duration` later (clamped).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(LAST_MICROS);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// This moment and `secs` seconds later (clamped).
    #[must_use]
    pub fn plus_secs(self, secs: i64) -> Self {
        Self::from_micros(self.0.saturating_add(secs.saturating_mul(1_000_000)))
    }

    /// How long after `earlier` this moment is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// The day (UTC), counted from 1970-01-01.
    pub const fn day(self) -> i32 {
        // At most 2,932,896: the year 9999.
        (self.0 / DAY_MICROS) as i32
    }

    /// When a day (UTC, counted from 1970-01-01) begins.
    pub fn of_day(day: i32) -> Self {
        Self::from_micros(i64::from(day) * DAY_MICROS)
    }

    /// The same moment without its fraction of a second.
    #[must_use]
    pub fn whole_secs(self) -> Self {
        Self(self.0 - self.0 % 1_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => write!(f, "{moment}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        // jiff also takes offsets and a blank for the T; the wire has one spelling.
        let bytes = text.as_bytes();
        if !text.ends_with('Z') || bytes.len() < 20 || bytes[10] != b'T' {
            return Err(TimestampError);
        }
        let moment: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        let micros = moment.as_microsecond();
        if !(0..=LAST_MICROS).contains(&micros) {
            return Err(TimestampError);
        }
        Ok(Self(micros))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        let moment: Timestamp = "2025-09-26T13:37:00Z".parse().unwrap();
        assert_eq!(moment.to_string(), "2025-09-26T13:37:00Z");
        assert_eq!(
            moment.plus(Duration::from_micros(5)).to_string(),
            "2025-09-26T13:37:00.000005Z"
        );
        for text in ["2025-09-26T13:37:00+00:00", "2025-09-26 13:37:00Z", "2025-09-26", "", "Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimestampError), "{text}");
        }
    }
}
