//! What a miner does.

use axum::http::{Method, StatusCode};
use ed25519_dalek::SigningKey;
use protocol::job::SlotKind;
use protocol::proof::{ArtifactProof, Credited, artifacts_root};
use protocol::{Job, MinerCapabilities, Proof, Receipt, Sha256Hex, Units, signing};
use serde_json::{Map, Value, json};

use super::{Reply, Request, TestApp};

/// A miner with its key.
pub struct TestMiner<'a> {
    pub app: &'a TestApp,
    pub name: String,
    pub key: String,
    pub signer: SigningKey,
}

/// The boundary of all uploads.
const BOUNDARY: &str = "a-line-that-no-file-has";

impl<'a> TestMiner<'a> {
    pub fn new(app: &'a TestApp, name: &str, key: String) -> Self {
        let signer = SigningKey::from_bytes(Sha256Hex::of(name.as_bytes()).as_bytes());
        Self { app, name: name.to_owned(), key, signer }
    }

    pub fn wallet(&self) -> String {
        format!("w-{}", self.name)
    }

    pub async fn send(&self, request: Request) -> Reply {
        request.key(&self.key).send(self.app).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Request::post(path, body)).await
    }

    /// What this miner registers with: eight processor slots, a few workloads, any command.
    pub fn capabilities(&self) -> Value {
        json!({
            "miner_id": self.name, "mode": "cpu", "gpu": false, "concurrency": 8,
            "workloads": ["hash", "torch_bench", "cli"], "runners": ["builtin", "cli"],
            "limits": {"ram_mb": 32768, "max_runtime_s": 3600, "disk_mb": 50000, "cpu_cores": 16},
            "wallet": self.wallet(), "pubkey": self.pubkey(),
        })
    }

    pub fn pubkey(&self) -> String {
        signing::key_id(&self.signer.verifying_key())
    }

    pub async fn register(&self) -> Reply {
        self.post("/v1/miner/register", self.capabilities()).await
    }

    /// Registers with some fields changed.
    pub async fn register_with(&self, changes: Value) -> Reply {
        let mut body = self.capabilities();
        if let (Value::Object(body), Value::Object(changes)) = (&mut body, changes) {
            body.extend(changes);
        }
        serde_json::from_value::<MinerCapabilities>(body.clone()).unwrap();
        self.post("/v1/miner/register", body).await
    }

    pub async fn heartbeat(&self, more: Value) -> Reply {
        let mut body =
            json!({"miner_id": self.name, "wallet": self.wallet(), "mode": "cpu", "gpu": 0});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        self.post("/v1/miner/heartbeat", body).await
    }

    /// Asks once; `None`: 204.
    pub async fn next(&self) -> Option<Job> {
        let reply = self.get(&format!("/v1/miner/next?miner={}&slots=8", self.name)).await;
        (reply.status != StatusCode::NO_CONTENT).then(|| reply.expect(200).json())
    }

    /// Asks once, and expects a job.
    pub async fn take(&self) -> Job {
        self.next().await.expect("there is a job")
    }

    pub async fn about(&self, job: &Job, what: &str, mut body: Value) -> Reply {
        body["lease_token"] = json!(job.lease.token);
        self.post(&format!("/v1/miner/jobs/{}/{what}", job.id), body).await
    }

    pub async fn ack(&self, job: &Job) -> Reply {
        self.about(job, "ack", json!({})).await
    }

    /// A proof of an output, without receipt.
    pub fn proof(&self, job: &Job, output: &str) -> Proof {
        Proof {
            id: job.id.to_string(),
            mode: SlotKind::Cpu,
            output_sha: Sha256Hex::of(output.as_bytes()),
            metrics: Map::new(),
            lease_token: Some(job.lease.token),
            started_at: None,
            finished_at: None,
            exit_code: Some(0),
            result: Some(output.into()),
            artifacts: Vec::new(),
            receipt: None,
        }
    }

    /// A receipt for that proof, not signed yet.
    pub fn receipt(&self, job: &Job, proof: &Proof, units: &str) -> Receipt {
        let units: Units = units.parse().unwrap();
        Receipt {
            version: protocol::receipt::VERSION.to_owned(),
            receipt_id: format!("rcpt-{}", job.id).parse().unwrap(),
            job_id: job.id.to_string(),
            provider: self.name.parse().unwrap(),
            client: job.client.clone(),
            wallet: self.wallet().parse().unwrap(),
            status: "COMPLETED".to_owned(),
            units,
            unit_type: job.price.unit_type,
            unit_price: job.price.unit_price,
            price: units.price(job.price.unit_price).unwrap(),
            model: None,
            prompt_hash: None,
            started_at: self.app.clock.now(),
            completed_at: self.app.clock.now(),
            duration_ms: None,
            artifact_hash: Some(format!("sha256:{}", proof.output_sha)),
            artifacts_root: (!proof.artifacts.is_empty())
                .then(|| format!("sha256:{}", artifacts_root(&proof.artifacts))),
            fence: Some(job.lease.fence),
            isolation: None,
            energy_j: None,
            coordinator_id: None,
            nonce: "00000000000000000000000000000001".to_owned(),
            chain_id: None,
            metadata: Map::new(),
            signature: None,
            attestations: Vec::new(),
        }
    }

    pub async fn prove(&self, proof: &Proof) -> Reply {
        self.send(Request::post("/v1/miner/proof", proof)).await
    }

    /// Takes a job, proves it, and expects to be paid.
    pub async fn work(&self) -> Credited {
        let job = self.take().await;
        self.ack(&job).await.expect(200);
        self.prove(&self.proof(&job, "done")).await.expect(201).json()
    }

    pub async fn fail(&self, job: &Job, code: &str) -> Reply {
        self.about(job, "fail", json!({"error_code": code, "error_message": "it broke"})).await
    }

    /// Uploads files with their hashes announced.
    pub async fn upload(&self, job: &Job, files: &[(&str, &[u8])]) -> Reply {
        let announced: Vec<_> = files
            .iter()
            .map(|(path, bytes)| json!({"path": path, "sha256": Sha256Hex::of(bytes)}))
            .collect();
        let metadata = json!({"lease_token": job.lease.token, "artifacts": announced});
        self.upload_as(job, Some(metadata), files).await
    }

    pub async fn upload_as(
        &self,
        job: &Job,
        metadata: Option<Value>,
        files: &[(&str, &[u8])],
    ) -> Reply {
        let mut body = Vec::new();
        if let Some(metadata) = metadata {
            let head = "Content-Disposition: form-data; name=\"metadata\"\r\n\
                        Content-Type: application/json";
            part(&mut body, head, metadata.to_string().as_bytes());
        }
        for (path, bytes) in files {
            let head =
                format!("Content-Disposition: form-data; name=\"artifact\"; filename=\"{path}\"");
            part(&mut body, &head, bytes);
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let path = format!("/v1/miner/jobs/{}/artifacts", job.id);
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = Request::new(Method::POST, &path);
        self.send(request.header("content-type", &content_type).body(body)).await
    }
}

fn part(body: &mut Vec<u8>, head: &str, content: &[u8]) {
    body.extend_from_slice(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n");
}

/// What a proof says of an uploaded file.
pub fn proven(path: &str, bytes: &[u8]) -> ArtifactProof {
    ArtifactProof {
        path: path.parse().unwrap(),
        sha256: Sha256Hex::of(bytes),
        bytes: bytes.len() as u64,
    }
}
