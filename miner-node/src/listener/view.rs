//! How the node stands, in one piece, for `why`, for `top` and for those who draw curves.

use protocol::job::SlotKind;
use protocol::{Amount, JobId, MinerCapabilities, Name, Timestamp};
use serde::Serialize;

use super::Machine;
use crate::node::Node;
use crate::sharing::Standing;
use crate::tally::Counts;
use crate::workdir::Phase;

/// How the node stands.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// Its name.
    pub node_id: String,
    /// Its version.
    pub version: &'static str,
    /// How long this life of it has lasted, in seconds.
    pub uptime_secs: u64,
    /// What jobs and mining have, and why.
    #[serde(flatten)]
    pub sharing: Standing,
    /// Jobs.
    pub work: Work,
    /// How it stands with the coordinator.
    pub coordinator: Coordination,
    /// What it has done in all its lives.
    pub totals: Counts,
    /// How busy the machine is, where that was looked at.
    pub machine: Option<Machine>,
}

/// How it stands with jobs.
#[derive(Debug, Clone, Serialize)]
pub struct Work {
    /// Jobs that it holds.
    pub held: usize,
    /// Programs of jobs that run.
    pub running: u32,
    /// How many more it could take.
    pub free: u32,
    /// Slots of processors, of GPUs, and how many of them may be taken at once.
    pub slots: (u32, u32, u32),
    /// How many have come in and wait for a slot.
    pub waiting: u32,
    /// Reports that the coordinator has not answered.
    pub undelivered: usize,
    /// Why none is asked for, besides the rules of sharing; empty where nothing is in the way.
    pub obstacles: Vec<String>,
    /// The jobs that it holds, the oldest first.
    pub jobs: Vec<HeldJob>,
}

/// A job that the node holds.
#[derive(Debug, Clone, Serialize)]
pub struct HeldJob {
    /// The job.
    pub id: JobId,
    /// What kind of work it is.
    pub workload: Name,
    /// On what it runs.
    pub slot: SlotKind,
    /// How far it has come.
    pub phase: Phase,
    /// For how long it has been here, in seconds.
    pub age_secs: u64,
}

/// How the node stands with the coordinator.
#[derive(Debug, Clone, Serialize)]
pub struct Coordination {
    /// Its address.
    pub url: String,
    /// Whether the node is registered.
    pub registered: bool,
    /// Whether the operator wants no more jobs taken here.
    pub drained: bool,
    /// When a heartbeat was answered last in this life.
    pub last_heartbeat: Option<Timestamp>,
    /// What the wallet held when it was credited last in this life, in AITBC.
    pub balance: Option<Amount>,
}

impl View {
    /// Of `node`, now, without a look at the machine.
    pub fn of(node: &Node) -> Self {
        let sharing = node.sharing.standing();
        Self {
            node_id: node.identity.node_id.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_secs: node.tally.uptime().as_secs(),
            totals: node.tally.counts(sharing.engine.as_ref()),
            sharing,
            work: work(node),
            coordinator: coordination(node),
            machine: None,
        }
    }

    /// Of `node`, now, with a look at the machine.
    pub async fn whole(node: &Node) -> Self {
        let machine = node.machine().await;
        Self { machine, ..Self::of(node) }
    }
}

fn work(node: &Node) -> Work {
    let capabilities = node.capabilities();
    let slots = capabilities.slots.unwrap_or_default();
    Work {
        held: node.leases.count(),
        running: node.tally.running(),
        free: node.slots.free(),
        slots: (slots.cpu, slots.gpu, capabilities.concurrency),
        waiting: node.slots.waiting(),
        undelivered: node.outbox.len(),
        obstacles: obstacles(node, &capabilities),
        jobs: node
            .leases
            .all()
            .iter()
            .map(|held| HeldJob {
                id: held.id,
                workload: held.workload.clone(),
                slot: held.slot,
                phase: held.phase(),
                age_secs: held.since.elapsed().as_secs(),
            })
            .collect(),
    }
}

fn coordination(node: &Node) -> Coordination {
    let standing = *node.standing.borrow();
    let (last_heartbeat, balance) = node.tally.contact();
    Coordination {
        url: node.config.coordinator.base_url.to_string(),
        registered: standing.registered,
        drained: standing.drained,
        last_heartbeat,
        balance,
    }
}

fn obstacles(node: &Node, capabilities: &MinerCapabilities) -> Vec<String> {
    let standing = *node.standing.borrow();
    let found = [
        (node.is_draining(), "the node is about to end"),
        (!standing.registered, "not registered with the coordinator"),
        (standing.drained, "the coordinator's operator wants no more jobs taken here"),
        (capabilities.runners.is_empty(), "no runner passed its probe; see miner-node doctor"),
        (node.slots.free() == 0, "all slots are taken"),
    ];
    let found = found.into_iter().filter(|(is_so, _)| *is_so).map(|(_, why)| why.to_owned());
    let space = node.lack_of_space();
    // A full disk is one reason, not two.
    let room = node.lack_of_room().filter(|_| space.is_none());
    found.chain(space).chain(room).collect()
}
