//! What the coordinator says about itself: its log and its metrics.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use protocol::JobState;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{LogFormat, LogLevel, Logging};
use crate::stats::totals::Through;

/// Upper bounds of the buckets of every `_seconds` histogram.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the buckets of every `_rows` histogram.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Upper bounds of the buckets of the `_seconds` histograms of jobs, which take longer than requests.
const JOB_SECONDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0];

/// How often what histograms gathered is folded, so that it does not pile up where nobody asks.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Sends the log to standard error. A second call changes nothing.
pub fn log_to_stderr(logging: &Logging) {
    let level = match logging.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries at debug log every packet and statement: theirs is never wanted below a warning.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("coordinator", level)
        .with_target("mock_coordinator", level);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match logging.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
}

/// The metrics of this process, recorded from the first call on.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let rows = Matcher::Suffix("_rows".to_owned());
        let of_jobs = Matcher::Prefix("aitbc_job_".to_owned());
        let builder = PrometheusBuilder::new();
        // An error means an empty list of buckets, and these are not.
        let builder = builder
            .set_buckets_for_metric(seconds, SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(rows, ROWS))
            .and_then(|builder| builder.set_buckets_for_metric(of_jobs, JOB_SECONDS))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("metrics are recorded elsewhere: /metrics stays empty");
        }
        describe();
        handle
    })
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("aitbc_http_requests_total", "Requests, by method, route and status");
    describe_histogram!("aitbc_http_request_seconds", "Time to reply, by method and route");
    describe_histogram!("aitbc_batch_rows", "Rows that shared a transaction, by corridor");
    describe_histogram!("aitbc_batch_seconds", "Time of a batch to its commit, by corridor");
    describe_counter!("aitbc_leases_lapsed_total", "Leases that were not renewed in time");
    describe_counter!("aitbc_jobs_expired_total", "Jobs that nobody took in time");
    // There from the start on: else the first one of each would be no increase.
    metrics::counter!("aitbc_leases_lapsed_total").increment(0);
    metrics::counter!("aitbc_jobs_expired_total").increment(0);
    describe_gauge!("aitbc_http_requests_at_work", "Requests without reply yet, long-polls too");
    describe_gauge!("aitbc_jobs_live", "Jobs that have not ended, by state");
    describe_gauge!("aitbc_miners_online", "Miners that this replica heard of lately");
    describe_histogram!("aitbc_job_wait_seconds", "From submission to the lease that was paid");
    describe_histogram!("aitbc_job_run_seconds", "From that lease to the proof that was accepted");
    describe_counter!("aitbc_jobs_submitted_total", "Jobs submitted, at all replicas since ever");
    describe_counter!("aitbc_jobs_ended_total", "Jobs ended, by how, at all replicas since ever");
    describe_counter!(
        "aitbc_credited_nano_total",
        "What receipts stated, in 10^-9 AITBC, at all replicas since ever"
    );
    describe_counter!("aitbc_outputs_cleared_total", "Jobs whose results were deleted by age");
    describe_counter!("aitbc_inputs_cleared_total", "Inputs that were deleted by age");
    describe_gauge!("aitbc_ready", "1 while this replica can take requests");
}

/// Notes whether this replica can take requests.
pub fn ready(ready: bool) {
    metrics::gauge!("aitbc_ready").set(f64::from(u8::from(ready)));
}

/// Notes how many live jobs are in each state.
pub fn live_jobs(counts: &BTreeMap<String, u64>) {
    for state in JobState::ALL.iter().filter(|state| !state.is_terminal()) {
        let count = counts.get(state.as_str()).copied().unwrap_or(0);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("aitbc_jobs_live", "state" => state.as_str()).set(f64::from(count));
    }
}

/// Notes what went through since ever.
pub fn totals(through: &Through) {
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    metrics::counter!("aitbc_jobs_submitted_total").absolute(count(through.submitted));
    for (outcome, ended) in [
        (JobState::Completed, through.completed),
        (JobState::Failed, through.failed),
        (JobState::Canceled, through.canceled),
        (JobState::Expired, through.expired),
    ] {
        let counter = metrics::counter!("aitbc_jobs_ended_total", "outcome" => outcome.as_str());
        counter.absolute(count(ended));
    }
    let nanos = count(through.credited.nanos());
    metrics::counter!("aitbc_credited_nano_total").absolute(nanos);
}

/// Notes how long a job waited, and how long it took.
pub fn job_done(waited: Duration, ran: Duration) {
    metrics::histogram!("aitbc_job_wait_seconds").record(waited.as_secs_f64());
    metrics::histogram!("aitbc_job_run_seconds").record(ran.as_secs_f64());
}

/// Notes how many miners were heard of lately.
pub fn miners_online(count: usize) {
    metrics::gauge!("aitbc_miners_online").set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}
