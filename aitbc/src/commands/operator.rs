//! What an operator looks at: audit log, queues, rates, capacities, stats.

use std::time::Duration;

use clap::Args;
use protocol::admin::Stats;
use protocol::control::{AuditLine, Capacities, Queues, Rates};

use super::{counts, or_dash};
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::moment;
use crate::session::{Paging, Session};

/// Lists what was decided, and by whom.
#[derive(Debug, Args)]
pub struct Audit {
    /// Of this kind only: controls.put, key.create, wallet.deposit, ..
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl Audit {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let heads = ["NUMBER", "WHEN", "WHO", "WHAT", "TO", "MORE"];
        let row = |line: AuditLine| {
            let more = if line.data.is_null() { "-".to_owned() } else { line.data.to_string() };
            let (id, at) = (line.id.to_string(), line.at.to_string());
            [id, at, line.actor, line.action, line.subject, more]
        };
        session.list(calls::audit(self.action.as_deref()), &self.paging, heads, row).await
    }
}

/// Shows what waits, by what it needs.
///
/// # Errors
/// See [`Failure`].
pub async fn queues(session: &Session) -> Result<Ending, Failure> {
    let show = session.show(calls::queues(), |output, queues: Queues| {
        let now = queues.server_time;
        let rows = queues.items.into_iter().map(|queue| {
            [
                queue.class_id.to_string(),
                queue.queued.to_string(),
                queue.delayed.to_string(),
                queue.held.to_string(),
                queue.able.to_string(),
                or_dash(queue.oldest.map(|oldest| moment::spoken(now.since(oldest)))),
                queue.needs.to_string(),
            ]
        });
        output.table(["CLASS", "QUEUED", "DELAYED", "HELD", "ABLE", "WAITS", "NEEDS"], rows)
    });
    show.await
}

/// Shows what went through lately.
///
/// # Errors
/// See [`Failure`].
pub async fn rates(session: &Session) -> Result<Ending, Failure> {
    let show = session.show(calls::rates(), |output, rates: Rates| {
        let rows = rates.items.into_iter().map(|rate| {
            [
                moment::spoken(Duration::from_secs(rate.secs.into())),
                rate.submitted.to_string(),
                counts(&rate.ended),
                rate.failed_attempts.to_string(),
                rate.credited.to_string(),
                milliseconds(rate.wait_p50_ms),
                milliseconds(rate.wait_p99_ms),
            ]
        });
        let heads = ["LAST", "SUBMITTED", "ENDED", "FAILED TRIES", "CREDITED", "WAIT", "WAIT P99"];
        output.table(heads, rows)
    });
    show.await
}

/// Shows what the miners offer together.
///
/// # Errors
/// See [`Failure`].
pub async fn capacities(session: &Session) -> Result<Ending, Failure> {
    let show = session.show(calls::capacities(), |output, all: Capacities| {
        output.fields(&[
            ("miners online", all.online.to_string()),
            ("cpu slots", all.cpu_slots.to_string()),
            ("gpu slots", all.gpu_slots.to_string()),
            ("jobs at work", all.inflight.to_string()),
            ("workloads", counts(&all.workloads)),
            ("models", counts(&all.models)),
            ("regions", counts(&all.regions)),
        ])
    });
    show.await
}

/// Shows the state of the whole coordinator.
///
/// # Errors
/// See [`Failure`].
pub async fn stats(session: &Session) -> Result<Ending, Failure> {
    let show = session.show(calls::stats(), |output, stats: Stats| {
        let miners = stats.miners;
        output.fields(&[
            ("server_time", stats.server_time.to_string()),
            ("live jobs", counts(&stats.live_jobs)),
            ("ended in a day", counts(&stats.last_day)),
            ("miners known", miners.known.to_string()),
            ("miners online", miners.online.to_string()),
            ("miners draining", miners.draining.to_string()),
            ("issued", stats.issued.to_string()),
        ])?;
        if stats.clients.is_empty() {
            return Ok(());
        }
        let rows = stats.clients.into_iter().map(|share| {
            [
                share.client.to_string(),
                share.weight.to_string(),
                share.queued.to_string(),
                share.held.to_string(),
                share.started.to_string(),
                milliseconds(share.wait_p50_ms),
                share.spent.to_string(),
            ]
        });
        output.table(["CLIENT", "WEIGHT", "QUEUED", "HELD", "STARTED", "WAIT", "SPENT"], rows)
    });
    show.await
}

fn milliseconds(value: Option<u64>) -> String {
    or_dash(value.map(|value| format!("{value} ms")))
}
