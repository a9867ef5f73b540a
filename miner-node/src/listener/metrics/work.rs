//! Jobs, and how the node stands with the coordinator.

use std::collections::BTreeMap;

use protocol::Amount;

use super::page::{Page, quoted, yes};
use crate::listener::{Coordination, View, Work};
use crate::tally::{BOUNDS, Counts, Durations, Outcome, Requests};

pub(super) fn write(page: &mut Page, view: &View) {
    page.family("aitbc_node_info", "gauge", "Which node in which version this is");
    let labels = format!("{{node_id=\"{}\",version=\"{}\"}}", quoted(&view.node_id), view.version);
    page.line("aitbc_node_info", &labels, 1.0);
    now(page, &view.work);
    contact(page, &view.coordinator);
    totals(page, &view.totals);
}

fn now(page: &mut Page, work: &Work) {
    page.gauge("aitbc_node_jobs_held", "Jobs that the node holds", work.held as f64);
    page.gauge("aitbc_node_jobs_running", "Programs of jobs that run", work.running.into());
    page.gauge("aitbc_node_queue_length", "Jobs that wait for a slot", work.waiting.into());
    page.gauge("aitbc_node_slots_free", "Jobs that it could take besides", work.free.into());
    let (cpu, gpu, _) = work.slots;
    page.by(
        ("aitbc_node_slots", "gauge", "Room for jobs, by kind"),
        "kind",
        [("cpu".to_owned(), cpu.into()), ("gpu".to_owned(), gpu.into())],
    );
    page.gauge(
        "aitbc_node_reports_undelivered",
        "Reports that the coordinator has not answered",
        work.undelivered as f64,
    );
}

fn contact(page: &mut Page, coordinator: &Coordination) {
    page.gauge(
        "aitbc_node_registered",
        "1 while the coordinator knows the node",
        yes(coordinator.registered),
    );
    page.gauge(
        "aitbc_node_drained",
        "1 while the operator wants no more jobs taken here",
        yes(coordinator.drained),
    );
    if let Some(at) = coordinator.last_heartbeat {
        page.gauge(
            "aitbc_node_last_heartbeat_timestamp_seconds",
            "When a heartbeat was answered last",
            at.micros() as f64 / 1e6,
        );
    }
}

/// Over all lives of the node.
fn totals(page: &mut Page, counts: &Counts) {
    page.counter("aitbc_node_starts_total", "How often the node was started", counts.starts as f64);
    page.counter(
        "aitbc_node_uptime_seconds_total",
        "For how long the node has run",
        counts.uptime_ms as f64 / 1e3,
    );
    page.by(
        ("aitbc_node_jobs_total", "counter", "Jobs that have ended here, by how"),
        "outcome",
        Outcome::ALL.map(|outcome| {
            let count = counts.jobs.get(&outcome).copied().unwrap_or(0);
            (outcome.as_str().to_owned(), count as f64)
        }),
    );
    page.by(
        ("aitbc_node_compute_seconds_total", "counter", "Time that programs ran, by kind of slot"),
        "kind",
        [
            ("cpu".to_owned(), counts.cpu_us as f64 / 1e6),
            ("gpu".to_owned(), counts.gpu_us as f64 / 1e6),
        ],
    );
    page.counter(
        "aitbc_node_earned_total",
        "What the wallet got for jobs, in AITBC",
        amount(counts.earned),
    );
    page.counter(
        "aitbc_node_heartbeats_failed_total",
        "Heartbeats without an answer",
        counts.heartbeats_failed as f64,
    );
    durations(page, &counts.durations);
    models(page, &counts.models);
}

/// What inference servers did: requests, how long an answer takes, tokens, and how many came to nothing.
fn models(page: &mut Page, models: &BTreeMap<String, Requests>) {
    if models.is_empty() {
        return;
    }
    let name = "aitbc_node_model_requests_total";
    page.family(name, "counter", "Requests to inference servers, by model and outcome");
    for (model, requests) in models {
        let outcomes = [
            ("answered", requests.answered),
            ("refused", requests.refused),
            ("failed", requests.failed),
        ];
        for (outcome, count) in outcomes {
            let labels = format!("{{model=\"{}\",outcome=\"{outcome}\"}}", quoted(model));
            page.line(name, &labels, count as f64);
        }
    }
    let by_model = |part: fn(&Requests) -> f64| {
        models.iter().map(move |(model, requests)| (model.clone(), part(requests)))
    };
    page.by(
        ("aitbc_node_model_answer_seconds_total", "counter", "How long answered requests took"),
        "model",
        by_model(|requests| requests.answered_us as f64 / 1e6),
    );
    page.by(
        ("aitbc_node_model_tokens_total", "counter", "Tokens that were generated"),
        "model",
        by_model(|requests| requests.tokens as f64),
    );
}

fn durations(page: &mut Page, durations: &Durations) {
    let name = "aitbc_node_job_seconds";
    page.family(name, "histogram", "How long programs of jobs ran");
    let mut below = 0;
    for (count, bound) in durations.buckets.iter().zip(BOUNDS) {
        below += count;
        page.line(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), below as f64);
    }
    let count = durations.count() as f64;
    page.line(&format!("{name}_bucket"), "{le=\"+Inf\"}", count);
    page.line(&format!("{name}_sum"), "", durations.sum_us as f64 / 1e6);
    page.line(&format!("{name}_count"), "", count);
}

/// For curves: nobody is paid by it.
fn amount(amount: Amount) -> f64 {
    amount.to_string().parse().unwrap_or(0.0)
}
