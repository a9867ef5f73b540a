//! When to mine, and with how much: a pure function of facts, the owner's rules, and what was
//! decided before.
//!
//! Each rule says by itself how many threads it lets run, and why; the strictest one decides, so
//! that there is always one reason, and a list of what would decide next. What lives here: the rules
//! and their arithmetic. What does not: how facts are found out, and what is done with a decision.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod decimal;
mod environment;
mod facts;
mod memory;
mod partition;
mod revenue;
mod rules;
mod slice;
mod tuning;
mod window;

pub use decimal::Decimal;
pub use facts::{Class, Demand, Facts, LocalTime, Mining};
pub use partition::{free, grant};
pub use revenue::Numbers;
pub use rules::{Problem, Rules};
pub use tuning::Tuner;
pub use window::Window;

/// The rules, by name; those that come first are named where several are as strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The owner switched it off.
    Off,
    /// The owner wants peace for a while.
    Snoozed,
    /// A job that nothing may slow down runs.
    CriticalJob,
    /// The machine could not be looked at.
    Unseen,
    /// The machine runs on its battery.
    Battery,
    /// It is too hot.
    Temperature,
    /// It takes too much power.
    Power,
    /// It is not the time for it.
    Schedule,
    /// There is too little memory.
    Memory,
    /// Energy costs more than the hashes are worth, or the other way of earning pays more.
    Revenue,
    /// Somebody uses keyboard, mouse or a terminal.
    Input,
    /// Other programs are at work.
    Load,
    /// Other programs wait for processors.
    Pressure,
    /// It was stopped a moment ago.
    Quantum,
    /// It is the other one's turn.
    Slice,
    /// Jobs have the processors.
    Jobs,
    /// The owner's cap.
    Cap,
    /// Nothing stands against it.
    Idle,
}

impl Rule {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Snoozed => "snoozed",
            Self::CriticalJob => "critical_job",
            Self::Unseen => "unseen",
            Self::Battery => "battery",
            Self::Temperature => "temperature",
            Self::Power => "power",
            Self::Schedule => "schedule",
            Self::Memory => "memory",
            Self::Revenue => "revenue",
            Self::Input => "input",
            Self::Load => "load",
            Self::Pressure => "pressure",
            Self::Quantum => "quantum",
            Self::Slice => "slice",
            Self::Jobs => "jobs",
            Self::Cap => "cap",
            Self::Idle => "idle",
        }
    }
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// Which rule.
    pub rule: Rule,
    /// How many threads it lets run; for a GPU the intensity in per cent, for jobs 1 or 0.
    pub most: usize,
    /// Why, with the numbers that it used.
    pub why: String,
    /// What would change it.
    pub change: String,
}

impl Opinion {
    fn new(rule: Rule, most: usize, why: impl Into<String>, change: impl Into<String>) -> Self {
        Self { rule, most, why: why.into(), change: change.into() }
    }
}

/// What becomes of the dataset's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// It stays, also over a pause.
    #[default]
    Keep,
    /// It goes back to the machine; building it anew takes its time.
    GiveBack,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// How many mining threads run.
    pub threads: usize,
    /// On which processors, none of which a job has.
    pub processors: Vec<usize>,
    /// The memory.
    pub memory: Memory,
    /// Why the memory is given back, if it is.
    pub memory_why: Option<String>,
    /// What decides on the processors.
    pub cpu: Opinion,
    /// All that has an opinion on them, the strictest first.
    pub others: Vec<Opinion>,
    /// What decides on the GPU; [`Opinion::most`] is the intensity in per cent.
    pub gpu: Opinion,
    /// What decides whether jobs are taken; [`Opinion::most`] is 1 if they are.
    pub jobs: Opinion,
    /// The numbers of the choice between jobs and mining, where there are any.
    pub revenue: Option<Numbers>,
}

impl Decision {
    /// Whether jobs may be asked for.
    pub const fn takes_jobs(&self) -> bool {
        self.jobs.most > 0
    }

    /// The intensity of a GPU miner, in per cent.
    pub const fn gpu_intensity(&self) -> usize {
        self.gpu.most
    }
}

/// What earlier decisions leave for later ones. The default is that of a start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    environment: environment::State,
    memory: memory::State,
    revenue: revenue::State,
    slice: slice::State,
}

/// Decides. Times in `facts` must not run backwards from one call to the next.
pub fn decide(rules: &Rules, facts: &Facts, state: &State) -> (Decision, State) {
    let mut next = state.clone();
    let all = facts.processors.len().min(facts.mining.threads_most);
    let numbers = revenue::numbers(rules, facts);
    let prefers = next.revenue.choose(rules, numbers.as_ref());
    let turn = next.slice.turn(rules, facts);

    let outside = next.environment.opinions(rules, facts, all);
    let mut opinions = owner(rules, facts, all);
    opinions.extend(next.environment.held(rules, facts, outside, all));
    opinions.extend(prefers.against_mining());
    opinions.extend(partition::opinions(facts, all));
    opinions.extend(next.memory.opinion(rules, facts));
    opinions.sort_by_key(|opinion| (opinion.most, opinion.rule));
    let cpu = opinions.first().cloned().unwrap_or_else(|| idle(all));

    let threads = cpu.most;
    let given = next.memory.decide(rules, facts, &cpu);
    let gpu = gpu(rules, facts, &opinions, all);
    let jobs = jobs(rules, facts, &opinions, prefers.against_jobs(), turn);
    let processors = free(facts).into_iter().take(threads).collect();
    let decision = Decision {
        threads,
        processors,
        memory: if given.is_some() { Memory::GiveBack } else { Memory::Keep },
        memory_why: given,
        others: opinions.into_iter().skip(1).collect(),
        cpu,
        gpu,
        jobs,
        revenue: numbers,
    };
    (decision, next)
}

/// What the owner wants, whatever the machine is at.
fn owner(rules: &Rules, facts: &Facts, all: usize) -> Vec<Opinion> {
    let mut opinions = vec![idle(all)];
    if !rules.mining {
        let change = "miner-node ctl mining on";
        opinions.push(Opinion::new(Rule::Off, 0, "mining is switched off", change));
    }
    if let Some(rest) = facts.snoozed_for() {
        let why = format!("paused by the owner for {} more", words(rest));
        opinions.push(Opinion::new(Rule::Snoozed, 0, why, "miner-node ctl resume"));
    }
    let by_share = share(all, rules.cpu_pct);
    let by_count = rules.cpu_threads.map_or(all, |most| (most as usize).min(all));
    if by_share.min(by_count) < all {
        let why = if by_count < by_share {
            format!("at most {by_count} of {all} threads (cpu_threads)")
        } else {
            format!("at most {by_share} of {all} threads ({} %)", rules.cpu_pct)
        };
        let change = "miner-node ctl set cpu_pct=100, or cpu_threads=";
        opinions.push(Opinion::new(Rule::Cap, by_share.min(by_count), why, change));
    }
    opinions
}

fn idle(all: usize) -> Opinion {
    let why = format!("nothing stands against it; {all} threads can run");
    Opinion::new(Rule::Idle, all, why, "input, load, or a job")
}

fn gpu(rules: &Rules, facts: &Facts, opinions: &[Opinion], all: usize) -> Opinion {
    if !facts.mining.has_gpu {
        return Opinion::new(
            Rule::Off,
            0,
            "this engine mines on no GPU, so the intensity has no effect",
            "an engine whose GPU miner can be tuned; this build has none",
        );
    }
    // What only concerns processors leaves a GPU alone.
    let about_processors = [Rule::Jobs, Rule::Cap, Rule::Idle, Rule::Memory];
    let most = usize::from(rules.gpu_intensity.min(100));
    let scaled = |opinion: &Opinion| most * opinion.most / all.max(1);
    let mut found: Vec<_> = opinions
        .iter()
        .filter(|opinion| !about_processors.contains(&opinion.rule))
        .map(|opinion| Opinion { most: scaled(opinion), ..opinion.clone() })
        .collect();
    if facts.gpu_jobs > 0 {
        let why = format!("{} jobs have a GPU", facts.gpu_jobs);
        found.push(Opinion::new(Rule::Jobs, 0, why, "the end of the job"));
    }
    let rule = if most < 100 { Rule::Cap } else { Rule::Idle };
    let why = format!("an intensity of {most} % is allowed");
    found.push(Opinion::new(rule, most, why, "miner-node ctl set gpu_intensity=N"));
    found.sort_by_key(|opinion| (opinion.most, opinion.rule));
    found.swap_remove(0)
}

fn jobs(
    rules: &Rules,
    facts: &Facts,
    opinions: &[Opinion],
    revenue: Option<Opinion>,
    turn: Option<Opinion>,
) -> Opinion {
    if !rules.compute {
        return Opinion::new(Rule::Off, 0, "jobs are switched off", "miner-node ctl compute on");
    }
    if let Some(rest) = facts.snoozed_for() {
        let why = format!("paused by the owner for {} more", words(rest));
        return Opinion::new(Rule::Snoozed, 0, why, "miner-node ctl resume");
    }
    let about_the_owner = [
        Rule::Unseen,
        Rule::Battery,
        Rule::Temperature,
        Rule::Power,
        Rule::Schedule,
        Rule::Input,
        Rule::Load,
    ];
    let in_the_way = |opinion: &&Opinion| about_the_owner.contains(&opinion.rule);
    if !rules.compute_in_use
        && let Some(opinion) = opinions.iter().find(in_the_way)
    {
        return Opinion { most: 0, ..opinion.clone() };
    }
    revenue.or(turn).unwrap_or_else(|| {
        let why = format!("jobs are taken as they come; {} at work", facts.jobs.len());
        Opinion::new(Rule::Idle, 1, why, "miner-node ctl compute off")
    })
}

/// `pct` per cent of `all`; at least one where it is not zero.
fn share(all: usize, pct: u8) -> usize {
    let part = all * usize::from(pct.min(100)) / 100;
    if pct > 0 { part.max(1).min(all) } else { 0 }
}

/// A time as people say it.
fn words(secs: u64) -> String {
    match Duration::from_secs(secs).as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs.div_ceil(60)),
        secs => format!("{} h", secs.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests;
