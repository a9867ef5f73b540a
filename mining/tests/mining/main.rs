//! Hashes against the vectors of the reference implementation, and threads that hash.

#![cfg(test)]

mod batches;
mod lanes;
mod traces;
mod vectors;
