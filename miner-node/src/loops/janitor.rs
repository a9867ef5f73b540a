//! Removes the files of finished jobs when they have been kept long enough, and what was thrown
//! away at once.

use std::pin::pin;
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
        let mut pause = pin!(sleep(jittered(PAUSE, 10, node.random_u32())));
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = node.workspace.trash().filled() => empty_trash(&node).await,
                () = end.cancelled() => return,
            }
        }
    }
}

async fn empty_trash(node: &Arc<Node>) {
    let node = Arc::clone(node);
    let emptied = tokio::task::spawn_blocking(move || node.workspace.trash().empty()).await;
    match emptied {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(event = "sweep_failed", "trash cannot be emptied: {error}"),
        Err(error) => warn!(event = "sweep_failed", "trash cannot be emptied: {error}"),
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
    empty_trash(node).await;
}
