//! What `mine` prints: the lines that miners know, or JSON.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use mining::Notice;
use mining::engine::{Hashrate, Status};
use mining::notice::Outcome;
use protocol::Timestamp;
use serde_json::{Value, json};

use super::paper::Line;
use crate::clock;

/// Lines on standard output.
pub(super) struct Lines {
    json: bool,
    coloured: bool,
}

/// What a line is about, and its colour.
#[derive(Clone, Copy)]
enum Tag {
    Net,
    Cpu,
    Miner,
    Dataset,
    Warn,
}

impl Tag {
    const fn word(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Cpu => "cpu",
            Self::Miner => "miner",
            Self::Dataset => "dataset",
            Self::Warn => "warn",
        }
    }

    /// Of ECMA-48's palette.
    const fn colour(self) -> u8 {
        match self {
            Self::Net => 34,
            Self::Cpu => 36,
            Self::Miner => 35,
            Self::Dataset => 32,
            Self::Warn => 33,
        }
    }

    const fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Connected { .. } | Notice::Disconnected { .. } | Notice::Job { .. } => {
                Self::Net
            }
            Notice::Share { verdict: Outcome::Accepted, .. } => Self::Cpu,
            Notice::Share { .. } | Notice::Warning { .. } => Self::Warn,
            Notice::Preparing { .. }
            | Notice::Dataset { .. }
            | Notice::Ready { .. }
            | Notice::ReadyAhead
            | Notice::GivenBack => Self::Dataset,
        }
    }
}

impl Lines {
    pub(super) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, coloured: io::stdout().is_terminal() && !plain }
    }

    pub(super) fn line(&self, line: &Line) -> io::Result<()> {
        if self.json {
            return self.object(json(line).map_err(io::Error::other)?);
        }
        match line {
            Line::Notice(notice) => self.text(Tag::of(notice), notice),
            Line::Speed(status) => self.text(Tag::Miner, &speed(&status.hashrate)),
            Line::Summary(status, took) => self.text(Tag::Miner, &summary(status, *took)),
            Line::LeftOut(count) => self.text(Tag::Warn, &format!("{count} lines left out")),
        }
    }

    fn text(&self, tag: Tag, text: &dyn Display) -> io::Result<()> {
        let text = plain(&text.to_string());
        let (at, word) = (clock::now().whole_secs(), tag.word());
        let mut out = io::stdout().lock();
        match self.coloured {
            true => writeln!(out, "{at} \x1b[{}m{word:<7}\x1b[0m {text}", tag.colour())?,
            false => writeln!(out, "{at} {word:<7} {text}")?,
        }
        out.flush()
    }

    fn object(&self, mut object: Value) -> io::Result<()> {
        let at: Timestamp = clock::now();
        object["ts"] = serde_json::to_value(at).map_err(io::Error::other)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{object}")?;
        out.flush()
    }
}

fn json(line: &Line) -> serde_json::Result<Value> {
    Ok(match line {
        Line::Notice(notice) => serde_json::to_value(notice)?,
        Line::Speed(status) => {
            json!({ "event": "speed", "status": serde_json::to_value(status)? })
        }
        Line::Summary(status, took) => {
            let (status, secs) = (serde_json::to_value(status)?, took.as_secs_f64());
            json!({ "event": "summary", "seconds": secs, "status": status })
        }
        Line::LeftOut(count) => json!({ "event": "left_out", "lines": count }),
    })
}

/// What pools wrote must not begin a line of its own, nor move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn speed(rate: &Hashrate) -> String {
    let [ten, minute, quarter, highest] =
        [rate.ten_secs, rate.minute, rate.quarter_hour, rate.highest].map(per_second);
    format!("speed 10s/60s/15m {ten} {minute} {quarter} H/s max {highest} H/s")
}

fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "n/a".to_owned(), |rate| format!("{rate:.1}"))
}

fn summary(status: &Status, took: Duration) -> String {
    let (secs, shares) = (took.as_secs(), &status.shares);
    let mean = status.hashes as f64 / took.as_secs_f64().max(0.001);
    let mut text = format!(
        "stopped after {}:{:02}:{:02}: {} hashes, {mean:.1} H/s on average, found {}, accepted {}, \
         rejected {}, stale {}, lost {}",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        status.hashes,
        shares.found,
        shares.accepted,
        shares.rejected,
        shares.stale,
        shares.lost
    );
    if shares.under_way > 0 {
        text.push_str(&format!(", not answered {}", shares.under_way));
    }
    for (reason, count) in &shares.reasons {
        text.push_str(&format!("; {count} x \"{reason}\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_told_as_miners_know_them() {
        let mut rate = Hashrate { ten_secs: Some(512.34), ..Hashrate::default() };
        rate.highest = Some(520.0);
        assert_eq!(speed(&rate), "speed 10s/60s/15m 512.3 n/a n/a H/s max 520.0 H/s");
    }

    #[test]
    fn shares_that_nobody_has_answered_are_told() {
        let mut status = Status::unknown("native");
        status.shares.found = 5;
        status.shares.accepted = 2;
        status.shares.stale = 1;
        status.shares.under_way = 2;
        let text = summary(&status, Duration::from_secs(61));
        let told = "found 5, accepted 2, rejected 0, stale 1, lost 0, not answered 2";
        assert!(text.contains(told), "{text}");
        status.shares.under_way = 0;
        status.shares.lost = 2;
        assert!(!summary(&status, Duration::from_secs(61)).contains("answered"));
    }

    #[test]
    fn a_pools_words_stay_on_their_line() {
        assert_eq!(plain("low\n\x1b[2Jdiff é"), "low  [2Jdiff é");
    }
}
