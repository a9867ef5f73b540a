//! The ledger: double entry. Every transfer's entries sum to zero; balances are kept beside them
//! and audited against them.

pub mod audit;
pub mod payouts;
pub mod routes;
pub mod store;

use protocol::{Amount, JobId, Name};
use uuid::Uuid;

/// An account, by what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// What a wallet has earned.
    Wallet(Name),
    /// What a prepaid client has left.
    Client(Name),
    /// What is held of a prepaid client's funds for jobs that have not ended.
    Hold(Name),
    /// Where issued credits come from: below zero by all that was ever issued.
    Issuance,
    /// What the operator kept of prices.
    Fee,
    /// Where deposits come from.
    External,
    /// What wallets were paid out.
    PaidOut,
}

impl Account {
    /// The account's name in the database.
    pub fn name(&self) -> String {
        match self {
            Self::Wallet(wallet) => format!("wallet:{wallet}"),
            Self::Client(client) => format!("client:{client}"),
            Self::Hold(client) => format!("hold:{client}"),
            Self::Issuance => "issuance".to_owned(),
            Self::Fee => "fee".to_owned(),
            Self::External => "external".to_owned(),
            Self::PaidOut => "paid_out".to_owned(),
        }
    }
}

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// A prepaid client's funds are set aside for a job.
    Hold,
    /// A job is paid.
    Credit,
    /// What was set aside for a job that earned nothing goes back.
    Release,
    /// A prepaid client pays in.
    Deposit,
    /// Wallets are paid out, by other means.
    Payout,
}

impl TransferKind {
    /// The text in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Credit => "credit",
            Self::Release => "release",
            Self::Deposit => "deposit",
            Self::Payout => "payout",
        }
    }
}

/// A transfer: entries that sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its id.
    pub id: Uuid,
    /// Why money moves.
    pub kind: TransferKind,
    /// For which job.
    pub job_id: Option<JobId>,
    /// By which receipt.
    pub receipt_id: Option<Name>,
    /// What it belongs to in the operator's books.
    pub reference: Option<String>,
    /// What each account gains or, negative, loses. No account twice.
    pub entries: Vec<(Account, Amount)>,
}

impl Transfer {
    /// Moves `amount` from one account to another.
    ///
    /// Returns `None` for an amount that has no opposite.
    pub fn between(
        id: Uuid,
        kind: TransferKind,
        from: Account,
        to: Account,
        amount: Amount,
    ) -> Option<Self> {
        let entries = vec![(from, amount.checked_neg()?), (to, amount)];
        Some(Self { id, kind, job_id: None, receipt_id: None, reference: None, entries })
    }

    /// For a job.
    #[must_use]
    pub fn for_job(mut self, job_id: JobId) -> Self {
        self.job_id = Some(job_id);
        self
    }

    /// Whether the entries sum to zero.
    pub fn is_balanced(&self) -> bool {
        self.entries.iter().map(|(_, amount)| i128::from(amount.nanos())).sum::<i128>() == 0
    }
}

/// What a finished job pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pay {
    /// What its receipt states.
    pub price: Amount,
    /// What the operator keeps of that.
    pub fee: Amount,
    /// What the operator adds to that; always issued.
    pub bonus: Amount,
}

impl Pay {
    /// What the wallet gets. `None` out of range.
    pub fn to_wallet(self) -> Option<Amount> {
        self.price.checked_sub(self.fee)?.checked_add(self.bonus)
    }
}

/// What pays a finished job.
///
/// `hold` is what was set aside of a prepaid client's funds; what is left of it goes back in the
/// same transfer. Without a hold the price is issued. `None` where the price exceeds the hold.
pub fn credit(
    id: Uuid,
    client: &Name,
    wallet: &Name,
    pay: Pay,
    hold: Option<Amount>,
) -> Option<Transfer> {
    let mut entries = vec![(Account::Wallet(wallet.clone()), pay.to_wallet()?)];
    let issued = match hold {
        None => pay.price.checked_add(pay.bonus)?,
        Some(hold) => {
            let rest = hold.checked_sub(pay.price).filter(|rest| !rest.is_negative())?;
            entries.push((Account::Hold(client.clone()), hold.checked_neg()?));
            entries.push((Account::Client(client.clone()), rest));
            pay.bonus
        }
    };
    if hold.is_none() || issued != Amount::ZERO {
        entries.push((Account::Issuance, issued.checked_neg()?));
    }
    if pay.fee != Amount::ZERO {
        entries.push((Account::Fee, pay.fee));
    }
    let kind = TransferKind::Credit;
    Some(Transfer { id, kind, job_id: None, receipt_id: None, reference: None, entries })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn credits_sum_to_zero(
            price in 0..=i64::MAX / 2,
            fee_bp in 0..=10_000_u16,
            bonus in 0..=i64::MAX / 4,
            hold in proptest::option::of(0..=i64::MAX / 2),
        ) {
            let (client, wallet) = ("c".parse().unwrap(), "w".parse().unwrap());
            let price = Amount::from_nanos(price);
            let pay = Pay { price, fee: price.share(fee_bp).unwrap(), bonus: Amount::from_nanos(bonus) };
            let hold = hold.map(Amount::from_nanos);
            match credit(Uuid::nil(), &client, &wallet, pay, hold) {
                Some(transfer) => {
                    prop_assert!(transfer.is_balanced());
                    prop_assert!(hold.is_none_or(|hold| price <= hold));
                    let to_wallet = transfer.entries[0].1;
                    prop_assert_eq!(to_wallet, pay.to_wallet().unwrap());
                    prop_assert!(!to_wallet.is_negative());
                }
                None => prop_assert!(hold.is_some_and(|hold| price > hold)),
            }
        }
    }
}
