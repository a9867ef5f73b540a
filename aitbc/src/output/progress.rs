//! How far something is: on standard error, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// The progress of one file.
#[derive(Debug, Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Of a file of so many bytes.
    pub fn of_file(name: &str, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let form = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        // A template that does not parse leaves the default one.
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_message(super::printable(name));
        Self(bar)
    }

    /// So many more bytes.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// From the beginning again.
    pub fn restart(&self) {
        self.0.reset();
    }

    /// Leaves nothing behind.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A spinner for what takes as long as it takes; its message says what.
pub fn waiting(what: &str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
        spinner.set_style(style);
    }
    spinner.set_message(super::printable(what));
    spinner.enable_steady_tick(TICK);
    spinner
}
