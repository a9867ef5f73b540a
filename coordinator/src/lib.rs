//! The coordinator of the AITBC compute market: jobs, leases, receipts and credits.
//!
//! The rooms (`accounts`, `miners`, `jobs`, ...) do not know each other. Three corridors join them:
//! [`intake`] takes jobs in, [`dispatch`] hands them out, [`settlement`] pays them.

#![deny(clippy::float_arithmetic)]

pub mod accounts;
pub mod app;
pub mod artifacts;
pub mod attestor;
pub mod audit;
pub mod auth;
pub mod batch;
pub mod cli;
pub mod config;
pub mod controls;
pub mod db;
pub mod dispatch;
pub mod edge;
pub mod error;
pub mod events;
pub mod gate;
pub mod health;
pub mod intake;
pub mod jobs;
pub mod ledger;
pub mod miners;
mod nearest;
pub mod openapi;
pub mod receipts;
pub mod replicas;
pub mod retention;
pub mod router;
pub mod serve;
pub mod service;
pub mod settlement;
pub mod stats;
pub mod sweeper;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod wire;
