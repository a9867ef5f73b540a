//! The run of one attempt: whoever carries out the plan, what is measured meanwhile, and what the
//! ending means.

use std::fs::File;
use std::io;
use std::time::Duration;

use protocol::FailureCode;
use protocol::job::{Network, SlotKind};
use protocol::proof::ArtifactProof;
use serde_json::Map;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Abandoned, Attempt, no_egress};
use crate::egress::Way;
use crate::energy::Metered;
use crate::runners::report::{REPORTED, Report};
use crate::runners::{Plan, Refusal};
use crate::sandbox::container::{Contained, Container};
use crate::sandbox::{Command, Door, Ending, Gpu, Places, Run, SandboxError, Usage};
use crate::servers::{Call, Served, ServerError};
use crate::tally::Reply;
use crate::workdir::{JobDir, Phase, RunRecord};
use crate::{output, progress, servers};

/// Pause between two looks at how busy the GPU is.
const GPU_PAUSE: Duration = Duration::from_secs(2);

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

impl Attempt<'_> {
    pub(super) async fn execute(
        &self,
        plan: &Plan,
        mode: SlotKind,
        gpu: Option<Gpu>,
        processors: &[usize],
    ) -> Result<RunRecord, Abandoned> {
        self.enter(Phase::Running)?;
        let started_at = self.node.now();
        let done = self.run_plan(plan, mode, gpu, processors).await?;
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
        processors: &[usize],
    ) -> Result<Done, Abandoned> {
        let ended = CancellationToken::new();
        let running = self.node.tally.begin();
        let metered = self.node.energy.begin();
        let run = async {
            let run = match plan {
                Plan::Sandboxed(command) => self.run_program(command, gpu, processors).await,
                Plan::Contained(container) => self.run_container(container, processors).await,
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
        drop(running);
        let mut done = run?;
        self.node.tally.ran(mode, done.usage.wall);
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

    fn places(&self) -> Places {
        let places = self.dir.places();
        match &self.booking {
            Some(booking) => Places { written_bytes: booking.written_bytes(), ..places },
            None => places,
        }
    }

    async fn run_program(
        &self,
        command: &Command,
        gpu: Option<Gpu>,
        processors: &[usize],
    ) -> Result<Done, Abandoned> {
        let unavailable = || Refusal::new(FailureCode::Unsupported, "this node has no sandbox");
        let sandbox = self.node.sandbox.as_ref().ok_or_else(unavailable)?;
        let processors = processors.to_vec();
        let mut places = Places { gpu, processors, ..self.places() };
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

    async fn run_container(
        &self,
        container: &Container,
        processors: &[usize],
    ) -> Result<Done, Abandoned> {
        let unavailable = || Refusal::new(FailureCode::Unsupported, "no container runner here");
        let sandbox = self.node.sandbox.as_ref().ok_or_else(unavailable)?;
        let engine = self.node.runners.containers.as_ref().ok_or_else(unavailable)?.engine();
        let places = Places { processors: processors.to_vec(), ..self.places() };
        let interrupt = &self.held.interrupt;
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
        if let Some(reply) = reply(&served) {
            self.node.tally.asked(call.model(), reply);
        }
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
            Ending::DiskFull => {
                fail(FailureCode::Internal, "the node's disk is nearly full".to_owned())
            }
            Ending::Canceled => Err(self.stopped()),
        }
    }
}

/// What the books of its model say of a request; nothing where somebody broke it off.
fn reply(served: &Result<Served, ServerError>) -> Option<Reply> {
    Some(match served {
        Ok(Served { ending: Ending::Exited(0), wall, tokens, .. }) => {
            Reply::Answered { wall: *wall, tokens: tokens.unwrap_or(0) }
        }
        Ok(Served { ending: Ending::Canceled, .. }) => return None,
        Err(ServerError::Refused(_)) => Reply::Refused,
        Ok(_) | Err(_) => Reply::Failed,
    })
}

fn spent(max_mb: u32) -> Refusal {
    let why = format!("the job wants more than {max_mb} MiB of traffic, which this node gives");
    Refusal::new(FailureCode::Egress, why)
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
