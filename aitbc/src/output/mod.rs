//! What is printed, and in which form: tables for people, plain lines in a pipe, or JSON as the
//! coordinator wrote it. Progress goes to standard error, and only to a terminal.

use std::io::{self, Write as _};

mod progress;
mod table;
mod text;

pub use progress::{Progress, waiting};
pub use table::{Style, fields, table};
pub use text::{printable, printable_lines};

use crate::ending::Failure;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Whether JSON was asked for.
    pub json: bool,
    /// The form of everything else.
    pub style: Style,
}

impl Output {
    /// Standard output, as it is.
    pub fn standard(json: bool) -> Self {
        let terminal = console::Term::stdout();
        let style = if terminal.is_term() {
            let width = terminal.size_checked().map_or(80, |(_, columns)| usize::from(columns));
            Style::People { width, color: console::colors_enabled() }
        } else {
            Style::Plain
        };
        Self { json, style }
    }

    /// Prints a table. In a pipe its rows are lines of cells with tabs in between.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub fn table<const N: usize>(
        &self,
        heads: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        let rows: Vec<_> = rows.into_iter().collect();
        self.text(&table(self.style, heads, &rows))
    }

    /// Prints names and values, one pair a line.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub fn fields(&self, pairs: &[(&str, String)]) -> Result<(), Failure> {
        self.text(&fields(self.style, pairs))
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Prints what a job wrote. On a terminal it must not be able to move the cursor.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub fn foreign(&self, text: &str) -> Result<(), Failure> {
        match self.style {
            Style::People { .. } => self.text(&printable_lines(text)),
            Style::Plain => self.text(text),
        }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
    }
}
