//! `aitbc deposit`: funds of a prepaid client, noted by an admin.

use clap::Args;
use protocol::wallet::{Deposit as Body, Deposited};
use protocol::{Amount, Name};
use uuid::Uuid;

use crate::chance;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::session::Session;

/// Notes that a prepaid client paid in.
#[derive(Debug, Args)]
pub struct Deposit {
    /// The client
    client: Name,
    /// How much, in AITBC
    amount: Amount,
    /// What it was: an invoice, a transaction; each counts once
    #[arg(long, value_name = "TEXT")]
    reference: String,
    /// Under which a repetition of this very call is recognised
    #[arg(long, value_name = "UUID")]
    idempotency_key: Option<Uuid>,
}

impl Deposit {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let key = self.idempotency_key.unwrap_or_else(chance::idempotency_key);
        let body = Body { amount: self.amount, reference: self.reference };
        let call = calls::deposit(&self.client, &body, key);
        let show = session.show(call, |output, done: Deposited| {
            output.fields(&[
                ("client", done.wallet.to_string()),
                ("balance", done.balance.to_string()),
                ("transfer", done.transfer_id),
            ])
        });
        show.await
    }
}
