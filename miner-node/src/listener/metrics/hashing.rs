//! Mining: the engine now, and what was mined in all lives of the node.

use mining::engine::Status;

use super::page::{Page, quoted};
use crate::tally::Mined;

pub(super) fn write(page: &mut Page, engine: &Status, mined: &Mined) {
    let rates = [
        ("10s", engine.hashrate.ten_secs),
        ("60s", engine.hashrate.minute),
        ("15m", engine.hashrate.quarter_hour),
    ];
    page.family("aitbc_mining_hashrate", "gauge", "Hashes a second, by window");
    for (window, rate) in rates {
        if let Some(rate) = rate {
            page.line("aitbc_mining_hashrate", &format!("{{window=\"{window}\"}}"), rate);
        }
    }
    page.counter("aitbc_mining_hashes_total", "Hashes", mined.hashes as f64);
    page.by(
        ("aitbc_mining_shares_total", "counter", "Shares that were found, by what became of them"),
        "verdict",
        [
            ("accepted", mined.accepted),
            ("rejected", mined.rejected),
            ("stale", mined.stale),
            ("lost", mined.lost),
        ]
        .map(|(verdict, count)| (verdict.to_owned(), count as f64)),
    );
    page.gauge("aitbc_mining_threads", "Threads that mine", engine.threads as f64);
    page.gauge("aitbc_mining_memory_bytes", "Memory that mining holds", engine.memory_bytes as f64);
    page.counter("aitbc_mining_datasets_total", "Datasets that were built", mined.datasets as f64);
    if let Some(took) = engine.dataset_took {
        let help = "Time that the last one took";
        page.gauge("aitbc_mining_dataset_seconds", help, took.as_secs_f64());
    }
    let labels =
        format!("{{engine=\"{}\",in_force=\"{}\"}}", engine.engine, quoted(&engine.in_force));
    page.family("aitbc_mining_info", "gauge", "What is in force: pages, mode, threads");
    page.line("aitbc_mining_info", &labels, 1.0);
    page.counter(
        "aitbc_mining_pool_failures_total",
        "Connections to pools that ended",
        mined.pool_failures as f64,
    );
    if let Some(pool) = &engine.pool {
        let help = "Difficulty of the pool's shares";
        page.gauge("aitbc_mining_pool_difficulty", help, pool.difficulty as f64);
        let help = "How long the pool has been connected";
        page.gauge("aitbc_mining_pool_uptime_seconds", help, pool.uptime_secs as f64);
    }
}
