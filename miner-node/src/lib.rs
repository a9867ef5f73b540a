//! The node of the AITBC compute market: it polls a coordinator for jobs, runs them in a sandbox,
//! proves them and earns. This file only names the rooms.

pub mod attempt;
pub mod audit;
pub mod capabilities;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod coordinator;
pub mod doctor;
pub mod egress;
pub mod energy;
pub mod engines;
pub mod facts;
pub mod identity;
pub mod inputs;
pub mod leases;
pub mod listener;
pub mod loops;
pub mod metrics;
pub mod node;
pub mod outbox;
pub mod output;
pub mod private;
pub mod progress;
pub mod receipts;
pub mod recovery;
pub mod runners;
pub mod sandbox;
pub mod servers;
pub mod sharing;
pub mod slots;
pub mod systemd;
pub mod telemetry;
pub mod workdir;
