//! `aitbc wallet`

use clap::Subcommand;
use protocol::Name;
use protocol::wallet::{Balance, LedgerLine};

use super::or_dash;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::session::{Paging, Session};

/// Shows a wallet.
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// What it holds
    Balance {
        /// Which wallet; the key's own unless stated
        #[arg(long, value_name = "WALLET")]
        wallet: Option<Name>,
    },
    /// Its entries, newest first
    Ledger(Paging),
}

impl Wallet {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Balance { wallet } => {
                let call = calls::balance(wallet.as_ref());
                let show = session.show(call, |output, balance: Balance| {
                    output.fields(&[
                        ("wallet", balance.wallet.to_string()),
                        ("balance", format!("{} {}", balance.balance, balance.currency)),
                        ("pending", format!("{} {}", balance.pending, balance.currency)),
                        ("updated_at", balance.updated_at.to_string()),
                    ])
                });
                show.await
            }
            Self::Ledger(paging) => {
                let heads = ["WHEN", "KIND", "AMOUNT", "JOB", "RECEIPT"];
                let row = |line: LedgerLine| {
                    [
                        line.created_at.to_string(),
                        line.kind,
                        line.amount.to_string(),
                        or_dash(line.job_id),
                        or_dash(line.receipt_id),
                    ]
                };
                session.list(calls::ledger(), &paging, heads, row).await
            }
        }
    }
}
