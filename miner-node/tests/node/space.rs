//! What jobs leave on the owner's disk, and what the node does when there is no room.

use std::fs;
use std::path::Path;

use crate::rig::{Rig, eventually, script_job};

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
