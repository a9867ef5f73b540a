//! Registration and signs of life: independent of jobs, and what renews their leases.

use std::sync::Arc;
use std::time::Duration;

use protocol::miner::{Heartbeat, HeartbeatReply, MinerStatus};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::coordinator::{Backoff, CallError, Remedy, jittered};
use crate::leases::StopReason;
use crate::node::Node;

/// Longest pause while a job is held: a third of a lease.
const LEASE_PACE: Duration = Duration::from_secs(10);

/// The coordinator's own interval: what it asks beyond that is meant, for the fleet's sake.
const USUAL_INTERVAL_SECS: u32 = 20;

/// Pause after a refusal that only the owner can put right.
const OWNER_PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked whether the machine has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);

/// Beats until `end`.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    let backoff = &node.config.heartbeat.backoff;
    let seconds = |secs: u32| Duration::from_secs(secs.into());
    let mut backoff = Backoff::new(seconds(backoff.min_s), seconds(backoff.max_s));
    let mut due = Instant::now();
    let mut look = Instant::now() + LOOK_INTERVAL;
    loop {
        tokio::select! {
            () = sleep_until(due) => {
                let pause = tokio::select! {
                    pause = tick(&node, &mut backoff) => pause,
                    () = end.cancelled() => return,
                };
                due = Instant::now() + pause;
                if Instant::now() >= look {
                    look = Instant::now() + LOOK_INTERVAL;
                    node.look_again().await;
                }
            }
            () = node.heartbeat_wake.notified() => due = due.min(Instant::now() + urgency(&node)),
            () = end.cancelled() => return,
        }
    }
}

/// How soon a woken heartbeat has to be sent.
fn urgency(node: &Node) -> Duration {
    // A job just taken has a lease of its own; everything else is news that should not wait.
    let news = node.is_draining() || !node.standing.borrow().registered;
    if news { Duration::ZERO } else { LEASE_PACE }
}

/// Registers if that is due, sends one heartbeat, does as the reply says. Returns the pause.
pub async fn tick(node: &Arc<Node>, backoff: &mut Backoff) -> Duration {
    match beat(node).await {
        Ok(reply) => {
            if backoff.reset() {
                // The coordinator is back: what could not be delivered need not wait any longer.
                node.outbox.hurry();
            }
            let pause = pause(node, reply.heartbeat_secs);
            jittered(pause, node.config.heartbeat.jitter_pct, node.random_u32())
        }
        Err(error) => {
            node.tally.unheard();
            let least = match error.remedy() {
                Remedy::Owner => {
                    node.complain(&error);
                    Some(OWNER_PAUSE)
                }
                Remedy::Register => {
                    node.standing.send_modify(|standing| standing.registered = false);
                    None
                }
                Remedy::Retry(least) => least,
                Remedy::Drop | Remedy::Lower(_) | Remedy::GiveUp => None,
            };
            let mut pause = backoff.pause(least, node.random_u32());
            if least.is_none() && node.leases.count() > 0 {
                pause = pause.min(LEASE_PACE);
            }
            warn!(
                event = "heartbeat_failed",
                "heartbeat failed, again in {:.1} s: {error}",
                pause.as_secs_f64()
            );
            pause
        }
    }
}

async fn beat(node: &Arc<Node>) -> Result<HeartbeatReply, CallError> {
    if !node.standing.borrow().registered {
        register(node).await?;
    }
    let heartbeat = heartbeat(node).await;
    let reply = node.coordinator.heartbeat(&heartbeat).await?;
    node.heed_clock(reply.server_time);
    node.tally.heard(node.now());
    node.leases.stop(&reply.cancel_jobs, &heartbeat.active_jobs, StopReason::Canceled);
    node.standing.send_if_modified(|standing| {
        let changed = standing.drained != reply.drain;
        standing.drained = reply.drain;
        changed
    });
    Ok(reply)
}

async fn register(node: &Node) -> Result<(), CallError> {
    let registered = node.coordinator.register(&node.capabilities()).await?;
    node.heed_clock(registered.server_time);
    node.standing.send_modify(|standing| standing.registered = true);
    info!(
        event = "registered", status = %registered.status,
        "registered as {} ({})", registered.miner_id, registered.status
    );
    Ok(())
}

async fn heartbeat(node: &Node) -> Heartbeat {
    let capabilities = node.capabilities();
    let no_space = node.lack_of_space();
    let not_taking = node.sharing.not_taking();
    let status = match node.slots.free() {
        _ if node.is_draining() => MinerStatus::Draining,
        0 => MinerStatus::Busy,
        _ if no_space.is_some() || not_taking.is_some() => MinerStatus::Busy,
        _ => MinerStatus::Online,
    };
    let mut metrics = node.load().await;
    if let Some(why) = no_space {
        metrics.insert("no_space".to_owned(), why.into());
    }
    if let Some(why) = not_taking {
        metrics.insert("not_taking".to_owned(), why.into());
    }
    Heartbeat {
        miner_id: node.identity.node_id.clone(),
        wallet: node.config.wallet.clone(),
        mode: capabilities.mode,
        gpu: capabilities.gpu,
        status: Some(status),
        inflight: u32::try_from(node.leases.count()).ok(),
        queue_len: Some(node.slots.waiting()),
        active_jobs: node.leases.active(),
        metrics,
        mining: mining(node),
        capabilities: None,
    }
}

/// What is mined, as far as something is.
fn mining(node: &Node) -> Map<String, Value> {
    let Some(status) = node.sharing.engine().map(|engine| engine.status()) else {
        return Map::new();
    };
    let rate = status.hashrate.minute.or(status.hashrate.ten_secs);
    let told = json!({
        "algo": status.algorithm, "hashrate": rate,
        "accepted": status.shares.accepted, "rejected": status.shares.rejected,
    });
    told.as_object().cloned().unwrap_or_default()
}

/// The owner's interval; longer if the coordinator wants that of idle nodes, shorter if a lease
/// needs it.
fn pause(node: &Node, asked_secs: u32) -> Duration {
    let own = Duration::from_secs(node.config.heartbeat.interval_s.into());
    let asked = Duration::from_secs(asked_secs.max(1).into());
    if node.leases.count() > 0 {
        own.min(asked).min(LEASE_PACE)
    } else if asked_secs > USUAL_INTERVAL_SECS {
        own.max(asked)
    } else {
        own
    }
}
