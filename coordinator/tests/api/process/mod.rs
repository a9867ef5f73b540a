//! The binary as its operator runs it: processes, signals, exit codes, files.

mod command_line;
mod lifecycle;
mod proxy;
mod service;
mod silence;

pub use service::{Home, Service, http};
