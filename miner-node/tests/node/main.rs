//! The node as a program, and at work for the mock coordinator: real HTTP, real processes, real
//! bubblewrap.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod container;
mod contract;
mod crash;
mod dashboards;
mod delivery;
mod desks;
mod doctor;
mod egress;
mod endings;
mod gpu;
mod jobs;
mod llm;
mod machine;
mod mining;
mod model_server;
mod owner;
mod python;
mod readme;
mod rig;
mod sd;
mod secrecy;
mod shutdown;
mod sins;
mod space;
mod top;
mod wasm;
mod xmrig;
