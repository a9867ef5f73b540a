//! `aitbc payouts`: what miners are owed over a period, and that it was paid.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::Timestamp;
use protocol::payout::{PaidOut, PayoutFile};
use protocol::wallet::CURRENCY;
use uuid::Uuid;

use super::receipt::trusted_keys;
use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::moment;
use crate::output::Output;
use crate::session::Session;

/// No payout file is larger.
const MAX_BYTES: u64 = 64 << 20;

/// Payouts of a period.
#[derive(Debug, Subcommand)]
pub enum Payouts {
    /// Say what is owed, as a signed file; changes nothing
    Export(Export),
    /// Say that what a file states was paid; the same file again changes nothing
    Mark {
        /// The file
        file: PathBuf,
        /// Under which a repetition of this very call is recognised
        #[arg(long, value_name = "UUID")]
        idempotency_key: Option<Uuid>,
    },
}

/// Says what is owed.
#[derive(Debug, Args)]
pub struct Export {
    /// From when: a time, or an age such as 30d
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// Until when; now unless stated
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// Its lines alone, for a spreadsheet; only the signed file can be marked as paid
    #[arg(long)]
    csv: bool,
    /// Write the file here, and print what is in it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there: it may say what was paid
    #[arg(long, requires = "output")]
    force: bool,
}

impl Payouts {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Export(export) => export.run(session).await,
            Self::Mark { file, idempotency_key } => {
                let key = idempotency_key.unwrap_or_else(chance::idempotency_key);
                session.show(calls::mark_paid(&read(&file)?, key), paid).await
            }
        }
    }
}

impl Export {
    async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { since, until, csv, output, force } = self;
        if let Some(path) = output.as_ref().filter(|path| !force && path.exists()) {
            return Err(Failure::in_the_way(path));
        }
        let reply = session.coordinator.ask(&calls::export_payouts(since, until)).await?;
        let payouts: PayoutFile = reply.read()?;
        check(session, &payouts).await?;
        let text = if csv { payouts.to_csv() } else { format!("{}\n", reply.text()?) };
        let Some(path) = output else {
            session.output.text(&text)?;
            return Ok(Ending::Done);
        };
        std::fs::write(&path, text).map_err(Failure::write(&path))?;
        session.tell(&format!(
            "{}: {} to {} {} for {} to {}",
            path.display(),
            payouts.total,
            payouts.items.len(),
            if payouts.items.len() == 1 { "wallet" } else { "wallets" },
            payouts.since,
            payouts.until
        ));
        if session.output.json {
            session.output.line(reply.text()?)?;
            return Ok(Ending::Done);
        }
        let rows = payouts.items.into_iter().map(|line| {
            let amount = format!("{} {CURRENCY}", line.amount);
            [line.wallet.to_string(), amount, line.receipts.len().to_string()]
        });
        session.output.table(["WALLET", "AMOUNT", "RECEIPTS"], rows)?;
        Ok(Ending::Done)
    }
}

/// Somebody pays by this file: it must add up, and be the coordinator's.
async fn check(session: &Session, payouts: &PayoutFile) -> Result<(), Failure> {
    let bad = |why: String| Failure::NotGood(format!("the payout file is NOT valid: {why}"));
    payouts.verify().map_err(|error| bad(error.to_string()))?;
    let signer = payouts.signature.as_ref().map(|by| by.key_id.as_str()).unwrap_or_default();
    let trusted = trusted_keys(session).await?;
    if trusted.iter().any(|key| key == signer) {
        return Ok(());
    }
    Err(bad(format!("it is signed by {signer}, not by {}", trusted.join(", "))))
}

fn paid(output: &Output, paid: PaidOut) -> Result<(), Failure> {
    output.fields(&[
        ("paid", format!("{} {CURRENCY}", paid.total)),
        ("wallets", paid.wallets.to_string()),
        ("marked at", paid.paid_at.to_string()),
        ("file", paid.export_id),
        ("transfer", paid.transfer_id),
    ])
}

fn read(path: &Path) -> Result<PayoutFile, Failure> {
    let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
    serde_json::from_reader(std::io::BufReader::new(file.take(MAX_BYTES)))
        .map_err(|error| Failure::usage(format!("{}: no payout file: {error}", path.display())))
}
