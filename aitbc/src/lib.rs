//! The command line of the compute market, for clients and operators. It knows the wire
//! (`protocol`) and nothing else of the service.
//!
//! `cli` is what can be typed, `commands` what it does, `coordinator` the HTTP, `profile` where the
//! coordinator and the key come from, `output` what is printed, `fleet` a simulation to size a
//! coordinator's machine with, `ending` which exit code answers.

pub mod chance;
pub mod cli;
pub mod commands;
pub mod coordinator;
pub mod ending;
pub mod fleet;
pub mod moment;
pub mod output;
pub mod profile;
pub mod session;
