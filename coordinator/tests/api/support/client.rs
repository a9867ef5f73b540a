//! What a client does.

use protocol::JobId;
use protocol::client::{JobResult, JobView};
use serde_json::{Value, json};

use super::{Reply, Request, TestApp};

/// A client with its key.
pub struct Client<'a> {
    pub app: &'a TestApp,
    pub key: String,
}

impl Client<'_> {
    pub async fn send(&self, request: Request) -> Reply {
        request.key(&self.key).send(self.app).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Request::post(path, body)).await
    }

    /// Submits a job and expects it to be taken.
    pub async fn submit(&self, job: Value) -> JobId {
        let view: JobView = self.post("/v1/jobs", job).await.expect(201).json();
        view.job_id
    }

    /// Submits a job that any miner of these tests can run.
    pub async fn submit_any(&self) -> JobId {
        self.submit(json!({"workload": "hash"})).await
    }

    pub async fn job(&self, job: JobId) -> JobView {
        self.get(&format!("/v1/jobs/{job}")).await.expect(200).json()
    }

    pub async fn result(&self, job: JobId) -> JobResult {
        self.get(&format!("/v1/jobs/{job}/result")).await.expect(200).json()
    }

    pub async fn cancel(&self, job: JobId) -> Reply {
        self.send(Request::post(&format!("/v1/jobs/{job}/cancel"), json!({}))).await
    }
}
