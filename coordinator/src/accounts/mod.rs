//! Accounts: keys, who calls with them, how often, and which calls were made before. Rules only;
//! the SQL is in `store`, the HTTP in `routes`.

pub mod caller;
pub mod idempotency;
pub mod keys;
pub mod known;
pub mod once;
pub mod rate;
pub mod routes;
pub mod store;

pub use caller::{Binding, Caller};
pub use idempotency::{Answer, IdempotencyKey, StoredReply};
pub use keys::{Minted, Presented};

/// How a client pays for its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Funding {
    /// Credits are issued when work is proven.
    #[default]
    Issuance,
    /// Out of deposits: the most that a job can cost is held when it is submitted.
    Prepaid,
}

impl Funding {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuance => "issuance",
            Self::Prepaid => "prepaid",
        }
    }
}

/// How a new client stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How it pays.
    pub funding: Funding,
    /// Its share of the queue, 1 to 1000.
    pub weight: u16,
}

impl Default for Terms {
    fn default() -> Self {
        Self { funding: Funding::default(), weight: 1 }
    }
}
