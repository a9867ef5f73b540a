//! Receipts, as they are shown. They are written in `settlement`, and never changed.

pub mod routes;
pub mod store;
