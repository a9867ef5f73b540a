//! Stats: the state of the whole in numbers, for operators. Nothing is decided by them.

pub mod routes;
mod shares;
pub mod store;
pub mod totals;
