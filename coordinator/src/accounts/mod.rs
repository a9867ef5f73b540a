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
