//! Removes the files of finished jobs when they have been kept long enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::coordinator::jittered;
use crate::node::Node;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(600);

/// Sweeps now and then until `end`.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    loop {
        tick(&node).await;
        tokio::select! {
            () = sleep(jittered(PAUSE, 10, node.random_u32())) => {}
            () = end.cancelled() => return,
        }
    }
}

/// Sweeps once.
pub async fn tick(node: &Arc<Node>) {
    let sweeper = Arc::clone(node);
    let sweep = tokio::task::spawn_blocking(move || {
        let keep = |hours: u32| Duration::from_secs(u64::from(hours) * 3600);
        let kept = &sweeper.config.workspace;
        sweeper.workspace.sweep(sweeper.now(), keep(kept.keep_success_h), keep(kept.keep_failed_h))
    });
    match sweep.await {
        Ok(Ok(0)) => {}
        Ok(Ok(removed)) => info!(event = "swept", removed, "removed {removed} old jobs"),
        Ok(Err(error)) => warn!(event = "sweep_failed", "old jobs cannot be removed: {error}"),
        Err(error) => warn!(event = "sweep_failed", "old jobs cannot be removed: {error}"),
    }
}
