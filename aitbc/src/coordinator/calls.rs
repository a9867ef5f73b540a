//! The endpoints of the coordinator, as data: the one place of the program that knows paths and
//! query names. How calls are made is in `coordinator`.

use protocol::client::NewJob;
use protocol::control::Controls;
use protocol::miner::Drain;
use protocol::payout::PayoutFile;
use protocol::wallet::{Deposit, NewKey};
use protocol::{JobId, Name, Sha256Hex, Timestamp};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// A call about to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// The parts of its path.
    pub path: Vec<String>,
    /// Its query.
    pub query: Vec<(&'static str, String)>,
    /// Its JSON body.
    pub body: Option<Box<RawValue>>,
    /// Under which its repetition is recognised.
    pub idempotency: Option<Uuid>,
}

impl Call {
    fn new<const N: usize>(method: Method, path: [&str; N]) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self { method, path, query: Vec::new(), body: None, idempotency: None }
    }

    fn get<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::GET, path)
    }

    fn post<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::POST, path)
    }

    fn json(self, body: &impl Serialize) -> Self {
        // The protocol's types always become JSON.
        Self { body: to_raw_value(body).ok(), ..self }
    }

    /// Adds a parameter, where there is a value for it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Makes its repetition safe.
    #[must_use]
    pub fn once(self, key: Uuid) -> Self {
        Self { idempotency: Some(key), ..self }
    }
}

/// What selects jobs.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// States, separated by commas.
    pub state: Option<String>,
    /// A workload.
    pub workload: Option<Name>,
    /// Submitted at or after this.
    pub since: Option<Timestamp>,
    /// Submitted before this.
    pub until: Option<Timestamp>,
    /// A client, where an admin asks.
    pub client: Option<Name>,
    /// A miner, where an admin asks.
    pub miner: Option<Name>,
}

/// `GET /v1/health`
pub fn health() -> Call {
    Call::get(["v1", "health"])
}

/// `GET /v1/keys`
pub fn public_keys() -> Call {
    Call::get(["v1", "keys"])
}

/// `POST /v1/jobs`
pub fn submit(job: &NewJob, key: Uuid) -> Call {
    Call::post(["v1", "jobs"]).json(job).once(key)
}

/// `POST /v1/jobs?dry_run=true`
pub fn quote(job: &NewJob) -> Call {
    Call::post(["v1", "jobs"]).json(job).with("dry_run", Some(true))
}

/// `POST /v1/jobs/batch`
pub fn submit_batch(jobs: &[NewJob], key: Uuid) -> Call {
    Call::post(["v1", "jobs", "batch"]).json(&serde_json::json!({ "jobs": jobs })).once(key)
}

/// `GET /v1/jobs`, or `GET /v1/admin/jobs` for those of all clients
pub fn jobs(filter: &JobFilter, everybody: bool) -> Call {
    let call =
        if everybody { Call::get(["v1", "admin", "jobs"]) } else { Call::get(["v1", "jobs"]) };
    call.with("state", filter.state.as_ref())
        .with("workload", filter.workload.as_ref())
        .with("since", filter.since)
        .with("until", filter.until)
        .with("client", filter.client.as_ref())
        .with("miner", filter.miner.as_ref())
}

/// `GET /v1/jobs/{id}`
pub fn job(id: JobId) -> Call {
    Call::get(["v1", "jobs", &id.to_string()])
}

/// `DELETE /v1/jobs/{id}`
pub fn remove(id: JobId) -> Call {
    Call { method: Method::DELETE, ..job(id) }
}

/// `GET /v1/jobs/{id}/WHAT`
fn about(id: JobId, what: &str) -> Call {
    Call::get(["v1", "jobs", &id.to_string(), what])
}

/// `GET /v1/jobs/{id}/result`
pub fn result(id: JobId) -> Call {
    about(id, "result")
}

/// `POST /v1/jobs/{id}/cancel`
pub fn cancel(id: JobId, key: Uuid) -> Call {
    Call { method: Method::POST, ..about(id, "cancel") }.once(key)
}

/// `GET /v1/jobs/{id}/why`
pub fn why(id: JobId) -> Call {
    about(id, "why")
}

/// `GET /v1/jobs/{id}/receipt`
pub fn receipt(id: JobId) -> Call {
    about(id, "receipt")
}

/// `GET /v1/jobs/{id}/events`
pub fn events(id: JobId) -> Call {
    about(id, "events")
}

/// `GET /v1/jobs/{id}/artifacts`
pub fn artifacts(id: JobId) -> Call {
    about(id, "artifacts")
}

/// `GET /v1/jobs/{id}/artifacts/{n}`
pub fn artifact(id: JobId, number: i64) -> Call {
    Call::get(["v1", "jobs", &id.to_string(), "artifacts", &number.to_string()])
}

/// `POST /v1/inputs`
pub fn put_input() -> Call {
    Call::post(["v1", "inputs"])
}

/// The header that announces an input's hash.
pub fn announced(sha256: Sha256Hex) -> (&'static str, String) {
    ("x-content-sha256", sha256.to_string())
}

/// `GET /v1/wallet/balance`
pub fn balance(wallet: Option<&Name>) -> Call {
    Call::get(["v1", "wallet", "balance"]).with("wallet", wallet)
}

/// `GET /v1/wallet/ledger`
pub fn ledger() -> Call {
    Call::get(["v1", "wallet", "ledger"])
}

/// `GET /v1/admin/miners`
pub fn miners() -> Call {
    Call::get(["v1", "admin", "miners"])
}

/// `GET /v1/miners/{id}/why`
pub fn miner_why(id: &Name) -> Call {
    Call::get(["v1", "miners", id.as_str(), "why"])
}

/// `POST /v1/admin/miners/{id}/drain`
pub fn miner_drain(id: &Name, drain: bool, key: Uuid) -> Call {
    let body = Drain { miner_id: None, drain };
    Call::post(["v1", "admin", "miners", id.as_str(), "drain"]).json(&body).once(key)
}

/// `DELETE /v1/admin/miners/{id}`
pub fn miner_release(id: &Name) -> Call {
    Call::new(Method::DELETE, ["v1", "admin", "miners", id.as_str()])
}

/// `GET /v1/miner/reputation`
pub fn reputation(id: &Name) -> Call {
    Call::get(["v1", "miner", "reputation"]).with("miner", Some(id))
}

/// `POST /v1/admin/keys`; its repetition would make a second key.
pub fn create_key(key: &NewKey) -> Call {
    Call::post(["v1", "admin", "keys"]).json(key)
}

/// `GET /v1/admin/keys`
pub fn keys() -> Call {
    Call::get(["v1", "admin", "keys"])
}

/// `DELETE /v1/admin/keys/{id}`
pub fn revoke_key(id: &str) -> Call {
    Call::new(Method::DELETE, ["v1", "admin", "keys", id])
}

/// `GET /v1/admin/controls`
pub fn controls() -> Call {
    Call::get(["v1", "admin", "controls"])
}

/// `PUT /v1/admin/controls`; a stale version is refused, so that a repetition does no harm.
pub fn put_controls(controls: &Controls) -> Call {
    Call::new(Method::PUT, ["v1", "admin", "controls"]).json(controls)
}

/// `POST /v1/admin/wallets/{wallet}/deposit`
pub fn deposit(client: &Name, deposit: &Deposit, key: Uuid) -> Call {
    Call::post(["v1", "admin", "wallets", client.as_str(), "deposit"]).json(deposit).once(key)
}

/// `GET /v1/admin/payouts/export`
pub fn export_payouts(since: Option<Timestamp>, until: Option<Timestamp>) -> Call {
    let call = Call::get(["v1", "admin", "payouts", "export"]);
    call.with("since", since).with("until", until)
}

/// `POST /v1/admin/payouts`
pub fn mark_paid(file: &PayoutFile, key: Uuid) -> Call {
    Call::post(["v1", "admin", "payouts"]).json(file).once(key)
}

/// `GET /v1/admin/audit`
pub fn audit(action: Option<&str>) -> Call {
    Call::get(["v1", "admin", "audit"]).with("action", action)
}

/// `GET /v1/admin/stats`
pub fn stats() -> Call {
    Call::get(["v1", "admin", "stats"])
}

/// `GET /v1/admin/queues`
pub fn queues() -> Call {
    Call::get(["v1", "admin", "queues"])
}

/// `GET /v1/admin/rates`
pub fn rates() -> Call {
    Call::get(["v1", "admin", "rates"])
}

/// `GET /v1/admin/capacities`
pub fn capacities() -> Call {
    Call::get(["v1", "admin", "capacities"])
}
