//! The HTTP of the operator's numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use protocol::admin::{MinerCounts, Stats};
use protocol::control::{Capacities, Queue, Queues, Rate, Rates};
use protocol::job::SlotKind;
use protocol::{Name, Timestamp};

use super::shares::{Clients, quantile};
use super::store::{self, ClassCount, Start};
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::controls::InForce;
use crate::db::{DbError, Tx};
use crate::dispatch::{matching, why};
use crate::error::ApiError;
use crate::miners::Miner;
use crate::wire::Reply;

/// A day, in seconds.
const DAY_SECS: i64 = 24 * 3600;

/// An hour, in seconds.
const HOUR_SECS: i64 = 3600;

/// Over which times rates are counted, in seconds.
const WINDOWS: [u32; 3] = [60, 3600, 24 * 3600];

/// The most names of one kind that are listed.
const NAMES: usize = 200;

/// `GET /v1/admin/stats`.
///
/// # Errors
/// 403.
pub async fn stats(State(app): State<SharedApp>, caller: Caller) -> Result<Reply<Stats>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.read().await?;
    let live_jobs = store::live_counts(&mut tx).await?;
    let last_day = store::counts_since(&mut tx, now.plus_secs(-DAY_SECS)).await?;
    let (known, draining) = store::miners(&mut tx).await?;
    let issued = store::issued(&mut tx).await?;
    let found = clients(&mut tx, now).await?;
    let busiest = found.busiest();
    let mut weights = store::weights(&mut tx, busiest.iter()).await?;
    tx.commit().await?;
    let in_force = app.controls.in_force();
    weights.extend(busiest.iter().filter_map(|c| Some((c.clone(), in_force.weight_of(c)?))));
    let clients = found.shares(busiest, &weights);
    let online = app.presence.online(now).len() as u64;
    let miners = MinerCounts { known, online, draining };
    let stats = Stats { server_time: now, live_jobs, last_day, miners, issued, clients };
    Ok(Reply(StatusCode::OK, stats))
}

async fn clients(tx: &mut Tx, now: Timestamp) -> Result<Clients, DbError> {
    let since = now.plus_secs(-HOUR_SECS);
    Ok(Clients {
        live: store::live_by_client(tx).await?,
        starts: store::starts(tx, since).await?,
        spent: store::spent(tx, since).await?,
    })
}

/// `GET /v1/admin/queues`.
///
/// # Errors
/// 403.
pub async fn queues(
    State(app): State<SharedApp>,
    caller: Caller,
) -> Result<Reply<Queues>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.read().await?;
    let classes = store::classes(&mut tx).await?;
    tx.commit().await?;
    let online = app.presence.online(now);
    let in_force = app.controls.in_force();
    let items = classes.into_iter().map(|class| queue(class, &online, &in_force)).collect();
    Ok(Reply(StatusCode::OK, Queues { server_time: now, items }))
}

fn queue(class: ClassCount, online: &[Arc<Miner>], in_force: &InForce) -> Queue {
    let ClassCount { class_id, needs, queued, delayed, held, oldest } = class;
    let able = |needs| why::able(online, &needs, in_force);
    let able = serde_json::from_value(needs.clone()).map_or(0, able);
    let oldest = oldest.map(protocol::JobId::created_at);
    Queue { class_id, needs, queued, delayed, held, oldest, able }
}

/// `GET /v1/admin/rates`.
///
/// # Errors
/// 403.
pub async fn rates(State(app): State<SharedApp>, caller: Caller) -> Result<Reply<Rates>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.read().await?;
    let starts = store::starts(&mut tx, now.plus_secs(-DAY_SECS)).await?;
    let mut items = Vec::with_capacity(WINDOWS.len());
    for secs in WINDOWS {
        let since = now.plus_secs(-i64::from(secs));
        let through = store::throughput(&mut tx, since).await?;
        items.push(rate(secs, through, &starts, since));
    }
    tx.commit().await?;
    Ok(Reply(StatusCode::OK, Rates { server_time: now, items }))
}

fn rate(secs: u32, through: store::Throughput, starts: &[(Name, Start)], since: Timestamp) -> Rate {
    let lately = starts.iter().filter(|(_, start)| start.at >= since);
    let mut waits: Vec<u64> = lately.map(|(_, start)| start.waited_ms).collect();
    Rate {
        secs,
        submitted: through.submitted,
        ended: through.ended,
        failed_attempts: through.failed_attempts,
        credited: through.credited,
        wait_p50_ms: quantile(&mut waits, 50),
        wait_p99_ms: quantile(&mut waits, 99),
    }
}

/// `GET /v1/admin/capacities`.
///
/// # Errors
/// 403.
pub async fn capacities(
    State(app): State<SharedApp>,
    caller: Caller,
) -> Result<Reply<Capacities>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.read().await?;
    let live = store::live_counts(&mut tx).await?;
    tx.commit().await?;
    let online = app.presence.online(now);
    let slots = |kind: SlotKind| -> u64 {
        online.iter().map(|miner| u64::from(matching::slots(miner, kind))).sum()
    };
    let held = |state: &str| live.get(state).copied().unwrap_or(0);
    let offered = online.iter().map(|miner| &miner.capabilities);
    let capacities = Capacities {
        server_time: now,
        online: online.len() as u64,
        cpu_slots: slots(SlotKind::Cpu),
        gpu_slots: slots(SlotKind::Gpu),
        inflight: held("ASSIGNED") + held("RUNNING"),
        workloads: most(offered.clone().flat_map(|has| &has.workloads)),
        models: most(offered.clone().flat_map(|has| &has.models)),
        regions: most(offered.flat_map(|has| &has.region)),
    };
    Ok(Reply(StatusCode::OK, capacities))
}

/// How often each name comes, of those that come most.
fn most<'a>(names: impl Iterator<Item = &'a Name>) -> BTreeMap<Name, u64> {
    let mut counts: HashMap<&Name, u64> = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    counts.into_iter().take(NAMES).map(|(name, count)| (name.clone(), count)).collect()
}
