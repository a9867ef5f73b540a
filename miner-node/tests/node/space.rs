//! What jobs leave on the owner's disk, and what the node does when there is no room.

use std::fs;
use std::path::Path;
use std::time::Duration;

use miner_node::attempt::Attempt;
use miner_node::capacity::{Booking, Footprint};
use miner_node::coordinator::Free;
use miner_node::node::Node;
use protocol::{JobId, JobState};
use serde_json::{Value, json};

use crate::rig::{Rig, eventually, exists, script_job};

/// Ends when a file `go` is put beside it.
const WAIT: &str = "echo x > here; until [ -e go ]; do sleep 0.05; done";

fn with_ram(script: &str, ram_mb: u32) -> Value {
    let mut job = script_job(script);
    job["limits"] = json!({"ram_mb": ram_mb, "max_runtime_s": 600});
    job
}

fn let_go(rig: &Rig, id: JobId) {
    fs::write(rig.job_dir(id).join("work/go"), "").unwrap();
}

/// Everything below `path`, in bytes.
fn size(path: &Path) -> u64 {
    let found = path.symlink_metadata().unwrap();
    if !found.is_dir() {
        return found.len();
    }
    fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}

async fn trash_is_empty(rig: &Rig) {
    let trash = rig.config.workspace.root.join("trash");
    eventually(async || (fs::read_dir(&trash).unwrap().count() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_job_that_is_over_leaves_little() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    for (code, phase) in [(0, "DONE"), (1, "FAILED")] {
        let script = format!(
            "head -c 3000000 /dev/zero | tee large; head -c 3000000 /dev/zero >&2; \
             mkdir -p deep/er; chmod 500 deep; exit {code}"
        );
        let id = rig.submit_script(&script).await;
        rig.until_phase(id, phase).await;
        let dir = rig.job_dir(id);
        for gone in ["work", "input", "output", "out.txt"] {
            assert!(!dir.join(gone).exists(), "{gone}");
        }
        assert!(size(&dir) < 200_000, "{}", size(&dir));
        assert!(dir.join("state.json").exists());
        trash_is_empty(&rig).await;
    }
    node.end().await;
}

#[tokio::test]
async fn half_a_job_of_an_earlier_life_goes() {
    let rig = Rig::new().await;
    let dir = rig.config.workspace.root.join("jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    fs::create_dir_all(dir.join("work")).unwrap();
    fs::write(dir.join("state.json"), "{\"phase\":").unwrap();
    let node = rig.run().await;
    eventually(async || (!dir.exists()).then_some(())).await;
    trash_is_empty(&rig).await;
    node.end().await;
}

#[tokio::test]
async fn without_room_no_job_is_taken() {
    let mut rig = Rig::new().await;
    rig.config.workspace.min_free_mb = u32::MAX;
    let node = rig.run().await;
    rig.submit_script("true").await;
    let calls = rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/heartbeat")).await;
    let body = calls.body.unwrap();
    assert_eq!(body["status"], "BUSY");
    assert!(body["metrics"]["no_space"].as_str().unwrap().contains("min_free_mb"), "{body}");
    node.end().await;
    assert!(rig.mock.journal.all(|call| call.path == "/v1/miner/next").is_empty());
}

#[tokio::test]
async fn a_job_that_cannot_be_begun_goes_back_at_once() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/heartbeat")).await;
    let jobs = rig.config.workspace.root.join("jobs");
    fs::remove_dir(&jobs).unwrap();
    fs::write(&jobs, "no directory").unwrap();
    let id = rig.submit(script_job("true")).await;
    let view = rig.failed(id, "E_INTERNAL").await;
    assert!(view.error.unwrap().message.contains("job directory"));
    node.end().await;
}

#[tokio::test]
async fn what_parallel_jobs_ask_for_together_is_there() {
    let mut rig = Rig::new().await;
    rig.config.resources.max_concurrency = Some(4);
    let node = rig.run().await;
    let all = node.node.capabilities().limits.ram_mb.unwrap();
    let first = rig.submit(with_ram(WAIT, all / 2)).await;
    exists(&rig.job_dir(first).join("work/here")).await;
    // Too large to run beside the first; who asks for less is not held up by it.
    let large = rig.submit(with_ram("true", all / 3 * 2)).await;
    let small = rig.submit(with_ram("true", all / 8)).await;
    rig.result(small).await;
    assert_eq!(rig.mock.job(large).await.unwrap().state, JobState::Queued);
    // It was not even handed out: the node said how much was left.
    assert!(!rig.job_dir(large).exists());
    let_go(&rig, first);
    rig.result(large).await;
    node.end().await;
}

/// Takes the next job and works it off beside `others`; what is reported.
async fn beside(rig: &Rig, node: &Node, others: Option<Booking>) -> Value {
    let id = rig.submit(with_ram("true", 64)).await;
    // Whatever the node says: there are coordinators that do not listen.
    let room = Footprint { ram_mb: 1 << 20, threads: 64, disk_mb: 1 << 20 };
    let free = Free { slots: 1, room };
    let asked = node.coordinator.next(&node.identity.node_id, free, Duration::ZERO).await;
    let job = asked.unwrap().unwrap();
    let booking = node.capacity.enter(node.footprint(&job));
    let claim = node.sharing.claim(&job);
    let (held, _) = node.leases.take(&job);
    let attempt = Attempt::begin(node, job, held, claim, booking).unwrap();
    let reported = attempt.run().await;
    drop((reported, others));
    serde_json::from_slice(&fs::read(rig.job_dir(id).join("report.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_job_for_which_there_is_no_room_in_time_goes_back() {
    let rig = Rig::with_lease_margin(1).await;
    let node = rig.node().await;
    node.coordinator.register(&node.capabilities()).await.unwrap();
    let all = Footprint { ram_mb: node.capacity.ram_mb(), ..Footprint::default() };
    let others = node.capacity.enter(all);
    others.begin(0).unwrap();
    let report = beside(&rig, &node, Some(others)).await.to_string();
    assert!(report.contains("E_INTERNAL") && report.contains("64 MiB of memory"), "{report}");
    assert!(!beside(&rig, &node, None).await.to_string().contains("E_"));
}
