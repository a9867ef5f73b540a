//! One simulated miner: asks, proves at once, gives signs of life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use protocol::job::{Lease, Price, SlotKind};
use protocol::receipt::VERSION;
use protocol::{Amount, JobId, Name, Proof, Receipt, Sha256Hex, Timestamp, Units, signing};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::times::Times;
use super::wire::{Wire, WireError};
use super::{FleetError, World, calls};
use crate::{chance, moment};

/// How long one question for work may wait, in seconds.
const WAIT_SECS: u32 = 25;

/// Pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// A heartbeat's connection is closed where the next one is further away than this, as HTTP clients
/// do.
const KEEP: Duration = Duration::from_secs(90);

/// What every job gives.
const RESULT: &str = "done";

/// What is read of a job: the simulation needs no more.
#[derive(Deserialize)]
struct Leased {
    id: JobId,
    lease: Lease,
    price: Price,
    client: Name,
}

#[derive(Deserialize)]
struct Registered {
    heartbeat_secs: u32,
}

#[derive(Deserialize)]
struct Credited {
    credited: Amount,
}

pub(super) struct Miner {
    world: Arc<World>,
    times: Arc<Times>,
    name: Name,
    key: SigningKey,
    wire: Wire,
    heartbeat_secs: u32,
    /// What it holds, for its heartbeats.
    held: Arc<Mutex<Option<Value>>>,
}

impl Miner {
    /// Makes itself known to the coordinator.
    pub(super) async fn register(
        world: Arc<World>,
        times: Arc<Times>,
        number: usize,
    ) -> Result<Self, FleetError> {
        let failed = |error| FleetError::Wire { what: "registering a miner", error };
        let name = format!("{}-{number}", world.wallet);
        let key = SigningKey::from_bytes(Sha256Hex::of(name.as_bytes()).as_bytes());
        let capabilities = json!({
            "miner_id": name, "mode": "cpu", "gpu": false, "concurrency": 1,
            "workloads": ["hash"], "runners": ["builtin"], "wallet": world.wallet,
            "limits": {"ram_mb": 1024, "max_runtime_s": 3600, "disk_mb": 1024, "cpu_cores": 1},
            "pubkey": signing::key_id(&key.verifying_key()),
        });
        let mut wire = Wire::new(&world.endpoint, &world.miner_key).map_err(failed)?;
        let reply: Registered = wire.post(calls::REGISTER, &capabilities).await.map_err(failed)?;
        let name = name.parse().map_err(|_| failed(WireError::Nonsense(name)))?;
        let held = Arc::default();
        Ok(Self { world, times, name, key, wire, heartbeat_secs: reply.heartbeat_secs, held })
    }

    /// Works until it is dropped.
    pub(super) async fn work(mut self, pace: Option<Duration>) {
        let beating = heartbeats(
            Arc::clone(&self.world),
            Arc::clone(&self.times),
            self.name.clone(),
            (self.heartbeat_secs, pace),
            Arc::clone(&self.held),
        );
        tokio::select! {
            () = beating => {}
            () = self.serve() => {}
        }
    }

    async fn serve(&mut self) {
        let next = calls::next(&self.name, WAIT_SECS);
        loop {
            let failed = match self.wire.get::<Leased>(&next).await {
                Ok(Some(job)) => self.prove(job).await.err(),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                self.times.failure(error.to_string());
                sleep(PAUSE).await;
            }
        }
    }

    async fn prove(&mut self, job: Leased) -> Result<(), WireError> {
        let arrived = Instant::now();
        *self.held.lock().await = Some(json!({"id": job.id, "lease_token": job.lease.token}));
        let started_at = moment::now();
        let output = Sha256Hex::of(RESULT.as_bytes());
        let receipt = self.receipt(&job, started_at, arrived.elapsed(), output);
        let receipt = receipt.map(|receipt| receipt.signed(&self.key));
        let proof = Proof {
            id: job.id.to_string(),
            mode: SlotKind::Cpu,
            output_sha: output,
            metrics: Map::new(),
            lease_token: Some(job.lease.token),
            started_at: None,
            finished_at: None,
            exit_code: Some(0),
            result: Some(RESULT.into()),
            artifacts: Vec::new(),
            receipt,
        };
        // Repeated until it is answered: what was proven is never thrown away.
        let mut tries = 0;
        let credited: Credited = loop {
            match self.wire.post(calls::PROOF, &proof).await {
                Err(error) if error.may_pass() && tries < 100 => {
                    tries += 1;
                    self.times.failure(error.to_string());
                    sleep(PAUSE).await;
                }
                reply => break reply?,
            }
        };
        *self.held.lock().await = None;
        self.times.credit(job.id, arrived, credited.credited > Amount::ZERO);
        Ok(())
    }

    /// Over the time since the job arrived, to the microsecond, and at least one: the coordinator's
    /// own clock has seen more than that.
    fn receipt(
        &self,
        job: &Leased,
        started_at: Timestamp,
        took: Duration,
        output: Sha256Hex,
    ) -> Option<Receipt> {
        let units = Units::from_micros(i64::try_from(took.as_micros()).ok()?.max(1))?;
        Some(Receipt {
            version: VERSION.to_owned(),
            receipt_id: format!("rcpt-{}-{}", job.id, job.lease.fence).parse().ok()?,
            job_id: job.id.to_string(),
            provider: self.name.clone(),
            client: job.client.clone(),
            wallet: self.world.wallet.clone(),
            status: "COMPLETED".to_owned(),
            units,
            unit_type: job.price.unit_type,
            unit_price: job.price.unit_price,
            price: units.price(job.price.unit_price)?,
            model: None,
            prompt_hash: None,
            started_at,
            completed_at: started_at.plus(took),
            duration_ms: None,
            artifact_hash: Some(format!("sha256:{output}")),
            artifacts_root: None,
            fence: Some(job.lease.fence),
            isolation: None,
            energy_j: None,
            coordinator_id: None,
            nonce: chance::idempotency_key().simple().to_string(),
            chain_id: None,
            metadata: Map::new(),
            signature: None,
            attestations: Vec::new(),
        })
    }
}

/// Signs of life at the coordinator's pace or at one's own, each miner at a moment of its own.
async fn heartbeats(
    world: Arc<World>,
    times: Arc<Times>,
    name: Name,
    (mut secs, pace): (u32, Option<Duration>),
    held: Arc<Mutex<Option<Value>>>,
) {
    let Ok(mut wire) = Wire::new(&world.endpoint, &world.miner_key) else { return };
    let pause_of = |secs: u32| pace.unwrap_or(Duration::from_secs(secs.max(1).into()));
    let mut pause = pause_of(secs).mul_f64(f64::from(chance::random_u32()) / f64::from(u32::MAX));
    loop {
        sleep(pause).await;
        let active: Vec<_> = held.lock().await.iter().cloned().collect();
        let body = json!({
            "miner_id": name, "wallet": world.wallet, "mode": "cpu", "gpu": false,
            "inflight": active.len(), "active_jobs": active,
        });
        match wire.post::<Registered>(calls::HEARTBEAT, &body).await {
            Ok(reply) => {
                times.heartbeat();
                secs = reply.heartbeat_secs;
            }
            Err(error) => times.failure(error.to_string()),
        }
        pause = pause_of(secs);
        if pause > KEEP {
            wire.close();
        }
    }
}
