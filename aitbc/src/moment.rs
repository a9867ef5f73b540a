//! Moments as people type them, and the one clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::Timestamp;

/// The time now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A moment as the command line takes it, for clap.
///
/// # Errors
/// Where `text` is neither a time nor an age.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    parse_at(text, now())
}

/// `2026-01-24T00:00:00Z`, `2026-01-24`, or an age before `now` such as `90m`, `12h`, `7d`.
fn parse_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()) {
        return Ok(moment);
    }
    let wrong =
        || "is neither a time such as 2026-01-24T00:00:00Z nor an age such as 12h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(now.plus_secs(-i64::from(count).saturating_mul(secs)).whole_secs())
}

/// A length of time in the largest unit that says it well.
pub fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        secs @ 1..=119 => format!("{secs} s"),
        secs @ 120..=7199 => format!("{} min", secs / 60),
        secs @ 7200..=172_799 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_days_and_ages() {
        let now: Timestamp = "2026-01-24T12:00:00.5Z".parse().unwrap();
        for (text, moment) in [
            ("2026-01-20T01:02:03Z", "2026-01-20T01:02:03Z"),
            ("2026-01-20", "2026-01-20T00:00:00Z"),
            ("90m", "2026-01-24T10:30:00Z"),
            ("12h", "2026-01-24T00:00:00Z"),
            ("7d", "2026-01-17T12:00:00Z"),
            ("0s", "2026-01-24T12:00:00Z"),
        ] {
            assert_eq!(parse_at(text, now).unwrap().to_string(), moment, "{text}");
        }
        for text in ["", "yesterday", "5", "h", "-5h", "5w", "2026-13-01", "é"] {
            assert!(parse_at(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_are_said_in_one_unit() {
        let said = [0, 1, 119, 120, 7200, 172_800].map(|s| spoken(Duration::from_secs(s)));
        assert_eq!(said, ["0 ms", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
