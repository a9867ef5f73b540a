//! Keeps in mind which models the owner's inference servers have: what is not there any more must not
//! be advertised.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::coordinator::jittered;
use crate::node::Node;

/// Asks until `end`: now and then, and at once where a call did not go well.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    let runners = &node.config.runners;
    let pause = Duration::from_secs(runners.llm.refresh_s.min(runners.sd.refresh_s).into());
    loop {
        tokio::select! {
            () = sleep(jittered(pause, 10, node.random_u32())) => {}
            () = node.servers_wake.notified() => {}
            () = end.cancelled() => return,
        }
        tokio::select! {
            () = tick(&node) => {}
            () = end.cancelled() => return,
        }
    }
}

/// Asks once.
pub async fn tick(node: &Node) {
    node.look_at_servers().await;
}
