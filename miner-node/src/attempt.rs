//! One attempt at a job, from the lease to a report in the outbox.
//!
//! Each step is written to `state.json` before it is taken, so that `recovery` knows after a crash
//! what had been begun.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::job::{Network, SlotKind};
use protocol::miner::Fail;
use protocol::proof::ArtifactProof;
use protocol::{FailureCode, Job, Proof, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::coordinator::{Backoff, CallError, Remedy};
use crate::egress::Way;
use crate::energy::Metered;
use crate::inputs::{self, InputError};
use crate::leases::{Held, StopReason};
use crate::metrics;
use crate::node::Node;
use crate::outbox::{Body, Settled};
use crate::receipts::{self, Signer, completed_at};
use crate::runners::report::{REPORTED, Report};
use crate::runners::{JobFacts, Plan, Refusal};
use crate::sandbox::container::{Contained, Container};
use crate::sandbox::{Command, Door, Ending, Gpu, Places, Run, SandboxError, Usage};
use crate::servers::{Call, ServerError};
use crate::slots::Slot;
use crate::workdir::{JobDir, Phase, RunRecord, State, write_json};
use crate::{consent, output, progress, servers};

/// How much of the log a failure report carries, in bytes.
const LOG_TAIL: u64 = 4096;

/// Pause between two looks at how busy the GPU is.
const GPU_PAUSE: Duration = Duration::from_secs(2);

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

fn no_egress() -> Refusal {
    Refusal::new(FailureCode::Egress, "this node gives jobs no network: egress.allow is empty")
}

fn spent(max_mb: u32) -> Refusal {
    let why = format!("the job wants more than {max_mb} MiB of traffic, which this node gives");
    Refusal::new(FailureCode::Egress, why)
}

/// What a plan came to, whoever carried it out.
struct Done {
    ending: Ending,
    usage: Usage,
    isolation: String,
    /// What the node's own program said of the job, from inside.
    report: Report,
    tokens: Option<u64>,
    model: Option<String>,
    measured: Map<String, Value>,
}

/// An attempt under way.
pub struct Attempt<'a> {
    node: &'a Node,
    job: Job,
    dir: JobDir,
    held: Arc<Held>,
    /// What its run used, and under which isolation, once that is over.
    used: OnceLock<(Usage, String)>,
    _over: DropGuard,
}

impl<'a> Attempt<'a> {
    /// At a job just leased.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn begin(node: &'a Node, job: Job, held: Arc<Held>) -> io::Result<Self> {
        node.outbox.forget(job.id);
        let dir = node.workspace.create(&job, node.now())?;
        Ok(Self::resume(node, job, dir, held))
    }

    /// At a job whose program had ended well when the node was interrupted.
    pub fn resume(node: &'a Node, job: Job, dir: JobDir, held: Arc<Held>) -> Self {
        let over = held.over.clone().drop_guard();
        Self { node, job, dir, held, used: OnceLock::new(), _over: over }
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
        let plan = self.plan()?;
        self.acknowledge().await?;
        let mode = self.node.mode(&self.job);
        info!(
            event = "job_start", job_id = %self.job.id, mode = %mode, workload = %self.job.workload,
            "[JOB] start id={} mode={mode} type={}", self.job.id, self.job.workload
        );
        let slot = self.slot().await?;
        let gpu = self.gpu(&plan, &slot)?;
        self.fetch_inputs().await?;
        let record = self.execute(&plan, mode, gpu).await?;
        self.upload(&record.artifacts).await?;
        Ok(self.proof(&record))
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
        let ceilings = self.node.ceilings();
        Ok(self.node.runners.plan(&self.job, &self.dir.job_file(), &ceilings)?)
    }

    async fn acknowledge(&mut self) -> Result<(), Abandoned> {
        let (id, token) = (self.job.id, self.held.token);
        let call = || self.node.coordinator.ack(id, token);
        let lease = self.persistently(FailureCode::Internal, call).await?;
        self.job.lease = lease;
        self.save(Phase::Acked, None)
    }

    async fn slot(&self) -> Result<Slot, Abandoned> {
        if self.job.requirements.gpu && self.job.slot != SlotKind::Gpu {
            return Err(no_gpu().into());
        }
        // What a server of the owner's does on the GPU keeps others from it, whatever it is paid as.
        let kind = match self.node.runners.slot(&self.job) {
            SlotKind::Gpu if self.node.slots.has(SlotKind::Gpu) => SlotKind::Gpu,
            SlotKind::Gpu | SlotKind::Cpu => self.job.slot,
        };
        tokio::select! {
            slot = self.node.slots.slot(kind) => Ok(slot.ok_or_else(no_gpu)?),
            () = self.held.interrupt.cancel.cancelled() => Err(self.stopped()),
        }
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
        Ok(Some(Gpu {
            nodes: device.nodes.clone(),
            env: device.environment(),
            meter: self.node.vram_meter(device),
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

    async fn execute(
        &self,
        plan: &Plan,
        mode: SlotKind,
        gpu: Option<Gpu>,
    ) -> Result<RunRecord, Abandoned> {
        self.enter(Phase::Running)?;
        let started_at = self.node.now();
        let done = self.run_plan(plan, mode, gpu).await?;
        let usage = done.usage;
        // An attempt runs once.
        let _ = self.used.set((usage, done.isolation.clone()));
        self.judge(done.ending, &done.report)?;
        self.dir.link_stdout()?;
        let (rules, dir) = (self.job.artifacts.clone(), self.dir.clone());
        let most = plan.limits().output_bytes;
        let collected = tokio::task::spawn_blocking(move || collect(&rules, &dir, most)).await;
        let (output_sha, artifacts) = collected.map_err(io::Error::other)??;
        let record = RunRecord {
            mode,
            isolation: done.isolation,
            started_at,
            wall_micros: u64::try_from(usage.wall.as_micros()).unwrap_or(u64::MAX),
            cpu_micros: u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX),
            max_rss_bytes: usage.max_rss_bytes,
            written_bytes: usage.written_bytes,
            vram_bytes: usage.vram_bytes,
            joules: usage.joules,
            egress_bytes: usage.egress_bytes,
            output_sha,
            artifacts,
            fuel: done.report.fuel,
            tokens: done.tokens,
            model: done.model,
            measured: done.measured,
        };
        self.save(Phase::Uploading, Some(record.clone()))?;
        Ok(record)
    }

    /// Does what is planned, and meanwhile tells the coordinator how far it is.
    async fn run_plan(
        &self,
        plan: &Plan,
        mode: SlotKind,
        gpu: Option<Gpu>,
    ) -> Result<Done, Abandoned> {
        let ended = CancellationToken::new();
        let metered = self.node.energy.begin();
        let run = async {
            let run = match plan {
                Plan::Sandboxed(command) => self.run_program(command, gpu).await,
                Plan::Contained(container) => self.run_container(container).await,
                Plan::Call(call) => self.call(call).await,
            };
            ended.cancel();
            run
        };
        let (run, (), gpu) = tokio::join!(
            run,
            progress::follow(self.node, &self.held, &self.dir, &ended),
            self.measure(metered.as_ref(), &ended),
        );
        let mut done = run?;
        if let (Some(metered), Some(method)) = (metered, self.node.energy.method()) {
            done.usage.joules = Some(metered.joules());
            done.measured.insert("energy_method".to_owned(), method.into());
        }
        // What others do on the GPU is not this job's.
        if let (Some(busy), SlotKind::Gpu) = (gpu, mode) {
            done.measured.insert("gpu_utilization".to_owned(), busy.into());
        }
        Ok(done)
    }

    /// Keeps the books of energy until `ended`, and looks at the GPU now and then: how busy it was
    /// on average, in per cent.
    async fn measure(&self, metered: Option<&Metered>, ended: &CancellationToken) -> Option<u64> {
        let (mut sum, mut looks) = (0_u64, 0_u64);
        let books = async {
            match metered {
                Some(metered) => metered.follow().await,
                None => std::future::pending().await,
            }
        };
        let looking = async {
            loop {
                tokio::time::sleep(GPU_PAUSE).await;
                if let Some(busy) = self.node.busiest_gpu().await {
                    sum += u64::from(busy);
                    looks += 1;
                }
            }
        };
        tokio::select! {
            () = books => {}
            () = looking => {}
            () = ended.cancelled() => {}
        }
        sum.checked_div(looks)
    }

    async fn run_program(&self, command: &Command, gpu: Option<Gpu>) -> Result<Done, Abandoned> {
        let unavailable = || Refusal::new(FailureCode::Unsupported, "this node has no sandbox");
        let sandbox = self.node.sandbox.as_ref().ok_or_else(unavailable)?;
        let mut places = Places { gpu, ..self.dir.places() };
        let way = self.way_out(&mut places)?;
        let ended = CancellationToken::new();
        let run = async {
            let run = sandbox.run(command, &places, &self.held.interrupt).await;
            ended.cancel();
            run
        };
        let carry = async {
            match way {
                Some(way) => Some(way.serve(&ended).await),
                None => None,
            }
        };
        let (run, traffic) = tokio::join!(run, carry);
        let run = run.map_err(|error| match error {
            SandboxError::Setup(why) => Refusal::new(FailureCode::Internal, why),
            other => Refusal::new(FailureCode::Internal, other.to_string()),
        })?;
        let Run { ending, usage, isolation } = run;
        let usage = Usage { egress_bytes: traffic.map(|traffic| traffic.bytes), ..usage };
        if traffic.is_some_and(|traffic| traffic.is_spent) {
            // An attempt runs once.
            let _ = self.used.set((usage, isolation.to_string()));
            return Err(spent(self.node.config.egress.max_mb).into());
        }
        let isolation = isolation.to_string();
        let stderr = self.dir.stderr_log();
        Ok(Done {
            ending,
            usage,
            isolation,
            report: self.node.runners.report(&self.job, &stderr),
            tokens: None,
            model: None,
            measured: progress::stated_metrics(&stderr),
        })
    }

    async fn run_container(&self, container: &Container) -> Result<Done, Abandoned> {
        let unavailable = || Refusal::new(FailureCode::Unsupported, "no container runner here");
        let sandbox = self.node.sandbox.as_ref().ok_or_else(unavailable)?;
        let engine = self.node.runners.containers.as_ref().ok_or_else(unavailable)?.engine();
        let (places, interrupt) = (self.dir.places(), &self.held.interrupt);
        let run = sandbox.run_container(engine, container, &places, interrupt).await;
        let Contained { ending, usage } =
            run.map_err(|error| Refusal::new(FailureCode::Internal, error.to_string()))?;
        let isolation = engine.level();
        Ok(Done {
            ending,
            usage,
            isolation,
            report: Report::default(),
            tokens: None,
            model: None,
            measured: Map::new(),
        })
    }

    async fn call(&self, call: &Call) -> Result<Done, Abandoned> {
        let started = Instant::now();
        let served = call.run(&self.dir.places(), &self.held.interrupt).await;
        let served = served.map_err(|error| {
            let usage = Usage { wall: started.elapsed(), ..Usage::default() };
            let _ = self.used.set((usage, servers::ISOLATION.to_owned()));
            let code = match error {
                ServerError::Absent(_) => FailureCode::Unsupported,
                ServerError::Refused(_) => FailureCode::Input,
                ServerError::Gone(_) | ServerError::Nonsense(_) | ServerError::Local(_) => {
                    FailureCode::Internal
                }
            };
            // What it offers may not be there any more, and the next job need not find out, too.
            self.node.servers_wake.notify_one();
            Refusal::new(code, error.to_string())
        })?;
        Ok(Done {
            ending: served.ending,
            usage: Usage { wall: served.wall, ..Usage::default() },
            isolation: servers::ISOLATION.to_owned(),
            report: Report::default(),
            tokens: served.tokens,
            model: Some(served.model),
            measured: served.metrics,
        })
    }

    /// A way out of the sandbox for a job that asks for one.
    fn way_out(&self, places: &mut Places) -> Result<Option<Way>, Abandoned> {
        if self.job.limits.network != Some(Network::Egress) {
            return Ok(None);
        }
        let egress = self.node.egress.as_ref().ok_or_else(no_egress)?;
        let (way, out) = egress.way()?;
        places.door = Some(Door { way: out, executable: self.node.executable.clone() });
        Ok(Some(way))
    }

    fn judge(&self, ending: Ending, report: &Report) -> Result<(), Abandoned> {
        let fail = |code, why: String| Err(Refusal::new(code, why).into());
        match ending {
            Ending::Exited(0) => Ok(()),
            Ending::Exited(REPORTED) if let Some(refusal) = report.refusal() => Err(refusal.into()),
            Ending::Exited(code) => {
                fail(FailureCode::Exit, format!("the program ended with code {code}"))
            }
            Ending::Signaled(signal) => {
                fail(FailureCode::Signal, format!("the program was ended by signal {signal}"))
            }
            Ending::TimedOut => fail(FailureCode::Timeout, "the run time is used up".to_owned()),
            Ending::CpuLimit => {
                fail(FailureCode::Timeout, "the processor time is used up".to_owned())
            }
            Ending::OutOfMemory => fail(FailureCode::Oom, "the memory is used up".to_owned()),
            Ending::OutputLimit => {
                fail(FailureCode::Output, "more output than the job may leave".to_owned())
            }
            Ending::Canceled => Err(self.stopped()),
        }
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
            // Not reported: the coordinator knows, and where it only took the lease back, a report
            // of `E_CANCELED` would end the job for its client.
            Some(StopReason::Canceled) | None => {
                Abandoned::Lost("canceled by the coordinator".to_owned())
            }
        }
    }

    async fn upload(&self, artifacts: &[ArtifactProof]) -> Result<(), Abandoned> {
        if artifacts.is_empty() {
            return Ok(());
        }
        let output = self.dir.output();
        let call =
            || self.node.coordinator.upload(self.job.id, self.held.token, &output, artifacts);
        match self.persistently(FailureCode::Upload, call).await {
            Err(_) if self.held.stop_reason() == Some(StopReason::Shutdown) => {
                Err(Abandoned::Suspended)
            }
            other => other.map(drop),
        }
    }

    fn proof(&self, record: &RunRecord) -> Proof {
        let receipt = self.node.config.wallet.as_ref().and_then(|wallet| {
            let signer = Signer {
                miner: &self.node.identity.node_id,
                wallet,
                key: &self.node.identity.key,
                nonce: self.node.random(),
            };
            receipts::receipt(&self.job, record, &signer)
        });
        Proof {
            id: self.job.id.to_string(),
            mode: record.mode,
            output_sha: record.output_sha,
            metrics: metrics::of_record(record),
            lease_token: Some(self.held.token),
            started_at: Some(record.started_at),
            finished_at: Some(completed_at(record)),
            exit_code: Some(0),
            result: output::inline_text(&self.dir.out_txt()).map(Value::String),
            artifacts: record.artifacts.clone(),
            receipt,
        }
    }

    /// Writes down how the attempt ended and hands the report to the outbox.
    fn conclude(&self, result: Result<Proof, Abandoned>) -> Option<oneshot::Receiver<Settled>> {
        let id = self.job.id;
        let body = match result {
            Ok(proof) => Body::Proof(Box::new(proof)),
            Err(Abandoned::Refused(refusal)) => {
                warn!(event = "job_failed", job_id = %id, code = %refusal.code,
                    "[JOB] failed id={id} code={} {}", refusal.code, refusal.message);
                if refusal.code == FailureCode::Deny {
                    self.node.audit.denied(self.node.now(), &self.job, &refusal);
                }
                Body::Fail(self.failure(&refusal))
            }
            Err(Abandoned::Lost(why)) => {
                warn!(event = "job_lost", job_id = %id, "[JOB] lost id={id}: {why}");
                self.node.leases.release(id, self.held.token);
                self.node.finish(&self.dir, self.held.token, Phase::Failed, Some(why));
                // A newer attempt waits until this one is over: the directory is still ours.
                self.node.strip(&self.dir);
                return None;
            }
            Err(Abandoned::Suspended) => {
                info!(event = "job_suspended", job_id = %id, "[JOB] suspended id={id}");
                return None;
            }
        };
        self.node.report(&self.dir, id, self.held.token, body)
    }

    fn failure(&self, refusal: &Refusal) -> Fail {
        let tail = match output::tail(&self.dir.stderr_log(), LOG_TAIL) {
            text if text.is_empty() => output::tail(&self.dir.out_txt(), LOG_TAIL),
            text => text,
        };
        let used = self.used.get();
        Fail {
            lease_token: Some(self.held.token),
            error_code: refusal.code,
            error_message: Some(refusal.message.clone()),
            metrics: used.map_or_else(Map::new, |(used, isolation)| {
                metrics::known(self.node.mode(&self.job), used, isolation)
            }),
            logs_tail: (!tail.is_empty()).then_some(tail),
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
        let updated_at: Timestamp = self.node.now();
        let state = State { phase, updated_at, job: self.job.clone(), run, error: None };
        Ok(self.dir.save(&state)?)
    }
}

fn collect(
    rules: &[protocol::job::ArtifactRule],
    dir: &JobDir,
    most: u64,
) -> Result<(protocol::Sha256Hex, Vec<ArtifactProof>), Refusal> {
    // On disk before the state says that the run is over: after a crash this file is proven.
    let synced = File::open(dir.out_txt()).and_then(|file| file.sync_all());
    let output_sha = synced
        .and_then(|()| output::hash_file(&dir.out_txt()))
        .map_err(|error| Refusal::new(FailureCode::Output, format!("out.txt: {error}")))?;
    Ok((output_sha, output::collect(rules, dir, most)?))
}
