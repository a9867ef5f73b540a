//! Hashes against the vectors of the reference implementation, threads that hash, and pools.

#![cfg(test)]

mod batches;
mod client;
mod connection;
mod daemon;
mod failover;
mod lanes;
mod mined;
mod monerod;
mod native;
mod stratum;
mod test_pool;
mod tls;
mod traces;
mod vectors;
mod xmrig;
mod xmrig_api;
