//! Every way in which a job can fail has its code, and what the job used comes with it. `E_CRASH` is
//! in `crash`, `E_CANCELED` in `jobs`.

use protocol::miner::{Gpu, Slots};
use protocol::{JobId, MinerCapabilities, Sha256Hex};
use serde_json::{Value, json};

use crate::rig::{Rig, script_job};

/// The script as a job with one more key.
fn with(script: &str, key: &str, value: Value) -> Value {
    let mut job = script_job(script);
    job[key] = value;
    job
}

impl Rig {
    /// What the node reported about a job that failed.
    pub async fn report(&self, id: JobId) -> Value {
        let path = format!("/v1/miner/jobs/{id}/fail");
        self.mock.journal.wait_for(|call| call.path == path).await.body.unwrap()
    }

    /// Has the coordinator believe something else about the node than the node said.
    async fn pretend(&self, capabilities: &MinerCapabilities) {
        let client = reqwest::Client::builder().build().unwrap();
        let request = client
            .post(format!("{}/v1/miner/register", self.mock.url()))
            .bearer_auth("id.very-secret")
            .json(capabilities);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{:?}", response.text().await);
    }
}

#[tokio::test]
async fn what_a_program_does_wrong_has_its_code_and_its_usage() {
    let mut rig = Rig::new().await;
    rig.config.resources.max_output_mb = 1;
    let node = rig.run().await;
    let disk = "i=0; while [ $i -lt 8 ]; do head -c 500000 /dev/zero > $i; i=$((i+1)); done";
    for (job, code) in [
        (script_job("echo broken >&2; exit 3"), "E_EXIT"),
        (script_job("kill -SEGV $$"), "E_SIGNAL"),
        (with("exec sleep 1000", "limits", json!({"max_runtime_s": 1})), "E_TIMEOUT"),
        (with("while :; do :; done", "limits", json!({"cpu_secs": 1})), "E_TIMEOUT"),
        (with("exec tail /dev/zero", "limits", json!({"ram_mb": 64})), "E_OOM"),
        (script_job("yes"), "E_OUTPUT"),
        (script_job(disk), "E_OUTPUT"),
        (with("true", "artifacts", json!([{"path": "x.bin"}])), "E_OUTPUT"),
        (with("ln -s /etc x.bin", "artifacts", json!([{"path": "x.bin"}])), "E_OUTPUT"),
    ] {
        let id = rig.submit(job).await;
        let view = rig.failed(id, code).await;
        if code == "E_EXIT" {
            assert_eq!(view.error.unwrap().logs_tail.as_deref(), Some("broken\n"));
        }
        assert_eq!(rig.credits(id).await, 0);
        let report = rig.report(id).await;
        for key in ["duration_ms", "cpu_seconds", "written_bytes"] {
            assert!(report["metrics"][key].is_number(), "{code}: {report}");
        }
    }
    node.end().await;
}

#[tokio::test]
async fn what_was_never_run_has_its_code_and_no_usage() {
    let mut rig = Rig::new().await;
    rig.config.resources.max_output_mb = 1;
    let node = rig.run().await;
    let files = json!({"files": [{"name": "x", "sha256": Sha256Hex::of(b"x"),
        "url": "http://example.net/x"}]});
    for (job, code) in [
        (with("true", "limits", json!({"max_output_mb": 2})), "E_DENY"),
        (with("cat input/x", "input", files), "E_INPUT"),
    ] {
        let id = rig.submit(job).await;
        rig.failed(id, code).await;
        assert!(!rig.job_dir(id).join("out.txt").exists());
        let report = rig.report(id).await;
        assert_eq!(report["metrics"], Value::Null, "{report}");
    }
    node.end().await;
}

#[tokio::test]
async fn what_the_node_cannot_do_it_does_not_try() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/register")).await;
    let mut told = (*node.node.capabilities()).clone();
    told.gpu = true;
    told.gpus =
        vec![Gpu { index: 0, name: "A".to_owned(), vram_mb: 8192, driver: None, cuda: None }];
    told.slots = Some(Slots { cpu: 2, gpu: 1 });
    told.limits.max_runtime_s = Some(u32::MAX);
    told.limits.vram_mb = Some(8192);
    told.workloads.push("juggle".parse().unwrap());
    rig.pretend(&told).await;
    let longest_s = node.node.capabilities().limits.max_runtime_s.unwrap();
    let mut gpu = script_job("true");
    gpu["constraints"] = json!({"gpu": true});
    for (job, code) in [
        (with("true", "limits", json!({"max_runtime_s": longest_s + 1})), "E_DENY"),
        (json!({"workload": "juggle", "max_attempts": 1}), "E_UNSUPPORTED"),
        (gpu, "E_NOGPU"),
    ] {
        let id = rig.submit(job).await;
        // Another miner could do it, so the job itself goes on waiting.
        let report = rig.report(id).await;
        assert_eq!(report["error_code"], code, "{report}");
        if code == "E_DENY" {
            let message = report["error_message"].as_str().unwrap();
            assert!(message.contains(&format!("limit of {longest_s} s")), "{message}");
        }
        assert!(!rig.job_dir(id).join("out.txt").exists());
    }
    node.end().await;
}
