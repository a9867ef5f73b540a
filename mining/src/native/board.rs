//! What is shown of the native engine: written by the driver, read by whoever asks.

use std::time::{Duration, Instant};

use crate::algorithm::Algorithm;
use crate::engine::{Connection, Hashrate, Phase, Shares};

/// How it stands.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) algorithm: Option<Algorithm>,
    /// As if something were allowed.
    pub(super) phase: Phase,
    pub(super) hashrate: Hashrate,
    pub(super) shares: Shares,
    pub(super) pool: Option<Pool>,
    pub(super) memory_bytes: u64,
    pub(super) datasets_built: u64,
    pub(super) dataset_took: Option<Duration>,
    /// Pages and the way of computing.
    pub(super) compute: String,
    /// `fast mode`, `light mode`, where there is more than one.
    pub(super) mode: &'static str,
}

/// A pool that is connected.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) url: String,
    pub(super) since: Instant,
    pub(super) difficulty: u64,
    pub(super) height: Option<u64>,
    pub(super) ping: Option<Duration>,
    pub(super) failures: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            algorithm: None,
            phase: Phase::Waiting { reason: "no pool has given work yet".to_owned() },
            hashrate: Hashrate::default(),
            shares: Shares::default(),
            pool: None,
            memory_bytes: 0,
            datasets_built: 0,
            dataset_took: None,
            compute: String::new(),
            mode: "",
        }
    }
}

impl Board {
    pub(super) fn connection(&self) -> Option<Connection> {
        let pool = self.pool.as_ref()?;
        Some(Connection {
            url: pool.url.clone(),
            uptime_secs: pool.since.elapsed().as_secs(),
            difficulty: pool.difficulty,
            height: pool.height,
            ping_ms: pool.ping.map(|ping| u64::try_from(ping.as_millis()).unwrap_or(u64::MAX)),
            failures: pool.failures,
        })
    }

    /// `pages thp 100 %, jit, 2 threads, fast mode`; empty before there is anything.
    pub(super) fn in_force(&self, threads: usize) -> String {
        if self.compute.is_empty() {
            return String::new();
        }
        let s = if threads == 1 { "" } else { "s" };
        let mode = if self.mode.is_empty() { "" } else { ", " };
        format!("{}, {threads} thread{s}{mode}{}", self.compute, self.mode)
    }
}
