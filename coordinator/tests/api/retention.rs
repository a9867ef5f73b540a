//! What is deleted by age, and what never is.

use std::fs::File;
use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::http::{Method, StatusCode};
use protocol::client::StoredInput;
use protocol::{ErrorCode, JobId};
use serde_json::json;

use crate::support::{Client, Request, TestApp, TestMiner, on_both_engines, proven};

const DAY: u64 = 24 * 3600;

/// A job that completed, with a log and a file.
async fn completed(client: &Client<'_>, miner: &TestMiner<'_>) -> JobId {
    let id = client.submit(json!({"workload": "hash", "artifacts": [{"path": "a"}]})).await;
    let job = miner.take().await;
    let chunk = json!({"stream": "stdout", "seq": 0, "text": "hello\n"});
    miner.about(&job, "logs", chunk).await.expect(200);
    miner.upload(&job, &[("a", b"bytes")]).await.expect(201);
    let mut proof = miner.proof(&job, "x");
    proof.artifacts = vec![proven("a", b"bytes")];
    miner.prove(&proof).await.expect(201);
    id
}

async fn put_input(client: &Client<'_>, bytes: &'static [u8]) -> StoredInput {
    let request = Request::new(Method::POST, "/v1/inputs").body(bytes);
    client.send(request).await.expect(201).json()
}

async fn submit_with(client: &Client<'_>, input: &StoredInput) -> StatusCode {
    let files = json!([{"name": "in.bin", "sha256": input.sha256}]);
    client.post("/v1/jobs", json!({"workload": "x", "input": {"files": files}})).await.status
}

fn files(dir: &Path) -> usize {
    let entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    let count = |path: std::path::PathBuf| if path.is_dir() { files(&path) } else { 1 };
    entries.iter().map(|entry| count(entry.path())).sum()
}

on_both_engines! {
    async fn what_jobs_left_goes_after_its_days_and_the_books_stay(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| {
            config.retention.output_days = Some(7);
        }).await;
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let old = completed(&client, &miner).await;
        let failing = client.submit_any().await;
        let job = miner.take().await;
        let report = json!({"error_code": "E_SIGNATURE", "logs_tail": "it broke"});
        miner.about(&job, "fail", report).await.expect(200);
        app.advance(6 * DAY);
        miner.heartbeat(json!({})).await.expect(200);
        let young = completed(&client, &miner).await;
        app.sweep().await;
        assert_eq!(files(&app.dir.path().join("artifacts")), 2);
        assert!(client.job(failing).await.error.unwrap().logs_tail.is_some());
        app.advance(DAY + 1);
        app.sweep().await;
        assert_eq!(files(&app.dir.path().join("artifacts")), 1);
        let result = client.get(&format!("/v1/jobs/{old}/result")).await;
        assert!(result.refused(ErrorCode::NotFound).text().contains("deleted"));
        let file = client.get(&format!("/v1/jobs/{old}/artifacts/1")).await;
        assert!(file.refused(ErrorCode::ArtifactNotFound).text().contains("deleted"));
        let none = client.get(&format!("/v1/jobs/{young}/artifacts/9")).await;
        assert!(!none.refused(ErrorCode::ArtifactNotFound).text().contains("deleted"));
        assert_eq!(client.job(failing).await.error.unwrap().logs_tail, None);
        client.get(&format!("/v1/jobs/{old}/receipt")).await.expect(200);
        client.get(&format!("/v1/jobs/{young}/artifacts/1")).await.expect(200);
        app.audit().await;
    }

    async fn nothing_goes_unless_it_was_asked_for(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = completed(&client, &miner).await;
        let input = put_input(&client, b"data").await;
        app.advance(100 * DAY);
        app.sweep().await;
        client.get(&format!("/v1/jobs/{id}/artifacts/1")).await.expect(200);
        assert_eq!(submit_with(&client, &input).await, 201);
    }

    async fn inputs_go_unless_a_live_job_names_them(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| {
            config.retention.inputs_days = Some(7);
            config.jobs.ttl_secs = 20 * 24 * 3600;
        }).await;
        let client = app.client("c1").await;
        let (named, unnamed) = (put_input(&client, b"1").await, put_input(&client, b"2").await);
        let again = put_input(&client, b"3").await;
        assert_eq!(submit_with(&client, &named).await, 201);
        app.advance(6 * DAY);
        put_input(&client, b"3").await;
        app.advance(2 * DAY);
        app.sweep().await;
        assert_eq!(submit_with(&client, &unnamed).await, 422);
        assert_eq!(submit_with(&client, &named).await, 201);
        assert_eq!(submit_with(&client, &again).await, 201);
        assert_eq!(files(&app.dir.path().join("artifacts")), 2);
    }

    async fn an_input_that_a_job_named_is_as_if_it_came_then(app: TestApp) {
        let app = TestApp::with(app.engine(), |config| {
            config.retention.inputs_days = Some(7);
            config.jobs.ttl_secs = 3600;
        }).await;
        let client = app.client("c1").await;
        let input = put_input(&client, b"1").await;
        app.advance(6 * DAY);
        assert_eq!(submit_with(&client, &input).await, 201);
        // The job has expired before it is looked for old inputs.
        app.advance(2 * DAY);
        app.sweep().await;
        assert_eq!(submit_with(&client, &input).await, 201);
        app.advance(8 * DAY);
        app.sweep().await;
        assert_eq!(submit_with(&client, &input).await, 422);
    }

    async fn files_that_are_nobodys_go_when_they_are_old(app: TestApp) {
        let client = app.client("c1").await;
        put_input(&client, b"somebody's").await;
        let root = app.dir.path().join("artifacts");
        let nobodys =
            ["inputs/00/01ARZ3NDEKTSV4RRFFQ69G5F00", "artifacts/0Z/x0Z", "incoming/y", "incoming/y#1"];
        for name in nobodys {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "x").unwrap();
        }
        assert_eq!(files(&root), 5);
        app.advance(61);
        app.sweep().await;
        // They may be about to get a row.
        assert_eq!(files(&root), 5);
        for name in nobodys {
            let file = File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
        }
        // Everything there is has been looked at after so many hours.
        for _ in 0..coordinator::artifacts::SHARDS / 64 {
            app.advance(3601);
            app.sweep().await;
        }
        assert_eq!(files(&root), 1);
    }
}
