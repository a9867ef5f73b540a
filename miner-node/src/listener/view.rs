//! How the node stands, in one piece, for `why` and for those who draw curves.

use protocol::MinerCapabilities;
use serde::Serialize;

use crate::node::Node;
use crate::sharing::Standing;

/// How the node stands.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// Its name.
    pub node_id: String,
    /// Its version.
    pub version: &'static str,
    /// What jobs and mining have, and why.
    #[serde(flatten)]
    pub sharing: Standing,
    /// Jobs.
    pub work: Work,
}

/// How it stands with jobs.
#[derive(Debug, Clone, Serialize)]
pub struct Work {
    /// Jobs that it holds.
    pub held: usize,
    /// How many more it could take.
    pub free: u32,
    /// How many have come in and wait for a slot.
    pub waiting: u32,
    /// Why none is asked for, besides the rules of sharing; empty where nothing is in the way.
    pub obstacles: Vec<String>,
}

impl View {
    /// Of `node`, now.
    pub fn of(node: &Node) -> Self {
        Self {
            node_id: node.identity.node_id.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            sharing: node.sharing.standing(),
            work: Work {
                held: node.leases.count(),
                free: node.slots.free(),
                waiting: node.slots.waiting(),
                obstacles: obstacles(node, &node.capabilities()),
            },
        }
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
