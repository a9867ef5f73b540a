//! What becomes of jobs: results, refusals, limits, cancellation, slots.

use protocol::JobState;
use protocol::signing::key_id;
use serde_json::json;

use crate::model_server::ModelServer;
use crate::rig::{Rig, eventually, exists, script_job};

#[tokio::test]
async fn builtin_work_is_run_proven_and_credited() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let text = json!({"workload": "hash", "input": {"inline": {"text": "hello world\n"}}});
    let id = rig.submit(text).await;
    let result = rig.result(id).await;
    let line = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447  -\n";
    assert_eq!(result.result, Some(line.into()));
    assert_eq!(result.exit_code, Some(0));

    let receipt = rig.receipt(id).await;
    assert_eq!(receipt.verify(), Ok(()));
    assert!(receipt.isolation.as_deref().unwrap().starts_with("bwrap+"), "{:?}", receipt.isolation);
    assert_eq!(receipt.provider.as_str(), "rig7");
    let key = key_id(&node.node.identity.key.verifying_key());
    assert_eq!(receipt.signature.as_ref().map(|one| one.key_id.as_str()), Some(key.as_str()));
    let out = std::fs::read(rig.job_dir(id).join("out.txt")).unwrap();
    let sha = protocol::Sha256Hex::of(&out);
    assert_eq!(receipt.artifact_hash, Some(format!("sha256:{sha}")));
    assert_eq!(rig.credits(id).await, 1);
    rig.until_phase(id, "DONE").await;
    node.end().await;
}

#[tokio::test]
async fn torch_bench_prints_its_line_and_says_what_it_was() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let id =
        rig.submit(json!({"workload": "torch_bench", "params": {"size": 64, "rounds": 5}})).await;
    let result = rig.result(id).await;
    let text = result.result.unwrap().as_str().unwrap().to_owned();
    assert!(text.starts_with("throughput_ops=5, seconds="), "{text}");
    assert!(text.contains("engine=native"), "{text}");
    node.end().await;
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let rig = Rig::new().await;
    rig.allow(
        "sort",
        "command: {path: /usr/bin/sort}\n\
         args: [['-o', '[a-z.]+'], {matches: 'input/[a-z./]+'}]\n",
    );
    let node = rig.run().await;
    let sha256 = rig.upload(b"b\nc\na\n").await;
    let id = rig
        .submit(json!({
            "command": "sort",
            "args": ["input/in/list.txt", "-o", "sorted.txt"],
            "input": {"files": [{"name": "in/list.txt", "sha256": sha256}]},
            "artifacts": [{"path": "sorted.txt", "max_mb": 1}],
        }))
        .await;
    let result = rig.result(id).await;
    assert_eq!(result.artifacts.len(), 1);
    assert_eq!(rig.download(id, 1).await, b"a\nb\nc\n");
    let receipt = rig.receipt(id).await;
    assert!(receipt.artifacts_root.is_some());
    assert_eq!(receipt.verify(), Ok(()));
    node.end().await;
}

#[tokio::test]
async fn output_that_is_no_text_can_be_declared_as_a_file() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let mut job = script_job(r"printf 'a\000b'");
    job["artifacts"] = json!([{"path": "out.txt"}]);
    let id = rig.submit(job).await;
    let result = rig.result(id).await;
    assert_eq!((result.result, result.artifacts.len()), (None, 1));
    assert_eq!(rig.download(id, 1).await, b"a\0b");
    node.end().await;
}

#[tokio::test]
async fn logs_and_progress_reach_the_client() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let script = "echo started; echo 'progress: 40%' >&2; while [ ! -e go ]; do sleep 0.05; done";
    let id = rig.submit_script(script).await;
    let view = rig.until(id, |job| job.progress.as_ref().is_some_and(|p| p.pct == Some(40))).await;
    assert_eq!(view.state, JobState::Running);
    std::fs::write(rig.job_dir(id).join("work/go"), "").unwrap();
    rig.result(id).await;
    let logs = format!("/v1/miner/jobs/{id}/logs");
    let calls = rig.mock.journal.all(|call| call.path == logs);
    let text = |stream: &str| -> String {
        let of = calls.iter().filter_map(|call| call.body.as_ref());
        of.filter(|body| body["stream"] == stream)
            .filter_map(|body| body["text"].as_str())
            .collect()
    };
    assert_eq!(text("stdout"), "started\n");
    assert_eq!(text("stderr"), "progress: 40%\n");
    node.end().await;
}

#[tokio::test]
async fn a_denied_job_starts_no_process() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let mut job = script_job("touch marker");
    job["args"] = json!(["-x", "touch marker"]);
    let id = rig.submit(job).await;
    let view = rig.failed(id, "E_DENY").await;
    assert!(view.error.unwrap().message.contains("allowlist"));
    assert!(!rig.job_dir(id).join("out.txt").exists());
    assert_eq!(rig.credits(id).await, 0);
    node.end().await;
    let audit = std::fs::read_to_string(rig.config.state_dir().join("audit.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["action"], "node.start");
    assert_eq!([&lines[1]["action"], &lines[1]["subject"]], ["job.deny", &*id.to_string()]);
}

#[tokio::test]
async fn the_owner_decides() {
    let mut rig = Rig::new().await;
    rig.config.accept.min_price = "1000".parse().unwrap();
    let node = rig.run().await;
    // The coordinator knows the price and holds such jobs back; the node does not rely on that.
    let calls = rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/register")).await;
    assert_eq!(calls.body.unwrap()["price"], "1000");
    node.end().await;
}

#[tokio::test]
async fn a_job_sees_no_secret() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let id = rig.submit_script("env; cat /job.json; tr '\\0' ' ' < /proc/self/environ").await;
    let result = rig.result(id).await;
    let text = result.result.unwrap().to_string();
    assert!(text.contains("HOME=/work"), "{text}");
    assert!(!text.contains("very-secret") && !text.contains("lease"), "{text}");
    node.end().await;
}

/// Everything that others can see of a process and of all below it: arguments and environment.
fn visible(pid: u32) -> Vec<u8> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let mut seen = [read("cmdline"), read("environ")].concat();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            seen.extend(visible(child.parse().unwrap()));
        }
    }
    seen
}

#[tokio::test]
async fn no_process_shows_the_secret_that_the_service_manager_handed_over() {
    let rig = Rig::new().await;
    let secrets = rig.root.path().join("credentials");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("api_key"), "id.handed-over\n").unwrap();
    let process = rig.spawn_with(&[("CREDENTIALS_DIRECTORY", secrets.to_str().unwrap())]);
    let id = rig.submit_script("touch here; while [ ! -e go ]; do sleep 0.05; done").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    let seen = String::from_utf8_lossy(&visible(process.id())).into_owned();
    // The node, bubblewrap twice, the shell and what it sleeps with.
    assert!(seen.contains("miner-node") && seen.contains("bwrap"), "{seen}");
    assert!(seen.contains("touch here") && seen.contains("CREDENTIALS_DIRECTORY"), "{seen}");
    assert!(!seen.contains("handed-over"), "{seen}");
    std::fs::write(rig.job_dir(id).join("work/go"), "").unwrap();
    rig.result(id).await;
}

#[tokio::test]
async fn a_canceled_job_is_killed() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let id = rig.submit_script("touch here; sleep 1000").await;
    exists(&rig.job_dir(id).join("work/here")).await;
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("{}/v1/jobs/{id}/cancel", rig.mock.url());
    assert!(client.post(url).send().await.unwrap().status().is_success());
    rig.until_phase(id, "FAILED").await;
    assert_eq!(rig.ended(id).await.state, JobState::Canceled);
    // Its client knows; the coordinator is told what it cost.
    let fail = format!("POST /v1/miner/jobs/{id}/fail");
    let told = rig.mock.journal.wait_for(move |call| call.is(&fail)).await;
    assert_eq!(told.status, 200);
    let told = told.body.unwrap();
    assert_eq!(told["error_code"], "E_CANCELED");
    assert!(told["metrics"]["max_rss_mb"].is_number(), "{told}");
    assert_eq!(miner_node::sandbox::kill_orphans(&rig.job_dir(id)), 0);
    node.end().await;
}

#[tokio::test]
async fn n_jobs_at_once_and_never_one_more() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let script = "touch here; while [ ! -e go ]; do sleep 0.05; done; rm here";
        ids.push(rig.submit_script(script).await);
    }
    let here = |id: &protocol::JobId| rig.job_dir(*id).join("work/here").exists();
    let mut left = ids.clone();
    while !left.is_empty() {
        let full = left.len().min(2);
        let running: Vec<_> = eventually(async || {
            let running: Vec<_> = left.iter().copied().filter(here).collect();
            assert!(running.len() <= 2);
            (running.len() == full).then_some(running)
        })
        .await;
        std::fs::write(rig.job_dir(running[0]).join("work/go"), "").unwrap();
        rig.result(running[0]).await;
        left.retain(|id| *id != running[0]);
    }
    for id in ids {
        assert_eq!(rig.credits(id).await, 1);
    }
    node.end().await;
}

#[tokio::test]
async fn an_input_is_fetched_once_and_checked_each_time() {
    let file = json!({"ask": "GET /list.txt", "say": ["b\na\n"]});
    let host = ModelServer::start(json!([file, {"ask": "GET /moved", "status": 302,
        "headers": {"location": "/list.txt"}}]))
    .await;
    let mut rig = Rig::new().await;
    let address = host.url.trim_start_matches("http://").trim_end_matches('/');
    rig.config.accept.input_hosts = vec![address.to_owned()];
    rig.config.resources.max_input_mb = 1;
    let node = rig.run().await;
    let job = |path: &str, content: &[u8]| {
        let mut job =
            script_job("cat input/x; (echo spoilt > input/x) 2>/dev/null || exit 0; exit 9");
        let sha256 = protocol::Sha256Hex::of(content);
        let url = format!("{}{path}", host.url);
        job["input"] = json!({"files": [{"name": "x", "sha256": sha256, "url": url}]});
        job
    };
    let ids = [
        rig.submit(job("/list.txt", b"b\na\n")).await,
        rig.submit(job("/list.txt", b"b\na\n")).await,
    ];
    for id in ids {
        assert_eq!(rig.result(id).await.result, Some("b\na\n".into()));
    }
    let id = rig.submit(job("/list.txt", b"b\na\n")).await;
    assert_eq!(rig.result(id).await.result, Some("b\na\n".into()));
    assert_eq!(host.asked("GET /list.txt").len(), 1);
    // Neither another hash, nor another place, nor too much.
    let id = rig.submit(job("/list.txt", b"other")).await;
    rig.failed(id, "E_INPUT").await;
    let id = rig.submit(job("/moved", b"b\na\n")).await;
    rig.failed(id, "E_INPUT").await;
    assert_eq!(host.asked("GET /list.txt").len(), 2);
    host.says(json!([{"ask": "GET /list.txt", "say": ["x".repeat(2 << 20)]}]));
    let id = rig.submit(job("/list.txt", "x".repeat(2 << 20).as_bytes())).await;
    assert!(rig.failed(id, "E_INPUT").await.error.unwrap().message.contains("larger"));
    node.end().await;
}
