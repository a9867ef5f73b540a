//! What commands work with: the settings that count, the coordinator, the output.

use protocol::wallet::Page;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::coordinator::{Call, CallError, Coordinator, Patience};
use crate::ending::{Ending, Failure};
use crate::output::{Output, Style};
use crate::profile::{self, Choice, Settings};

/// The most items of one page.
const LARGEST_PAGE: u32 = 200;

/// What every command that speaks to a coordinator has at hand.
#[derive(Debug)]
pub struct Session {
    /// Where it is, and with which key.
    pub settings: Settings,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Where answers go.
    pub output: Output,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Paging {
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// To the end; with --json one item a line
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Session {
    /// Settles which coordinator and key count.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn open(choice: Choice, patience: Patience, output: Output) -> Result<Self, Failure> {
        let settings = profile::settle(choice)?;
        let coordinator = Coordinator::new(&settings, patience)
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self { settings, coordinator, output })
    }

    /// Says something on standard error, unless quiet was asked for.
    pub fn tell(&self, text: &str) {
        if !self.coordinator.is_quiet() {
            eprintln!("aitbc: {text}");
        }
    }

    /// Makes a call whose reply is one thing, and prints it: as JSON, or as `show` lays it out.
    ///
    /// # Errors
    /// Where the call fails, or standard output does.
    pub async fn show<T: DeserializeOwned>(
        &self,
        call: Call,
        show: impl FnOnce(&Output, T) -> Result<(), Failure>,
    ) -> Result<Ending, Failure> {
        let reply = self.coordinator.ask(&call).await?;
        if self.output.json {
            self.output.line(reply.text()?)?;
        } else {
            show(&self.output, reply.read()?)?;
        }
        Ok(Ending::Done)
    }

    /// Makes a call whose reply is a list, and prints it: as JSON, or as a table of `row`s.
    ///
    /// # Errors
    /// Where the call fails, or standard output does.
    pub async fn list<T: DeserializeOwned, const N: usize>(
        &self,
        call: Call,
        paging: &Paging,
        heads: [&str; N],
        row: impl Fn(T) -> [String; N],
    ) -> Result<Ending, Failure> {
        if !paging.all {
            let call = call.with("limit", paging.limit).with("cursor", paging.cursor.as_ref());
            let reply = self.coordinator.ask(&call).await?;
            if self.output.json {
                self.output.line(reply.text()?)?;
                return Ok(Ending::Done);
            }
            let page: Page<T> = reply.read()?;
            self.output.table(heads, page.items.into_iter().map(row))?;
            if let Some(next) = page.next {
                eprintln!("aitbc: there are more: --cursor {next}, or --all");
            }
            return Ok(Ending::Done);
        }
        let mut rows = Vec::new();
        let mut cursor = paging.cursor.clone();
        loop {
            let page = self.page(&call, cursor.as_deref()).await?;
            for item in page.items {
                if self.output.json {
                    self.output.line(item.get())?;
                } else {
                    rows.push(row(read(&item)?));
                }
            }
            // For programs lines come as they arrive; columns need to know all of them.
            if self.output.style == Style::Plain {
                self.output.table(heads, std::mem::take(&mut rows))?;
            }
            // A cursor that does not move would go round for ever.
            match page.next {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => break,
            }
        }
        if self.output.style != Style::Plain && !self.output.json {
            self.output.table(heads, rows)?;
        }
        Ok(Ending::Done)
    }

    async fn page(
        &self,
        call: &Call,
        cursor: Option<&str>,
    ) -> Result<Page<Box<RawValue>>, Failure> {
        let call = call.clone().with("limit", Some(LARGEST_PAGE)).with("cursor", cursor);
        Ok(self.coordinator.ask_for(&call).await?)
    }
}

fn read<T: DeserializeOwned>(item: &RawValue) -> Result<T, CallError> {
    serde_json::from_str(item.get()).map_err(|error| CallError::Nonsense(error.to_string()))
}
