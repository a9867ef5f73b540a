//! What is said of a node, part by part: the same in a picture and in lines.

use std::fmt::Write as _;

use protocol::Timestamp;

use super::snapshot::{Engine, Gpu, Machine, Snapshot};

/// A part of what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) lines: Vec<String>,
}

/// All of it in lines, each with the name of its part in front.
pub(super) fn lines(now: &Snapshot, before: Option<&Snapshot>, at: Timestamp) -> String {
    let mut text = format!("{:<9} {}\n", "node", head(now, at));
    for Part { title, lines } in parts(now, before) {
        for line in lines {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{title:<9} {line}");
        }
    }
    text
}

/// Which node it is, and how it stands with the coordinator.
pub(super) fn head(now: &Snapshot, at: Timestamp) -> String {
    let of = &now.coordinator;
    let standing = match (of.registered, of.drained) {
        (false, _) => "not registered",
        (true, true) => "drained by the operator",
        (true, false) => "registered",
    };
    let heard = of.last_heartbeat.map_or("no heartbeat yet".to_owned(), |last| {
        format!("heartbeat {} ago", time(at.since(last).as_secs()))
    });
    let (up, url) = (time(now.uptime_secs), plain(&of.url));
    format!("{} {}, up {up}; {url}: {standing}, {heard}", plain(&now.node_id), plain(&now.version))
}

/// Everything else.
pub(super) fn parts(now: &Snapshot, before: Option<&Snapshot>) -> Vec<Part> {
    let machine = now.machine.as_ref();
    let earlier = before.and_then(|before| before.machine.as_ref());
    vec![
        Part { title: "slots", lines: slots(now) },
        Part { title: "jobs", lines: jobs(now) },
        Part { title: "mining", lines: mining(now) },
        Part { title: "earnings", lines: earnings(now) },
        Part { title: "machine", lines: machine.map_or_else(Vec::new, |now| looks(now, earlier)) },
    ]
}

fn slots(now: &Snapshot) -> Vec<String> {
    let work = &now.work;
    let (cpu, gpu, at_once) = work.slots;
    let mut lines = vec![format!(
        "{cpu} cpu, {gpu} gpu, {at_once} at once; {} free, {} running, {} waiting, {} reports to deliver",
        work.free, work.running, work.waiting, work.undelivered
    )];
    if let Some(decision) = &now.decision {
        let taken = if decision.takes_jobs() { "taken" } else { "not taken" };
        lines.push(format!("jobs are {taken}: {}", plain(&decision.jobs.why)));
    }
    lines.extend(work.obstacles.iter().map(|why| format!("but {}", plain(why))));
    lines
}

fn jobs(now: &Snapshot) -> Vec<String> {
    let line = |job: &super::snapshot::Job| {
        let (id, workload) = (plain(&job.id), plain(&job.workload));
        let (slot, phase) = (plain(&job.slot), plain(&job.phase).to_lowercase());
        format!("{id:<26} {workload:<16} {slot:<3} {phase:<10} {}", time(job.age_secs))
    };
    if now.work.jobs.is_empty() {
        return vec!["none".to_owned()];
    }
    now.work.jobs.iter().map(line).collect()
}

fn mining(now: &Snapshot) -> Vec<String> {
    let Some(engine) = &now.engine else { return vec!["nothing mines here".to_owned()] };
    let mut lines = vec![state(engine)];
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let of = &engine.hashrate;
    lines.push(format!(
        "{} / {} / {} H/s in 10 s / 60 s / 15 min, {} of {} threads",
        rate(of.ten_secs),
        rate(of.minute),
        rate(of.quarter_hour),
        engine.threads,
        engine.threads_most
    ));
    let mined = &now.totals.mined;
    lines.push(format!(
        "shares: {} accepted, {} rejected, {} stale, {} lost; {} hashes",
        mined.accepted, mined.rejected, mined.stale, mined.lost, mined.hashes
    ));
    if let Some(pool) = &engine.pool {
        lines.push(format!("pool {}, difficulty {}", plain(&pool.url), pool.difficulty));
    }
    if let Some(decision) = &now.decision {
        lines.push(format!("{}: {}", decision.cpu.rule.as_str(), plain(&decision.cpu.why)));
    }
    lines
}

fn state(engine: &Engine) -> String {
    let algorithm = engine.algorithm.as_deref().map_or(String::new(), |name| format!(" {name}"));
    let done = engine.done_permille.map_or(String::new(), |done| format!(" {} %", done / 10));
    let why = engine.reason.as_deref().map_or(String::new(), |why| format!(": {}", plain(why)));
    format!("{}{algorithm}, {}{done}{why}", plain(&engine.engine), plain(&engine.phase))
}

fn earnings(now: &Snapshot) -> Vec<String> {
    use crate::tally::Outcome;
    let totals = &now.totals;
    let count = |outcome| totals.jobs.get(&outcome).copied().unwrap_or(0);
    let mut first = format!("{} AITBC in all", totals.earned);
    if let Some(rate) = now.facts.jobs_pay_per_h {
        let _ = write!(first, ", lately {rate:.4} an hour with all slots at work");
    }
    if let Some(balance) = now.coordinator.balance {
        let _ = write!(first, "; the wallet holds {balance}");
    }
    let hours = (totals.cpu_us + totals.gpu_us) as f64 / 3.6e9;
    let mut lines = vec![
        first,
        format!(
            "jobs: {} completed, {} failed, {} lost; {hours:.2} hours of work",
            count(Outcome::Completed),
            count(Outcome::Failed),
            count(Outcome::Lost)
        ),
    ];
    let quantile = |percent| totals.durations.quantile(percent);
    if let (Some(half), Some(most), Some(nearly)) = (quantile(50), quantile(95), quantile(99)) {
        lines.push(format!("of 100 jobs 50 take at most {half} s, 95 {most} s, 99 {nearly} s"));
    }
    lines
}

fn looks(now: &Machine, before: Option<&Machine>) -> Vec<String> {
    let percent =
        |part: Option<f64>| part.map_or("-".to_owned(), |part| format!("{:.0} %", part * 100.0));
    let (free, size) = now.disk_mb;
    let mut lines = vec![format!(
        "processors {} busy, load {:.2}; memory {} of {} in use; disk {} of {} free",
        percent(now.busy(before)),
        now.cpu_load,
        percent(now.memory_used()),
        size_of(now.memory.total_mb),
        size_of(free),
        size_of(size)
    )];
    lines.extend(now.gpus.iter().map(gpu));
    lines
}

fn gpu(gpu: &Gpu) -> String {
    let mut text = format!("GPU {} {}", gpu.index, plain(&gpu.name));
    if let Some(busy) = gpu.utilization_pct {
        let _ = write!(text, ", {busy} % busy");
    }
    if let Some(free) = gpu.vram_free_mb {
        let (free, all) = (size_of(free.into()), size_of(gpu.vram_total_mb.into()));
        let _ = write!(text, ", {free} of {all} free");
    }
    if let Some(hot) = gpu.temperature_c {
        let _ = write!(text, ", {hot} C");
    }
    text
}

/// Mebibytes as people read them.
fn size_of(mebibytes: u64) -> String {
    if mebibytes < 10 << 10 {
        format!("{mebibytes} MiB")
    } else {
        format!("{} GiB", mebibytes >> 10)
    }
}

/// Seconds as people read them.
pub(super) fn time(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// Without what would move a terminal's cursor: some of it are a pool's own words.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
