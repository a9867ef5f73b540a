//! One attempt at a job, from the lease to a report in the outbox.
//!
//! Each step is written to `state.json` before it is taken, so that `recovery` knows after a crash
//! what had been begun.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::job::{Network, SlotKind};
use protocol::{FailureCode, Job, Proof, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tracing::info;

mod conclusion;
mod execution;

use crate::capacity::Booking;
use crate::consent;
use crate::coordinator::{Backoff, CallError, Remedy};
use crate::inputs::{self, InputError};
use crate::leases::{Held, StopReason};
use crate::node::Node;
use crate::outbox::Settled;
use crate::runners::{JobFacts, Plan, Refusal};
use crate::sandbox::{Gpu, Usage};
use crate::sharing::Claim;
use crate::slots::Slot;
use crate::workdir::{JobDir, Phase, RunRecord, State, write_json};

/// How long a call about a job is repeated before the attempt is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why an attempt ends without a proof.
#[derive(Debug)]
enum Abandoned {
    /// It failed: to be reported.
    Refused(Refusal),
    /// It is not ours any more: nothing is reported.
    Lost(String),
    /// The node ends and will go on with it at its next start.
    Suspended,
}

impl From<Refusal> for Abandoned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Abandoned {
    fn from(error: io::Error) -> Self {
        Self::Refused(Refusal::new(FailureCode::Internal, format!("node: {error}")))
    }
}

fn no_gpu() -> Refusal {
    Refusal::new(FailureCode::NoGpu, "this node has no GPU for jobs")
}

fn unwatched() -> Refusal {
    let why = "limits.vram_mb cannot be kept: the driver does not tell this node what a job holds of GPU memory";
    Refusal::new(FailureCode::Deny, why)
}

fn no_egress() -> Refusal {
    Refusal::new(FailureCode::Egress, "this node gives jobs no network: egress.allow is empty")
}

/// An attempt under way.
pub struct Attempt<'a> {
    node: &'a Node,
    job: Job,
    dir: JobDir,
    held: Arc<Held>,
    /// What it has of the machine; given back when its run is over.
    claim: Option<Claim>,
    /// Its place in the books of memory and disk; absent where its run is over.
    booking: Option<Booking>,
    /// What its run used, and under which isolation, once that is over.
    used: OnceLock<(Usage, String)>,
    _over: DropGuard,
}

impl<'a> Attempt<'a> {
    /// At a job just leased.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn begin(
        node: &'a Node,
        job: Job,
        held: Arc<Held>,
        claim: Claim,
        booking: Booking,
    ) -> io::Result<Self> {
        node.outbox.forget(job.id);
        let dir = node.workspace.create(&job, node.now())?;
        let attempt = Self::resume(node, job, dir, held);
        Ok(Self { claim: Some(claim), booking: Some(booking), ..attempt })
    }

    /// At a job whose program had ended well when the node was interrupted.
    pub fn resume(node: &'a Node, job: Job, dir: JobDir, held: Arc<Held>) -> Self {
        let over = held.over.clone().drop_guard();
        let used = OnceLock::new();
        Self { node, job, dir, held, claim: None, booking: None, used, _over: over }
    }

    /// Works the job off. The receiver learns what became of the report; `None` where there is
    /// nothing to report.
    pub async fn run(mut self) -> Option<oneshot::Receiver<Settled>> {
        let result = self.work_off().await;
        self.conclude(result)
    }

    /// Uploads and proves what an earlier life of the node had run.
    pub async fn prove(self, record: &RunRecord) -> Option<oneshot::Receiver<Settled>> {
        let result = match self.upload(&record.artifacts).await {
            Ok(()) => Ok(self.proof(record)),
            Err(abandoned) => Err(abandoned),
        };
        self.conclude(result)
    }

    async fn work_off(&mut self) -> Result<Proof, Abandoned> {
        let claim = self.claim.take();
        let plan = self.plan()?;
        let parking = async {
            if let Some(claim) = &claim {
                claim.parked().await;
            }
        };
        let (acknowledged, ()) = tokio::join!(self.acknowledge(), parking);
        acknowledged?;
        let mode = self.node.mode(&self.job);
        info!(
            event = "job_start", job_id = %self.job.id, mode = %mode, workload = %self.job.workload,
            "[JOB] start id={} mode={mode} type={}", self.job.id, self.job.workload
        );
        let slot = self.slot(&plan).await?;
        let gpu = self.gpu(&plan, &slot)?;
        self.room(&plan).await?;
        self.fetch_inputs().await?;
        let processors = claim.as_ref().map_or(&[][..], Claim::processors);
        let record = self.execute(&plan, mode, gpu, processors).await?;
        // Mining goes on while the result is on its way.
        drop(claim);
        self.upload(&record.artifacts).await?;
        let proof = self.proof(&record);
        let price = proof.receipt.as_ref().map(|receipt| receipt.price);
        self.node.sharing.earned(price, Duration::from_micros(record.wall_micros));
        Ok(proof)
    }

    /// Asks the owner's rules and the runners, before anything is started or fetched.
    fn plan(&self) -> Result<Plan, Abandoned> {
        consent::check(&self.node.config.accept, &self.job)?;
        if self.job.limits.network == Some(Network::Egress) && self.node.egress.is_none() {
            return Err(no_egress().into());
        }
        if !self.node.slots.has(self.job.slot) {
            return Err(no_gpu().into());
        }
        let (asked, most) = (self.vram_mb(), self.node.slots.largest_vram_mb());
        if self.job.slot == SlotKind::Gpu && asked > most {
            let why = format!(
                "the job asks for {asked} MiB of GPU memory, this node's largest GPU has {most} MiB"
            );
            return Err(Refusal::new(FailureCode::Deny, why).into());
        }
        let ceilings = self.node.ceilings();
        let plan = self.node.runners.plan(&self.job, &self.dir.job_file(), &ceilings)?;
        // Whether one of several can be watched is seen once the job has it.
        if matches!(plan, Plan::Sandboxed(_))
            && self.kind() == SlotKind::Gpu
            && self.job.limits.vram_mb.is_some()
            && !self.node.slots.gpus(asked).any(|gpu| self.node.vram_meter(gpu).is_some())
        {
            return Err(unwatched().into());
        }
        Ok(plan)
    }

    async fn acknowledge(&mut self) -> Result<(), Abandoned> {
        let (id, token) = (self.job.id, self.held.token);
        let call = || self.node.coordinator.ack(id, token);
        let lease = self.persistently(FailureCode::Internal, call).await?;
        self.job.lease = lease;
        self.save(Phase::Acked, None)
    }

    /// The memory that a GPU for the job has to have, in MiB.
    fn vram_mb(&self) -> u32 {
        self.job.limits.vram_mb.max(self.job.requirements.vram_mb).unwrap_or(0)
    }

    /// The kind of slot that the job runs on.
    fn kind(&self) -> SlotKind {
        // What a server of the owner's does on the GPU keeps others from it, whatever it is paid as.
        match self.node.runners.slot(&self.job) {
            SlotKind::Gpu if self.node.slots.has(SlotKind::Gpu) => SlotKind::Gpu,
            SlotKind::Gpu | SlotKind::Cpu => self.job.slot,
        }
    }

    /// For how long its lease would still see the job to its end, after which somebody else may
    /// have it.
    fn patience(&self, plan: &Plan) -> Duration {
        let left = self.job.lease.deadline.since(self.node.now());
        left.saturating_sub(plan.limits().wall)
    }

    async fn slot(&self, plan: &Plan) -> Result<Slot, Abandoned> {
        if self.job.requirements.gpu && self.job.slot != SlotKind::Gpu {
            return Err(no_gpu().into());
        }
        tokio::select! {
            // What is free is taken, however little time is left.
            biased;
            () = self.held.interrupt.cancel.cancelled() => Err(self.stopped()),
            slot = self.node.slots.slot(self.kind(), self.vram_mb()) => Ok(slot.ok_or_else(no_gpu)?),
            () = tokio::time::sleep(self.patience(plan)) => {
                Err(Refusal::new(FailureCode::Internal, "no slot for the job in time").into())
            }
        }
    }

    /// Waits until what the job takes fits beside the others.
    async fn room(&self, plan: &Plan) -> Result<(), Abandoned> {
        let Some(booking) = &self.booking else { return Ok(()) };
        let mut lack = None;
        let never = tokio::select! {
            biased;
            () = self.held.interrupt.cancel.cancelled() => return Err(self.stopped()),
            begun = booking.begun(|| self.node.free_mb(), &mut lack) => match begun {
                Ok(()) => return Ok(()),
                Err(never) => Some(never),
            },
            () = tokio::time::sleep(self.patience(plan)) => None,
        };
        let why = never.or(lack).map_or_else(String::new, |lack| format!(": {lack}"));
        let why = format!("no room for the job in time{why}");
        Err(Refusal::new(FailureCode::Internal, why).into())
    }

    /// What of the GPU of its slot the job is given.
    fn gpu(&self, plan: &Plan, slot: &Slot) -> Result<Option<Gpu>, Abandoned> {
        // A server of the owner's has its own way to the GPU.
        let (Plan::Sandboxed(_), Some(device)) = (plan, slot.gpu()) else { return Ok(None) };
        if !device.is_reachable() {
            let why = format!("GPU {} cannot be given to a program", device.index);
            return Err(Refusal::new(FailureCode::Unsupported, why).into());
        }
        if !device.is_there() {
            let why = format!("the device files of GPU {} are gone", device.index);
            return Err(Refusal::new(FailureCode::NoGpu, why).into());
        }
        let most_mb = self.job.limits.vram_mb.map(u64::from);
        let meter = self.node.vram_meter(device);
        if most_mb.is_some() && meter.is_none() {
            return Err(unwatched().into());
        }
        Ok(Some(Gpu {
            nodes: device.nodes.clone(),
            env: device.environment(),
            meter,
            most_bytes: most_mb.map(|mb| mb << 20),
        }))
    }

    async fn fetch_inputs(&self) -> Result<(), Abandoned> {
        self.enter(Phase::Prep)?;
        write_json(&self.dir.job_file(), &JobFacts::of(&self.job))?;
        let source = inputs::Source {
            coordinator: &self.node.coordinator,
            accept: &self.node.config.accept,
            job: self.job.id,
            token: self.held.token,
            client: &self.job.client,
            cache: &self.node.inputs,
        };
        let mut room = u64::from(self.node.config.resources.max_input_mb) << 20;
        for file in &self.job.input.files {
            let (source, directory) = (&source, &self.dir.input());
            let fetch = || async move {
                match inputs::fetch(source, file, directory, room).await {
                    Ok(bytes) => Ok(Ok(bytes)),
                    Err(InputError::Refused(refusal)) => Ok(Err(refusal)),
                    Err(InputError::Call(error)) => Err(error),
                }
            };
            room -= self.persistently(FailureCode::Input, fetch).await??;
        }
        Ok(())
    }

    /// What it means that the job was stopped from outside while there was no result yet.
    fn stopped(&self) -> Abandoned {
        match self.held.stop_reason() {
            Some(StopReason::LeaseLost) => Abandoned::Lost("the lease is lost".to_owned()),
            // Requeued at once, and counted: a node that is stopped again and again must not be
            // able to keep a job going round forever.
            Some(StopReason::Shutdown) => {
                Refusal::new(FailureCode::Crash, "the node is shutting down").into()
            }
            // The coordinator knows; it is told what the job had used until then. Where it only took
            // the lease back, the lease's token makes this report void.
            Some(StopReason::Canceled) | None => {
                Refusal::new(FailureCode::Canceled, "canceled by the coordinator").into()
            }
        }
    }

    /// Repeats a call about the job as long as that makes sense; what fails for good is reported
    /// under `code`.
    async fn persistently<T, F, C>(&self, code: FailureCode, mut call: C) -> Result<T, Abandoned>
    where
        F: Future<Output = Result<T, CallError>>,
        C: FnMut() -> F,
    {
        let mut backoff = Backoff::standard();
        let give_up = Instant::now() + PATIENCE;
        loop {
            let outcome = tokio::select! {
                outcome = call() => outcome,
                () = self.held.interrupt.cancel.cancelled() => return Err(self.stopped()),
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let least = match error.remedy() {
                Remedy::Drop => return Err(Abandoned::Lost(error.to_string())),
                Remedy::GiveUp | Remedy::Lower(_) => {
                    return Err(Refusal::new(code, error.to_string()).into());
                }
                Remedy::Retry(least) => least,
                Remedy::Owner | Remedy::Register => None,
            };
            if Instant::now() >= give_up {
                return Err(Refusal::new(code, error.to_string()).into());
            }
            let pause = backoff.pause(least, self.node.random_u32());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.held.interrupt.cancel.cancelled() => return Err(self.stopped()),
            }
        }
    }

    fn enter(&self, phase: Phase) -> Result<(), Abandoned> {
        self.save(phase, None)
    }

    fn save(&self, phase: Phase, run: Option<RunRecord>) -> Result<(), Abandoned> {
        self.held.enter(phase);
        let updated_at: Timestamp = self.node.now();
        let state = State { phase, updated_at, job: self.job.clone(), run, error: None };
        Ok(self.dir.save(&state)?)
    }
}
