//! How jobs and mining share this machine: who has which processors, who has the memory, and why.
//!
//! A job's arrival is decided on at once, on the thread that received it: the flags of the mining
//! threads are set before anything else is done about the job. Everything else (load, heat, people)
//! comes with the next look of `loops/idle_miner`. What is decided is in `mining::policy`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mining::engine::{Allowance, Engine, Phase, Status};
use mining::policy::{self, Class, Decision, Demand, Facts, Memory, Rule, Rules, State};
use protocol::job::SlotKind;
use protocol::{Amount, Job, JobId};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

mod claim;
mod controls;
mod earnings;
mod gate;

pub use claim::Claim;
pub use controls::{ControlError, Controls, FOR_EVER};
pub use gate::Gate;

use crate::clock;
use claim::Claimed;
use earnings::Earnings;

/// What RandomX's dataset and cache take, in MiB.
const DATASET_MB: u64 = 2336;

/// What its cache takes alone, in MiB.
const CACHE_MB: u64 = 256;

/// With less memory than this, in MiB, a dataset is never built.
const LEAST_FOR_DATASET_MB: u64 = 3072;

/// How long a job waits at most until mining threads have let go: longer than a hash takes. A thread
/// that needs longer is kept from its processor by others, and is in nobody's way.
const LONGEST_PARKING: Duration = Duration::from_millis(100);

/// The same until memory came back.
const LONGEST_GIVING: Duration = Duration::from_secs(3);

/// Pause between two looks at them.
const LOOK: Duration = Duration::from_micros(500);

/// What is shared, and by which rules.
pub struct Sharing {
    engine: OnceLock<Arc<dyn Engine>>,
    /// The processors that jobs may use.
    for_jobs: Vec<usize>,
    /// How many of them a job has that names no number.
    slot_share: usize,
    total_mb: Option<u64>,
    began: Instant,
    /// Locked before the desk, and while they are written to disk: a job does not wait for that.
    controls: Mutex<Controls>,
    desk: Mutex<Desk>,
    gate: watch::Sender<Gate>,
    /// Has the machine looked at again at once.
    pub wake: Notify,
    parked: Parked,
}

/// How long jobs waited for mining threads to let go.
#[derive(Debug, Default)]
struct Parked {
    count: AtomicU64,
    micros: AtomicU64,
    longest_micros: AtomicU64,
}

struct Desk {
    /// Those of the configuration, with what was changed since.
    rules: Rules,
    pause: Pause,
    facts: Facts,
    state: State,
    jobs: BTreeMap<u64, Claimed>,
    next: u64,
    allowed: Option<Allowance>,
    decision: Option<Decision>,
    earnings: Earnings,
}

/// How it all stands, for those who ask.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Standing {
    /// What is decided, and why; absent before the first look.
    pub decision: Option<Decision>,
    /// What it was decided by.
    pub facts: Facts,
    /// The engine; absent: none is configured.
    pub engine: Option<Status>,
    /// The jobs that have processors.
    pub jobs: Vec<JobId>,
    /// How many jobs are taken at once, where that follows how long they take.
    pub effective_task_slots: Option<u32>,
    /// How often a job arrived while something was mined.
    pub preemptions: u64,
    /// How long these jobs waited for threads to let go, on average and at most, in milliseconds.
    pub parking_ms: (f64, f64),
}

/// Until when there is peace, and why, if that was not the owner's wish.
#[derive(Default)]
struct Pause {
    until: Option<u64>,
    fault: Option<String>,
}

impl Pause {
    fn of(controls: &Controls) -> Self {
        Self { until: controls.snooze_until(), fault: controls.fault().map(str::to_owned) }
    }
}

impl Sharing {
    /// Of `processors` among mining and jobs, of which jobs may only have `for_jobs` (empty: all), and
    /// run `slots` at once. What was changed before is in `kept`.
    pub fn new(
        rules: &Rules,
        kept: PathBuf,
        processors: &[usize],
        for_jobs: &[usize],
        slots: u32,
    ) -> Self {
        let both = |number: &&usize| for_jobs.is_empty() || for_jobs.contains(number);
        let for_jobs: Vec<_> = processors.iter().filter(both).copied().collect();
        let controls = Controls::open(kept, rules);
        let rules = controls.rules(rules);
        let facts = Facts { processors: processors.to_vec(), ..Facts::default() };
        Self {
            engine: OnceLock::new(),
            slot_share: (for_jobs.len() / (slots.max(1) as usize)).max(1),
            for_jobs,
            total_mb: crate::facts::total_mb(),
            began: Instant::now(),
            gate: watch::Sender::new(Gate::Later),
            wake: Notify::new(),
            parked: Parked::default(),
            desk: Mutex::new(Desk {
                earnings: Earnings::new(&rules, slots),
                pause: Pause::of(&controls),
                rules,
                facts,
                state: State::default(),
                jobs: BTreeMap::new(),
                next: 0,
                allowed: None,
                decision: None,
            }),
            controls: Mutex::new(controls),
        }
    }

    /// Has `engine` mine whenever that is decided. Only the first one counts.
    pub fn employ(&self, engine: Arc<dyn Engine>) {
        if self.engine.set(engine).is_ok() {
            self.wake.notify_one();
        }
    }

    /// The engine, if there is one.
    pub fn engine(&self) -> Option<&Arc<dyn Engine>> {
        self.engine.get()
    }

    /// Milliseconds on the clock by which is decided.
    pub fn at_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Decides anew, by what was seen of the machine.
    pub fn look(&self, seen: Facts) {
        // Outside of the lock: an engine that is slow to tell must not hold up a job.
        let mining = self.engine.get().map(|engine| self.mining(&engine.status()));
        let mut desk = self.desk();
        desk.facts = Facts { mining: mining.unwrap_or_default(), ..seen };
        self.decide(&mut desk);
    }

    /// Decides anew, by nothing but that a look has not come back for as long as `unseen`.
    pub fn overlook(&self, unseen: Duration) {
        let mut desk = self.desk();
        desk.facts.unseen_s = unseen.as_secs();
        self.decide(&mut desk);
    }

    fn mining(&self, status: &Status) -> policy::Mining {
        let held_mb = status.memory_bytes >> 20;
        let is_small = self.total_mb.is_some_and(|total| total < LEAST_FOR_DATASET_MB);
        let need_mb = match status.algorithm {
            Some(algorithm) if algorithm != mining::Algorithm::RandomX => 0,
            _ if is_small => CACHE_MB,
            _ => DATASET_MB,
        };
        policy::Mining {
            threads_most: status.threads_most,
            memory_held_mb: held_mb,
            memory_need_mb: if held_mb > 0 { held_mb } else { need_mb },
            hashrate: status.hashrate.of_thread.map(|rate| rate * status.threads_most as f64),
            rebuild_s: status.dataset_took.map(|took| took.as_secs_f64()),
            has_gpu: false,
        }
    }

    /// Takes a job in: its processors are its own from now on, and the threads that mine there were
    /// told to let go when this returns.
    pub fn claim(self: &Arc<Self>, job: &Job) -> Claim {
        let arrived = Instant::now();
        // Threads that were told to let go a moment ago, for whatever reason, may not have yet.
        let busy = self.engine.get().is_some_and(|engine| engine.busy_threads() > 0);
        let fails =
            |engine: &Arc<dyn Engine>| matches!(engine.status().phase, Phase::Failed { .. });
        let can_mine = self.engine.get().is_some_and(|engine| !fails(engine));
        let mut desk = self.desk();
        let claimed = self.demand(&desk, job, can_mine);
        let processors = claimed.demand.processors.clone();
        let number = desk.next;
        desk.next += 1;
        desk.jobs.insert(number, claimed);
        let mined = desk.allowed.as_ref().is_some_and(|allowed| allowed.threads > 0);
        self.decide(&mut desk);
        drop(desk);
        Claim::new(Arc::clone(self), number, processors, arrived, mined || busy)
    }

    /// A job will be run: its memory counts from now on. What mining is left with.
    fn accept(&self, number: u64) -> Option<Allowance> {
        let mut desk = self.desk();
        let job = desk.jobs.get_mut(&number)?;
        if job.demand.memory_mb != job.memory_mb {
            job.demand.memory_mb = job.memory_mb;
            self.decide(&mut desk);
        }
        desk.allowed.clone()
    }

    fn demand(&self, desk: &Desk, job: &Job, can_mine: bool) -> Claimed {
        let rules = &desk.rules;
        let class = match job.priority {
            priority if priority >= rules.critical_priority => Class::Critical,
            priority if rules.low_priority.is_some_and(|low| priority <= low) => Class::Low,
            _ => Class::Normal,
        };
        let number = |count: Option<u32>| count.map(|count| count as usize);
        let threads = match number(job.requirements.cpu_threads) {
            Some(required) => required,
            None if class == Class::Low => 1,
            None => number(rules.job_threads).unwrap_or(self.slot_share),
        };
        let others: Vec<_> =
            desk.jobs.values().map(|other| other.demand.processors.as_slice()).collect();
        // The owner's pauses last; what stops mining by itself may be gone in a moment.
        let unix_s = u64::try_from(clock::now().micros() / 1_000_000).unwrap_or(0);
        let snoozed = desk.pause.until.is_some_and(|until| until > unix_s);
        let processors = if can_mine && rules.mining && !snoozed {
            policy::grant(&self.for_jobs, &others, threads)
        } else {
            // Nobody to be kept apart from.
            self.for_jobs.clone()
        };
        let memory_mb = job.limits.ram_mb.max(job.requirements.ram_mb).unwrap_or(0).into();
        let demand = Demand { processors, memory_mb: 0, class };
        Claimed { id: job.id, demand, memory_mb, on_gpu: job.slot == SlotKind::Gpu }
    }

    fn release(&self, number: u64) {
        let mut desk = self.desk();
        if desk.jobs.remove(&number).is_some() {
            self.decide(&mut desk);
        }
    }

    /// Decides by what is known, and has it done.
    fn decide(&self, desk: &mut Desk) {
        desk.facts.at_ms = self.at_ms().max(desk.facts.at_ms);
        desk.facts.unix_s = u64::try_from(clock::now().micros() / 1_000_000).unwrap_or(0);
        desk.facts.snooze_until = desk.pause.until;
        desk.facts.jobs = desk.jobs.values().map(|job| job.demand.clone()).collect();
        desk.facts.gpu_jobs = desk.jobs.values().filter(|job| job.on_gpu).count();
        desk.facts.jobs_pay_per_h = desk.earnings.per_hour();
        let (mut decision, state) = policy::decide(&desk.rules, &desk.facts, &desk.state);
        desk.state = state;
        if let Some(fault) = &desk.pause.fault {
            let Decision { cpu, gpu, jobs, others, .. } = &mut decision;
            let opinions = [cpu, gpu, jobs].into_iter().chain(others);
            for opinion in opinions.filter(|opinion| opinion.rule == Rule::Snoozed) {
                opinion.why.clone_from(fault);
            }
        }
        if let Some(engine) = self.engine.get() {
            let allowance = Allowance {
                threads: decision.threads,
                processors: decision.processors.clone(),
                give_memory_back: decision.memory == Memory::GiveBack,
            };
            if desk.allowed.as_ref() != Some(&allowance) {
                engine.allow(&allowance);
                desk.allowed = Some(allowance);
            }
            if decision.memory == Memory::GiveBack {
                // Until the next look: what is on its way back must not be counted on twice.
                desk.facts.mining.memory_held_mb = 0;
            }
        }
        let room = desk.earnings.slots().is_none_or(|most| desk.jobs.len() < most as usize);
        let gate = Gate::of(&decision, room);
        self.gate.send_if_modified(|now| std::mem::replace(now, gate) != gate);
        desk.decision = Some(decision);
    }

    /// A job ended well after `wall`, and pays that.
    pub fn earned(&self, price: Option<Amount>, wall: Duration) {
        let mut desk = self.desk();
        desk.earnings.take_in(price, wall);
        self.decide(&mut desk);
    }

    /// The rules in force, and until when the owner wants peace, as one object.
    pub fn controls(&self) -> serde_json::Map<String, serde_json::Value> {
        let controls = self.kept();
        controls.shown(&self.desk().rules)
    }

    /// Changes some of the rules, writes that down, and decides by them.
    ///
    /// # Errors
    /// The first change that cannot be; nothing is changed then.
    pub fn change(
        &self,
        changes: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), ControlError> {
        let mut controls = self.kept();
        let rules = controls.change(changes)?;
        let mut desk = self.desk();
        desk.pause = Pause::of(&controls);
        desk.earnings.follow(&rules);
        desk.rules = rules;
        self.decide(&mut desk);
        drop(desk);
        drop(controls);
        self.wake.notify_one();
        Ok(())
    }

    /// How it all stands.
    pub fn standing(&self) -> Standing {
        let engine = self.engine.get().map(|engine| engine.status());
        let desk = self.desk();
        let (count, micros) = (&self.parked.count, &self.parked.micros);
        let count = count.load(Ordering::Relaxed);
        let millis = |micros: u64| micros as f64 / 1000.0;
        let average = millis(micros.load(Ordering::Relaxed)) / count.max(1) as f64;
        Standing {
            decision: desk.decision.clone(),
            facts: desk.facts.clone(),
            engine,
            jobs: desk.jobs.values().map(|job| job.id).collect(),
            effective_task_slots: desk.earnings.slots(),
            preemptions: count,
            parking_ms: (average, millis(self.parked.longest_micros.load(Ordering::Relaxed))),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Each change is a whole one: a panic elsewhere leaves nothing half done.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parked {
    fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
