//! The node at work. Each loop has one shape: wait for stop, wake-up or time, then one `tick`.
//!
//! A loop that ends early ends the node: something that restarts it is better than half a node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub mod heartbeat;
pub mod idle_miner;
pub mod janitor;
pub mod reporter;
pub mod servers;
pub mod tally;
pub mod worker;

use crate::facts::Observer;
use crate::listener;
use crate::node::{Node, NodeError};
use crate::recovery;

/// How long the last reports may take when the node ends.
const LAST_REPORTS: Duration = Duration::from_secs(10);

/// The same, when it was told twice to end.
const LAST_REPORTS_IN_A_HURRY: Duration = Duration::from_secs(2);

/// How a node is asked to end: in two stages.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no more jobs; those that run have their grace time.
    pub drain: CancellationToken,
    /// Kill what runs.
    pub now: CancellationToken,
}

impl Stop {
    /// One more request to end.
    pub fn request(&self) {
        if self.drain.is_cancelled() {
            self.now.cancel();
        }
        self.drain.cancel();
    }

    /// Requests to end with each SIGTERM or SIGINT, for ever.
    ///
    /// # Errors
    /// Where signals cannot be had.
    pub async fn follow_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!(event = "stop", "[BOOT] stop requested");
            self.request();
        }
    }
}

/// What the node shall do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Take one job and end with it.
    pub once: bool,
    /// Speak to no coordinator.
    pub standalone: bool,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// The one job of `--once` was not credited.
    JobFailed,
}

/// Works until `stop` is requested, or the one job is done.
///
/// # Errors
/// Where a loop ended that never should, or nothing can be run though one job is asked for.
pub async fn run(node: Arc<Node>, options: Options, stop: Stop) -> Result<Outcome, NodeError> {
    let id = &node.identity.node_id;
    info!(event = "boot", "[BOOT] AITBC miner starting (id={id})");
    if options.standalone {
        let end = stop.drain.clone();
        let listener = tokio::spawn(listener::run(Arc::clone(&node), end.clone()));
        let sharing = Arc::clone(&node.sharing);
        let observer = Observer::of_machine().driving(&node.config.mining);
        let miner = tokio::spawn(idle_miner::run(sharing, observer, end.clone()));
        let counting = tokio::spawn(tally::run(node, end.clone()));
        return alone([("idle miner", miner), ("listener", listener), ("tally", counting)], &end)
            .await;
    }
    if options.once && node.capabilities().runners.is_empty() {
        return Err(NodeError::NothingToOffer("no runner passed its probe".to_owned()));
    }
    let crew = TaskTracker::new();
    recovery::recover(&node, &crew).map_err(|source| NodeError::Io { what: "recovery", source })?;

    let end = CancellationToken::new();
    let mut heartbeat = tokio::spawn(heartbeat::run(Arc::clone(&node), end.clone()));
    let mut reporter = tokio::spawn(reporter::run(Arc::clone(&node), end.clone()));
    let mut janitor = tokio::spawn(janitor::run(Arc::clone(&node), end.clone()));
    let mut servers = tokio::spawn(servers::run(Arc::clone(&node), end.clone()));
    let sharing = Arc::clone(&node.sharing);
    let observer = Observer::of_machine().driving(&node.config.mining);
    let mut miner = tokio::spawn(idle_miner::run(sharing, observer, end.clone()));
    let mut listener = tokio::spawn(listener::run(Arc::clone(&node), end.clone()));
    let mut counting = tokio::spawn(tally::run(Arc::clone(&node), end.clone()));
    let worker = worker::run(Arc::clone(&node), crew, options.once, stop.clone());
    let mut worker = tokio::spawn(worker);
    let outcome = tokio::select! {
        outcome = &mut worker => outcome.map_err(|_| NodeError::LoopEnded("worker"))?,
        _ = &mut heartbeat => return Err(NodeError::LoopEnded("heartbeat")),
        _ = &mut reporter => return Err(NodeError::LoopEnded("reporter")),
        _ = &mut janitor => return Err(NodeError::LoopEnded("janitor")),
        _ = &mut servers => return Err(NodeError::LoopEnded("servers")),
        _ = &mut listener => return Err(NodeError::LoopEnded("listener")),
        _ = &mut miner => return Err(NodeError::LoopEnded("idle miner")),
        _ = &mut counting => return Err(NodeError::LoopEnded("tally")),
    };
    deliver_the_rest(&node, &stop).await;
    end.cancel();
    for (name, ended) in [
        ("heartbeat", heartbeat.await),
        ("reporter", reporter.await),
        ("janitor", janitor.await),
        ("servers", servers.await),
        ("idle miner", miner.await),
        ("listener", listener.await),
        ("tally", counting.await),
    ] {
        ended.map_err(|_| NodeError::LoopEnded(name))?;
    }
    info!(event = "end", "[BOOT] AITBC miner ended (id={id})");
    Ok(outcome)
}

/// Sees to the loops of a node without a coordinator until `end`.
async fn alone<const N: usize>(
    mut loops: [(&'static str, JoinHandle<()>); N],
    end: &CancellationToken,
) -> Result<Outcome, NodeError> {
    let early = {
        let handles = loops.iter_mut().map(|(name, handle)| {
            let name = *name;
            handle.map(move |_| name)
        });
        tokio::select! {
            biased;
            () = end.cancelled() => None,
            (name, ..) = select_all(handles) => Some(name),
        }
    };
    if let Some(name) = early {
        return Err(NodeError::LoopEnded(name));
    }
    for (name, handle) in loops {
        handle.await.map_err(|_| NodeError::LoopEnded(name))?;
    }
    Ok(Outcome::Good)
}

/// Gives the reporter time to deliver what is in the outbox; the rest goes out at the next start.
async fn deliver_the_rest(node: &Node, stop: &Stop) {
    let patience = if stop.now.is_cancelled() { LAST_REPORTS_IN_A_HURRY } else { LAST_REPORTS };
    node.outbox.hurry();
    let emptied = async {
        while !node.outbox.is_empty() {
            node.outbox.emptier().await;
        }
    };
    if timeout(patience, emptied).await.is_err() {
        warn!(event = "undelivered", "some reports are not delivered; they are kept on disk");
    }
}

/// Notes that the node takes no more jobs, and has the coordinator told.
fn drain(node: &Node) {
    node.draining.store(true, Ordering::Relaxed);
    node.heartbeat_wake.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_does_not_go_on_without_one_of_its_loops() {
        let end = CancellationToken::new();
        let until = |end: &CancellationToken| tokio::spawn(end.clone().cancelled_owned());
        let ended = || tokio::spawn(async {});
        let outcome = alone([("a", ended()), ("b", until(&end))], &end).await;
        assert!(matches!(outcome, Err(NodeError::LoopEnded("a"))), "{outcome:?}");
        let outcome = alone([("a", until(&end)), ("b", ended())], &end).await;
        assert!(matches!(outcome, Err(NodeError::LoopEnded("b"))), "{outcome:?}");
        let both = [("a", until(&end)), ("b", until(&end))];
        end.cancel();
        assert_eq!(alone(both, &end).await.unwrap(), Outcome::Good);
    }
}
