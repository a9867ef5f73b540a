//! The audit of the books: everything is recomputed from what is stored. Not the audit log, which is
//! a room of its own.

pub mod store;
