//! A node whose owner has it drive an XMRig that runs already: real jobs, and a server that speaks as
//! XMRig's API does. What is decided is the same policy's as with the node's own engine.

use std::collections::BTreeSet;
use std::process::Stdio;

use miner_node::config::mining::EngineKind;
use miner_node::facts::usable_processors;
use protocol::JobId;
use serde_json::{from_value, json};

use crate::mining::{cancel, holding, mind_nobody, processors_of_job};
use crate::rig::{Rig, eventually};

#[path = "../../../mining/tests/mining/xmrig_api.rs"]
mod xmrig_api;

use xmrig_api::{Server, State, TOKEN};

/// Where it hashes.
fn hashing(state: &State) -> BTreeSet<usize> {
    if state.paused {
        return BTreeSet::new();
    }
    from_value(state.config["cpu"]["rx"].clone()).unwrap()
}

async fn until(xmrig: &Server, holds: impl Fn(&State) -> bool) {
    eventually(async || xmrig.with(|state| holds(state)).then_some(())).await;
}

async fn begun(rig: &Rig, priority: u8) -> JobId {
    let job = rig.submit(holding(priority)).await;
    rig.until_phase(job, "RUNNING").await;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xmrig_makes_room_for_jobs_and_has_it_back_afterwards() {
    let all: BTreeSet<usize> = usable_processors().into_iter().collect();
    let xmrig = Server::start(&usable_processors());
    let mut rig = Rig::new().await;
    mind_nobody(&mut rig);
    let token_file = rig.root.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let mining = &mut rig.config.mining;
    (mining.enabled, mining.engine) = (true, EngineKind::Xmrig);
    mining.xmrig.url = Some(xmrig.url.parse().unwrap());
    mining.xmrig.token_file = Some(token_file);
    let settings = json!({
        "coordinator": {"base_url": rig.mock.url(), "auth_token": "id.very-secret"},
        "resources": {"max_concurrency": 1},
        "mining": rig.config.mining,
    });
    let mut node = rig.start(settings, &[], Stdio::null());
    // Whether it goes on is asked of the policy once the machine was looked at.
    until(&xmrig, |state| !state.calls.is_empty() && hashing(state) == all).await;

    let job = begun(&rig, 0).await;
    let of_job = processors_of_job(&rig, job).await;
    assert_eq!(of_job.len(), 1);
    let left: BTreeSet<usize> = &all - &of_job;
    until(&xmrig, |state| hashing(state) == left).await;
    cancel(&rig, job).await;
    until(&xmrig, |state| hashing(state) == all).await;

    let critical = begun(&rig, 9).await;
    until(&xmrig, |state| state.paused).await;
    // Nothing but the pause was needed: its threads are where they were.
    assert_eq!(xmrig.with(|state| state.config["cpu"]["rx"].clone()), json!(all));
    xmrig.with(|state| state.calls.clear());
    cancel(&rig, critical).await;
    until(&xmrig, |state| hashing(state) == all).await;

    assert_eq!(node.terminate(), Some(0));
    xmrig.with(|state| {
        assert!(state.calls.contains(&"resume".to_owned()), "{:?}", state.calls);
        assert_eq!(hashing(state), all);
        assert_eq!(state.faults, [""; 0]);
    });
}
