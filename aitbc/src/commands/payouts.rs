//! `aitbc payouts`: what miners are owed over a period, and that it was paid.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::Timestamp;
use protocol::payout::PayoutFile;
use protocol::wallet::CURRENCY;
use uuid::Uuid;

use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::moment;
use crate::session::Session;

/// No payout file is larger.
const MAX_BYTES: u64 = 64 << 20;

/// Payouts of a period.
#[derive(Debug, Subcommand)]
pub enum Payouts {
    /// Say what is owed, as a signed file; changes nothing
    Export {
        /// From when: a time, or an age such as 30d
        #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
        since: Option<Timestamp>,
        /// Until when; now unless stated
        #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
        until: Option<Timestamp>,
        /// Write the file here, and print what is in it
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say that what a file states was paid; the same file again changes nothing
    Mark {
        /// The file
        file: PathBuf,
        /// Under which a repetition of this very call is recognised
        #[arg(long, value_name = "UUID")]
        idempotency_key: Option<Uuid>,
    },
}

impl Payouts {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Export { since, until, output } => export(session, since, until, output).await,
            Self::Mark { file, idempotency_key } => {
                let key = idempotency_key.unwrap_or_else(chance::idempotency_key);
                let reply = session.coordinator.ask(&calls::mark_paid(&read(&file)?, key)).await?;
                session.output.line(reply.text()?)?;
                Ok(Ending::Done)
            }
        }
    }
}

async fn export(
    session: &Session,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    file: Option<PathBuf>,
) -> Result<Ending, Failure> {
    let reply = session.coordinator.ask(&calls::export_payouts(since, until)).await?;
    let Some(path) = file else {
        session.output.line(reply.text()?)?;
        return Ok(Ending::Done);
    };
    let payouts: PayoutFile = reply.read()?;
    std::fs::write(&path, reply.text()?).map_err(Failure::write(&path))?;
    eprintln!(
        "aitbc: {}: {} to {} {} for {} to {}",
        path.display(),
        payouts.total,
        payouts.items.len(),
        if payouts.items.len() == 1 { "wallet" } else { "wallets" },
        payouts.since,
        payouts.until
    );
    let rows = payouts.items.into_iter().map(|line| {
        let amount = format!("{} {CURRENCY}", line.amount);
        [line.wallet.to_string(), amount, line.receipts.len().to_string()]
    });
    session.output.table(["WALLET", "AMOUNT", "RECEIPTS"], rows)?;
    Ok(Ending::Done)
}

fn read(path: &Path) -> Result<PayoutFile, Failure> {
    let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
    serde_json::from_reader(std::io::BufReader::new(file.take(MAX_BYTES)))
        .map_err(|error| Failure::usage(format!("{}: no payout file: {error}", path.display())))
}
