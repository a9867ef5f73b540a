//! `coordinator payouts`: what wallets are owed, and that it was paid.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::Timestamp;
use protocol::payout::PayoutFile;
use serde_json::Value;

use super::{Failure, failed, read, say, say_json};
use crate::app::{self, Clock};
use crate::audit::LOCAL;
use crate::config::Config;
use crate::db::Db;
use crate::error::ApiError;
use crate::ledger::payouts::{self, Period};
use crate::{attestor, service};

/// The largest file that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what wallets are owed, as a signed file; nothing changes
    Export {
        /// From when on receipts are listed, as 2026-01-24T00:00:00Z
        #[arg(long)]
        since: Option<Timestamp>,
        /// Up to when balances count; absent: now
        #[arg(long)]
        until: Option<Timestamp>,
        /// The lines alone, for a spreadsheet; such a file cannot be marked as paid
        #[arg(long)]
        csv: bool,
    },
    /// Note that an exported file was paid: the amounts leave the wallets
    Mark {
        /// The file; `-` reads standard input
        file: PathBuf,
    },
}

impl Command {
    pub(super) async fn run(self, db: &Db, config: &Config, json: bool) -> Result<(), Failure> {
        service::make_private(&config.data_dir).map_err(failed)?;
        let key = attestor::open(&config.data_dir, app::random_bytes()).map_err(failed)?;
        let now = Clock::System.now();
        let refused = |error: ApiError| match error.details.get("field").and_then(Value::as_str) {
            Some(field) => failed(format!("{field}: {}", error.message)),
            None => failed(error.message),
        };
        match self {
            Self::Export { since, until, csv } => {
                let period = Period::new(since, until, now).map_err(refused)?;
                let file = payouts::export(db, now, &key, period).await.map_err(refused)?;
                if csv {
                    say(file.to_csv().trim_end());
                    return Ok(());
                }
                say_json(&file)
            }
            Self::Mark { file } => {
                let file = parse(&file)?;
                let paid = payouts::mark(db, now, LOCAL, &key, &file).await.map_err(refused)?;
                if json {
                    return say_json(&paid);
                }
                say(&format!("{} AITBC left {} wallets", paid.total, paid.wallets));
                Ok(())
            }
        }
    }
}

fn parse(file: &Path) -> Result<PayoutFile, Failure> {
    serde_json::from_str(&read(file, MAX_BYTES)?)
        .map_err(|error| failed(format!("{}: no payout file: {error}", file.display())))
}
