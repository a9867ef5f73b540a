//! A real coordinator on a free port, and a miner that works for it.

use aitbc::coordinator::BaseUrl;
use coordinator::accounts::keys::{Minted, issue};
use coordinator::app::{App, Clock, Parts, SharedApp, random_bytes};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::config::{Config, Listen};
use coordinator::db::Db;
use coordinator::router::router;
use coordinator::serve::Server;
use ed25519_dalek::SigningKey;
use protocol::wallet::{Funding, NewKey, Scope};
use protocol::{Job, Sha256Hex, signing};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Program;

/// A running coordinator.
pub struct Market {
    pub url: String,
    app: SharedApp,
    _server: Server,
    _dir: TempDir,
}

/// The coordinator's signing key.
const ATTESTOR: [u8; 32] = [42; 32];

impl Market {
    pub async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.limits.client_per_minute = 100_000;
        config.limits.miner_per_minute = 100_000;
        config.limits.admin_per_minute = 100_000;
        let db = Db::open(&format!("sqlite:{}", dir.path().join("db").display()), 4).unwrap();
        db.migrate().await.unwrap();
        let parts = Parts {
            config,
            db,
            clock: Clock::System,
            auth: Auth::keys(),
            artifacts: Artifacts::local(&dir.path().join("artifacts")).unwrap(),
            attestor: SigningKey::from_bytes(&ATTESTOR),
        };
        let app = App::start(parts).await.unwrap();
        let listen = Listen { port: 0, ..Listen::default() };
        let server = Server::start(&listen, router(app.clone())).unwrap();
        Self { url: server.url(), app, _server: server, _dir: dir }
    }

    /// The public key that attests its receipts.
    pub fn public_key() -> String {
        signing::key_id(&SigningKey::from_bytes(&ATTESTOR).verifying_key())
    }

    /// The program in the hands of a client.
    pub async fn client(&self, name: &str) -> Program {
        let key = self.key(Scope::Client, name, None).await;
        Program::at(&self.url, Some(&key))
    }

    /// The program in the hands of a client that pays in first.
    pub async fn prepaid(&self, name: &str) -> Program {
        Program::at(&self.url, Some(&self.key(Scope::Client, name, Some(Funding::Prepaid)).await))
    }

    /// The program in the hands of an operator.
    pub async fn admin(&self) -> Program {
        Program::at(&self.url, Some(&self.key(Scope::Admin, "", None).await))
    }

    /// A miner that registered, and the program in the hands of its owner.
    pub async fn miner(&self, name: &str) -> (Miner, Program) {
        let key = self.key(Scope::Miner, &format!("w-{name}"), None).await;
        let program = Program::at(&self.url, Some(&key));
        let miner = Miner {
            name: name.to_owned(),
            url: self.url.parse().unwrap(),
            key,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let capabilities = json!({
            "miner_id": name, "mode": "cpu", "gpu": false, "concurrency": 8,
            "workloads": ["hash", "cli"], "runners": ["builtin", "cli"],
            "limits": {"ram_mb": 32768, "max_runtime_s": 3600, "disk_mb": 50000, "cpu_cores": 16},
            "wallet": format!("w-{name}"),
            "pubkey": signing::key_id(&SigningKey::from_bytes(&[7; 32]).verifying_key()),
        });
        miner.post(&["register"], &capabilities).await;
        (miner, program)
    }

    async fn key(&self, scope: Scope, name: &str, funding: Option<Funding>) -> String {
        let new = NewKey {
            scope,
            client: (scope == Scope::Client).then(|| name.parse().unwrap()),
            wallet: (scope == Scope::Miner).then(|| name.parse().unwrap()),
            miner_id: None,
            funding,
            weight: None,
        };
        let minted = Minted::from_random(scope, random_bytes(), random_bytes());
        issue(&self.app.db, self.app.now(), "tests", &new, minted).await.unwrap().key
    }
}

/// A miner.
pub struct Miner {
    name: String,
    url: BaseUrl,
    key: String,
    client: reqwest::Client,
}

impl Miner {
    fn endpoint(&self, path: &[&str]) -> reqwest::Url {
        let path = ["v1", "miner"].iter().chain(path).map(|part| (*part).to_owned());
        self.url.endpoint(&path.collect::<Vec<_>>())
    }

    async fn post(&self, path: &[&str], body: &Value) -> Value {
        let request = self.client.post(self.endpoint(path)).bearer_auth(&self.key).json(body);
        let reply = request.send().await.unwrap();
        assert!(reply.status().is_success(), "{path:?}: {}", reply.text().await.unwrap());
        reply.json().await.unwrap()
    }

    /// Waits for a job and takes it.
    pub async fn take(&self) -> Job {
        let query = [("miner", self.name.as_str()), ("slots", "8"), ("wait", "30")];
        let request = self.client.get(self.endpoint(&["next"])).query(&query);
        let reply = request.bearer_auth(&self.key).send().await.unwrap();
        assert_eq!(reply.status(), 200, "no job came");
        let job: Job = reply.json().await.unwrap();
        let ack = json!({"lease_token": job.lease.token});
        self.post(&["jobs", &job.id.to_string(), "ack"], &ack).await;
        job
    }

    /// Uploads a file of a job.
    pub async fn upload(&self, job: &Job, path: &str, content: &'static [u8]) {
        let metadata = json!({"lease_token": job.lease.token, "artifacts":
            [{"path": path, "sha256": Sha256Hex::of(content)}]});
        let metadata = Part::text(metadata.to_string()).mime_str("application/json").unwrap();
        let file = Part::bytes(content).file_name(path.to_owned());
        let form = Form::new().part("metadata", metadata).part("artifact", file);
        let url = self.endpoint(&["jobs", &job.id.to_string(), "artifacts"]);
        let reply = self.client.post(url).bearer_auth(&self.key).multipart(form).send().await;
        assert_eq!(reply.unwrap().status(), 201);
    }

    /// Says that it is there.
    pub async fn heartbeat(&self) {
        let body = json!({"miner_id": self.name, "mode": "cpu", "gpu": false});
        self.post(&["heartbeat"], &body).await;
    }

    /// Sends a piece of a job's log.
    pub async fn log(&self, job: &Job, number: u32, text: &str) {
        let chunk = json!({"lease_token": job.lease.token, "stream": "stdout", "seq": number,
            "text": text});
        let reply = self.post(&["jobs", &job.id.to_string(), "logs"], &chunk).await;
        assert_eq!(reply["accepted"], true);
    }

    /// Says how far a job is.
    pub async fn progress(&self, job: &Job, pct: u8, note: &str) {
        let body = json!({"lease_token": job.lease.token, "pct": pct, "note": note});
        self.post(&["jobs", &job.id.to_string(), "progress"], &body).await;
    }

    /// Finishes a job that printed `text` and left these files.
    pub async fn prove(&self, job: &Job, text: &str, files: &[(&str, &[u8])]) {
        let artifacts: Vec<_> = files
            .iter()
            .map(|(path, content)| {
                json!({"path": path, "sha256": Sha256Hex::of(content), "bytes": content.len()})
            })
            .collect();
        let proof = json!({
            "id": job.id, "mode": "cpu", "output_sha": Sha256Hex::of(text.as_bytes()),
            "lease_token": job.lease.token, "exit_code": 0, "result": text,
            "artifacts": artifacts, "metrics": {},
        });
        self.post(&["proof"], &proof).await;
    }

    /// Takes a job and finishes it.
    pub async fn work(&self, text: &str) -> Job {
        let job = self.take().await;
        self.prove(&job, text, &[]).await;
        job
    }

    /// Gives up a job.
    pub async fn fail(&self, job: &Job, code: &str, log: &str) {
        let body = json!({"lease_token": job.lease.token, "error_code": code,
            "error_message": "it broke", "logs_tail": log});
        self.post(&["jobs", &job.id.to_string(), "fail"], &body).await;
    }
}
