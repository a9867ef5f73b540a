//! The coordinator over HTTP: real router, real databases, time that tests move by hand.
//!
//! Every test runs on both engines. PostgreSQL comes from `TEST_POSTGRES_URL`, the URL of a server
//! on which a test may create a database of its own, an S3 from `TEST_S3_URL`, where a test makes a
//! bucket of its own; `scripts/test` starts both and sets them.
#![cfg(test)]

mod support;

mod admin;
mod artifacts;
mod audit;
mod books;
mod controls;
mod edge;
mod errors;
mod events;
mod exactly_once;
mod fairness;
mod history;
mod idempotency;
mod jobs;
mod keys;
mod migrations;
mod miners;
mod model;
mod money;
mod openapi;
mod path;
mod pay;
mod payouts;
mod plans;
mod process;
mod queue;
mod readme;
mod replicas;
mod reputation;
mod retention;
mod stored_replies;
mod stores;
mod totals;
mod wallet;
mod why;
