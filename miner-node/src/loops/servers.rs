//! Keeps in mind which models the owner's inference servers have: what is not there any more must not
//! be advertised.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Runners;
use crate::coordinator::jittered;
use crate::node::Node;

/// Asks until `end`: now and then, and at once where a call did not go well.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    let pause = pause(&node.config.runners);
    let due = async || match pause {
        Some(pause) => sleep(jittered(pause, 10, node.random_u32())).await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            () = due() => {}
            () = node.servers_wake.notified() => {}
            () = end.cancelled() => return,
        }
        tokio::select! {
            () = tick(&node) => {}
            () = end.cancelled() => return,
        }
    }
}

/// The shorter one of the servers that there are: all are asked at once. `None` without any.
fn pause(runners: &Runners) -> Option<Duration> {
    let Runners { llm, sd, .. } = runners;
    let pauses = [(llm.enable, llm.refresh_s), (sd.enable, sd.refresh_s)];
    let shortest = pauses.into_iter().filter(|(enabled, _)| *enabled).map(|(_, secs)| secs).min();
    shortest.map(|secs| Duration::from_secs(secs.into()))
}

/// Asks once.
pub async fn tick(node: &Node) {
    node.look_at_servers().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_off_does_not_count() {
        let mut runners = Runners::default();
        (runners.llm.refresh_s, runners.sd.refresh_s) = (300, 5);
        assert_eq!(pause(&runners), None);
        runners.llm.enable = true;
        assert_eq!(pause(&runners), Some(Duration::from_secs(300)));
        runners.sd.enable = true;
        assert_eq!(pause(&runners), Some(Duration::from_secs(5)));
    }
}
