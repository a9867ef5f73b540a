//! `top`: a running node as its owner watches it: slots, jobs, mining, earnings and the machine. In a
//! terminal a picture that is drawn again and again, in a pipe lines, once.
//!
//! What is asked for is in [`snapshot`], what is said of it in [`words`], how it looks in [`screen`].

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::owner::ask;
use super::{FAILED, Flags, answer, complain};
use crate::clock;
use crate::config::Config;
use snapshot::Snapshot;

mod screen;
mod snapshot;
mod words;

/// What tells all of it.
const STATUS: &str = "/v1/status";

/// Watches a running node: slots, jobs, mining, earnings.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Say it once, in lines (also where standard output is no terminal)
    #[arg(long)]
    once: bool,
    /// As JSON, once
    #[arg(long)]
    json: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

impl Top {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let config = match flags.load_aloud() {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        if self.json {
            return match ask::<Value>(&config, STATUS, None) {
                Ok(status) => answer(&format!("{status:#}\n")),
                Err(error) => complain(&error, FAILED),
            };
        }
        // Nothing to be drawn where nobody answers.
        let first = match ask::<Snapshot>(&config, STATUS, None) {
            Ok(first) => first,
            Err(error) => return complain(&error, FAILED),
        };
        if self.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return answer(&words::lines(&first, None, clock::now()));
        }
        let drawn = ratatui::try_init().and_then(|mut terminal| {
            let watched = watch(&mut terminal, &config, first, Duration::from_secs(self.interval));
            ratatui::try_restore().and(watched)
        });
        match drawn {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, FAILED),
        }
    }
}

/// Draws until somebody has seen enough.
fn watch(
    terminal: &mut DefaultTerminal,
    config: &Config,
    first: Snapshot,
    interval: Duration,
) -> io::Result<()> {
    let (mut before, mut now, mut trouble) = (None, first, None);
    loop {
        let at = clock::now();
        terminal.draw(|frame| {
            screen::draw(frame, &now, before.as_ref(), at, trouble.as_deref());
        })?;
        if is_enough(interval)? {
            return Ok(());
        }
        match ask::<Snapshot>(config, STATUS, None) {
            Ok(next) => {
                before = Some(std::mem::replace(&mut now, next));
                trouble = None;
            }
            // It may be about to start again: the last picture stays.
            Err(error) => trouble = Some(error.to_string()),
        }
    }
}

/// Waits for the next look; says whether somebody wants no more.
fn is_enough(interval: Duration) -> io::Result<bool> {
    let due = Instant::now() + interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if !event::poll(left)? {
            return Ok(false);
        }
        match event::read()? {
            Event::Key(key) if ends(key) => return Ok(true),
            // The picture has to fit again.
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
}

fn ends(key: KeyEvent) -> bool {
    let interrupts = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => interrupts,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
