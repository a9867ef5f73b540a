//! The node in Prometheus' text format. Everything is read when it is asked for: nothing is counted
//! twice, and nothing grows where nobody asks.

use std::fmt::Write as _;

use mining::policy::Memory;

use super::view::View;

/// All metrics, with their meaning.
pub(super) fn text(view: &View) -> String {
    let mut page = Page(String::new());
    let sharing = &view.sharing;
    page.one("aitbc_node_jobs_held", "gauge", "Jobs that the node holds", view.work.held as f64);
    page.one(
        "aitbc_node_slots_free",
        "gauge",
        "Jobs that it could take besides",
        view.work.free.into(),
    );
    page.one(
        "aitbc_node_jobs_waiting",
        "gauge",
        "Jobs that wait for a slot",
        view.work.waiting.into(),
    );
    if let Some(slots) = sharing.effective_task_slots {
        page.one(
            "aitbc_node_effective_task_slots",
            "gauge",
            "Jobs at once, as their durations have it",
            slots.into(),
        );
    }
    if let Some(load) = sharing.facts.others_load {
        page.one(
            "aitbc_node_others_load",
            "gauge",
            "Processors that neither mining nor jobs keep busy",
            load,
        );
    }
    if let Some(decision) = &sharing.decision {
        let takes = f64::from(u8::from(decision.takes_jobs()));
        page.one(
            "aitbc_node_takes_jobs",
            "gauge",
            "1 while the owner's rules let jobs be taken",
            takes,
        );
        let device = |rule: &str, device: &str| format!("{{device=\"{device}\",rule=\"{rule}\"}}");
        page.family("aitbc_node_rule", "gauge", "The rule that decides, by device");
        page.line("aitbc_node_rule", &device(decision.cpu.rule.as_str(), "cpu"), 1.0);
        page.line("aitbc_node_rule", &device(decision.gpu.rule.as_str(), "gpu"), 1.0);
        page.one(
            "aitbc_mining_threads_allowed",
            "gauge",
            "Threads that may mine",
            decision.threads as f64,
        );
        let given = f64::from(u8::from(decision.memory == Memory::GiveBack));
        page.one(
            "aitbc_mining_memory_given_back",
            "gauge",
            "1 while the dataset's memory belongs to others",
            given,
        );
        page.one(
            "aitbc_mining_gpu_intensity_ratio",
            "gauge",
            "Intensity that a GPU miner may have",
            decision.gpu_intensity() as f64 / 100.0,
        );
    }
    page.one(
        "aitbc_mining_preemptions_total",
        "counter",
        "Jobs that arrived while something was mined",
        sharing.preemptions as f64,
    );
    let seconds = sharing.parking_ms.0 * sharing.preemptions as f64 / 1000.0;
    page.one(
        "aitbc_mining_parking_seconds_total",
        "counter",
        "Time until mining threads had let go for them",
        seconds,
    );
    page.one(
        "aitbc_mining_parking_seconds_max",
        "gauge",
        "The longest of these times",
        sharing.parking_ms.1 / 1000.0,
    );
    if let Some(engine) = &sharing.engine {
        mining(&mut page, engine);
    }
    page.0
}

fn mining(page: &mut Page, engine: &mining::engine::Status) {
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
    page.one(
        "aitbc_mining_hashes_total",
        "counter",
        "Hashes since the start",
        engine.hashes as f64,
    );
    let shares = &engine.shares;
    page.family(
        "aitbc_mining_shares_total",
        "counter",
        "Shares that were found, by what became of them",
    );
    for (verdict, count) in [
        ("accepted", shares.accepted),
        ("rejected", shares.rejected),
        ("stale", shares.stale),
        ("lost", shares.lost),
    ] {
        page.line("aitbc_mining_shares_total", &format!("{{verdict=\"{verdict}\"}}"), count as f64);
    }
    page.one("aitbc_mining_threads", "gauge", "Threads that mine", engine.threads as f64);
    page.one(
        "aitbc_mining_memory_bytes",
        "gauge",
        "Memory that mining holds",
        engine.memory_bytes as f64,
    );
    page.one(
        "aitbc_mining_datasets_total",
        "counter",
        "Datasets that were built",
        engine.datasets_built as f64,
    );
    if let Some(took) = engine.dataset_took {
        page.one(
            "aitbc_mining_dataset_seconds",
            "gauge",
            "Time that the last one took",
            took.as_secs_f64(),
        );
    }
    let labels =
        format!("{{engine=\"{}\",in_force=\"{}\"}}", engine.engine, quoted(&engine.in_force));
    page.family("aitbc_mining_info", "gauge", "What is in force: pages, mode, threads");
    page.line("aitbc_mining_info", &labels, 1.0);
    if let Some(pool) = &engine.pool {
        page.one(
            "aitbc_mining_pool_difficulty",
            "gauge",
            "Difficulty of the pool's shares",
            pool.difficulty as f64,
        );
        page.one(
            "aitbc_mining_pool_uptime_seconds",
            "gauge",
            "How long the pool has been connected",
            pool.uptime_secs as f64,
        );
        page.one(
            "aitbc_mining_pool_failures_total",
            "counter",
            "Connections to pools that ended",
            pool.failures as f64,
        );
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.line(name, "", value);
    }
}

/// As the value of a label is written.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
