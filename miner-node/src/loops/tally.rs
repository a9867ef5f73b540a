//! Has the counters outlast the node: written when a job has ended, and now and then while it mines.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::node::Node;

/// How much time and how many hashes a crash may cost.
const PACE: Duration = Duration::from_secs(60);

/// Writes until `end`, and then once more.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    loop {
        let is_over = tokio::select! {
            () = node.tally.ended.notified() => false,
            () = tokio::time::sleep(PACE) => false,
            () = end.cancelled() => true,
        };
        tick(&node).await;
        if is_over {
            return;
        }
    }
}

/// Writes once.
pub async fn tick(node: &Arc<Node>) {
    let saving = Arc::clone(node);
    let saved = tokio::task::spawn_blocking(move || {
        let status = saving.sharing.engine().map(|engine| engine.status());
        saving.tally.save(status.as_ref())
    });
    if let Err(error) = saved.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        warn!(event = "counters_unwritten", "the counters cannot be written: {error}");
    }
}
