//! The program as its users run it: against a real coordinator over HTTP, and against a stub for
//! what a sound one never does.
#![cfg(test)]

mod broken;
mod config;
mod documents;
mod fleet;
mod jobs;
mod live;
mod market;
mod operator;
mod program;
mod receipts;
mod stub;
mod submit;
