//! `ctl`: what a running node's owner wants of it, from now on and over its restarts.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::owner::ask;
use super::{FAILED, Flags, USAGE, answer, complain};
use crate::clock;
use crate::sharing::FOR_EVER;

/// Shows or changes the rules of a running node.
#[derive(Debug, Args)]
pub(super) struct Ctl {
    #[command(subcommand)]
    wish: Option<Wish>,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Wish {
    /// Show all rules in force, or one
    Get {
        /// Its name
        key: Option<String>,
    },
    /// Change rules: cpu_pct=50 schedule=22:00-06:00
    Set {
        /// Names and values
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
    },
    /// Go back to what is configured
    Reset {
        /// Names; without any, all
        keys: Vec<String>,
    },
    /// Mine nothing and take no jobs for a while, or until resumed; jobs that run go on
    Pause {
        /// How long: 30s, 45m, 2h, 1d
        #[arg(value_parser = duration)]
        time: Option<Duration>,
    },
    /// End a pause
    Resume,
    /// Mine, or not
    Mining {
        /// on or off
        #[arg(value_parser = switch)]
        on: Switch,
    },
    /// Take jobs, or not; jobs that run go on
    Compute {
        /// on or off
        #[arg(value_parser = switch)]
        on: Switch,
    },
}

/// A switch on the command line, which is no flag.
#[derive(Debug, Clone, Copy)]
struct Switch(bool);

fn switch(text: &str) -> Result<Switch, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(Switch(true)),
        "off" | "false" | "no" | "0" => Ok(Switch(false)),
        _ => Err("on or off".to_owned()),
    }
}

/// A time with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time, as in 30s, 45m, 2h, 1d");
    let unit = text.char_indices().last().ok_or_else(wrong)?;
    let secs = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..unit.0].parse().map_err(|_| wrong())?;
    // Longer than a lifetime is for ever, which has no number.
    let secs = count.checked_mul(secs).filter(|secs| (1..=3_153_600_000).contains(secs));
    secs.map(Duration::from_secs).ok_or_else(wrong)
}

impl Wish {
    /// What it changes; `Err` where it cannot be meant.
    fn changes(
        &self,
        controls: &Map<String, Value>,
        now: u64,
    ) -> Result<Map<String, Value>, String> {
        let one = |key: &str, value: Value| Ok(Map::from_iter([(key.to_owned(), value)]));
        match self {
            Self::Get { .. } => Ok(Map::new()),
            Self::Set { changes } => changes.iter().map(|text| assignment(text)).collect(),
            Self::Reset { keys } if keys.is_empty() => {
                Ok(controls.keys().map(|key| (key.clone(), Value::Null)).collect())
            }
            Self::Reset { keys } => Ok(keys.iter().map(|key| (key.clone(), Value::Null)).collect()),
            Self::Pause { time } => {
                let until = time.map_or(FOR_EVER, |time| now.saturating_add(time.as_secs()));
                one("snooze_until", until.into())
            }
            Self::Resume => one("snooze_until", Value::Null),
            Self::Mining { on } => one("mining", on.0.into()),
            Self::Compute { on } => one("compute", on.0.into()),
        }
    }
}

/// `KEY=VALUE`: numbers, switches and nothing as such, everything else as text.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let value = match (value.trim(), switch(value.trim())) {
        ("", _) => Value::Null,
        (word, Ok(Switch(on))) if word.parse::<u64>().is_err() => on.into(),
        (word, _) => match word.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => word.into(),
        },
    };
    Ok((key.trim().to_owned(), value))
}

impl Ctl {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let config = match flags.load_aloud() {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        let mut controls: Map<String, Value> = match ask(&config, "/v1/controls", None) {
            Ok(controls) => controls,
            Err(error) => return complain(&error, FAILED),
        };
        if let Some(wish) = self.wish.as_ref().filter(|wish| !matches!(wish, Wish::Get { .. })) {
            let now = u64::try_from(clock::now().micros() / 1_000_000).unwrap_or(0);
            let changes = match wish.changes(&controls, now) {
                Ok(changes) => changes,
                Err(why) => return complain(&why, USAGE),
            };
            let before = controls;
            controls = match ask(&config, "/v1/controls", Some(&changes)) {
                Ok(controls) => controls,
                Err(error) => return complain(&error, FAILED),
            };
            if !self.json {
                return answer(&difference(&before, &controls));
            }
        }
        if let Some(Wish::Get { key: Some(key) }) = &self.wish {
            let Some(value) = controls.get(key) else {
                return complain(
                    &format!("unknown control {key}; miner-node ctl shows all"),
                    USAGE,
                );
            };
            return answer(&format!(
                "{}\n",
                if self.json { json!({key: value}) } else { value.clone() }
            ));
        }
        if self.json || !std::io::stdout().is_terminal() {
            return answer(&format!("{:#}\n", Value::Object(controls)));
        }
        let lines: Vec<_> =
            controls.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        answer(&lines.concat())
    }
}

/// What is other than before.
fn difference(before: &Map<String, Value>, now: &Map<String, Value>) -> String {
    let changed = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let lines: Vec<_> = changed.map(|(key, value)| format!("{key}: {value}\n")).collect();
    if lines.is_empty() { "as before\n".to_owned() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        let value = |text: &str| assignment(text).unwrap().1;
        assert_eq!(value("cpu_pct=50"), json!(50));
        assert_eq!((value("mining=off"), value("on_battery=true")), (json!(false), json!(true)));
        assert_eq!(value("cpu_threads=1"), json!(1));
        assert_eq!((value("cpu_threads="), value("hash_value=0.5")), (json!(null), json!("0.5")));
        assert_eq!(
            value("schedule=22:00-06:00,12:00-13:00=50"),
            json!("22:00-06:00,12:00-13:00=50")
        );
        assert!(assignment("cpu_pct").is_err());
    }

    #[test]
    fn pauses_have_units_and_an_end() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "m", "5", "-5m", "1.5h", "0s", "99999999999d", "5 m", "5é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        let pause = |time| Wish::Pause { time }.changes(&Map::new(), 100).unwrap();
        assert_eq!(pause(Some(Duration::from_secs(60)))["snooze_until"], 160);
        assert_eq!(pause(None)["snooze_until"], FOR_EVER);
    }
}
