//! The program as its users run it: against a real coordinator over HTTP, and where that does not
//! (yet) serve something, or something has to go wrong, against a stub.
#![cfg(test)]

mod config;
mod documents;
mod jobs;
mod live;
mod market;
mod operator;
mod program;
mod receipts;
mod stub;
mod submit;
