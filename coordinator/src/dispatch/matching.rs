//! Matching rules: what a job needs, what a miner has, and the first reason why they do not meet.
//! Pure.

use protocol::job::{Network, RunnerKind, SlotKind};
use protocol::{Amount, Name, Sha256Hex};
use serde::{Deserialize, Serialize};

use crate::controls::InForce;
use crate::jobs::Spec;
use crate::miners::Miner;

/// What a job needs of a miner, with sizes rounded up to steps: equal needs share a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Needs {
    /// The workload.
    pub workload: Name,
    /// The runner.
    pub runner: RunnerKind,
    /// Program of a `cli` job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The kind of slot.
    pub slot: SlotKind,
    /// GPU memory in MiB.
    #[serde(default)]
    pub vram_mb: u32,
    /// Memory in MiB.
    #[serde(default)]
    pub ram_mb: u32,
    /// Scratch space in MiB.
    #[serde(default)]
    pub disk_mb: u32,
    /// Processor threads.
    #[serde(default)]
    pub cpu_threads: u32,
    /// Run time in seconds.
    #[serde(default)]
    pub max_runtime_s: u32,
    /// CUDA version, `major.minor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// Models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Name>,
    /// WebAssembly engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Name>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Network access.
    #[serde(default)]
    pub egress: bool,
    /// What a unit pays.
    pub unit_price: Amount,
}

/// The first requirement that a miner does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// It does not offer the workload.
    Workload,
    /// It has no such runner.
    Runner,
    /// The program is not on its allowlist.
    Command,
    /// It has no slot of that kind.
    Slot,
    /// Too little GPU memory: it has this much.
    Vram(u32),
    /// Too little memory: it has this much.
    Ram(u32),
    /// Too little scratch space: it has this much.
    Disk(u32),
    /// Too few processor threads: it has this many.
    CpuThreads(u32),
    /// It does not run jobs that long: at most this many seconds.
    Runtime(u32),
    /// Its driver does not serve that CUDA version.
    Cuda,
    /// It lacks a model.
    Model(Name),
    /// It has no such WebAssembly engine.
    Engine,
    /// It stands elsewhere.
    Region,
    /// It lets no job out to the network.
    Network,
    /// It asks for more than the job pays.
    Price(Amount),
    /// It said `E_NOGPU` and its capabilities have not changed since.
    GpuLost,
}

impl Unmet {
    /// Its name in answers.
    pub const fn requirement(&self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Runner => "runner",
            Self::Command => "command",
            Self::Slot => "slot",
            Self::Vram(_) => "vram_mb",
            Self::Ram(_) => "ram_mb",
            Self::Disk(_) => "disk_mb",
            Self::CpuThreads(_) => "cpu_threads",
            Self::Runtime(_) => "max_runtime_s",
            Self::Cuda => "cuda",
            Self::Model(_) => "model",
            Self::Engine => "engine",
            Self::Region => "region",
            Self::Network => "network",
            Self::Price(_) => "price",
            Self::GpuLost => "gpu",
        }
    }

    /// What a job needs of this kind, in the requirement's unit.
    pub fn needed(&self, needs: &Needs) -> Option<String> {
        let models = || needs.models.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        Some(match self {
            Self::Workload => needs.workload.to_string(),
            Self::Runner => needs.runner.to_string(),
            Self::Command => needs.command.clone()?,
            Self::Slot => needs.slot.to_string(),
            Self::Vram(_) => needs.vram_mb.to_string(),
            Self::Ram(_) => needs.ram_mb.to_string(),
            Self::Disk(_) => needs.disk_mb.to_string(),
            Self::CpuThreads(_) => needs.cpu_threads.to_string(),
            Self::Runtime(_) => needs.max_runtime_s.to_string(),
            Self::Cuda => needs.cuda.clone()?,
            Self::Model(_) => models(),
            Self::Engine => needs.engine.as_ref()?.to_string(),
            Self::Region => needs.region.as_ref()?.to_string(),
            Self::Network => "egress".to_owned(),
            Self::Price(_) => needs.unit_price.to_string(),
            Self::GpuLost => return None,
        })
    }
}

/// What keeps a miner from every job, whatever the job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barred {
    /// Its owner or an operator said that it gets no more jobs.
    Drain,
    /// An operator banned it or its wallet, and says why.
    Banned(String),
}

/// Why a miner gets no jobs at all; `None` where it does. Whatever takes a miner out of the market
/// is said here, so that the claim obeys it and `why` tells of it.
pub fn barred(miner: &Miner, in_force: &InForce) -> Option<Barred> {
    let banned = in_force.ban_of(&miner.id, &miner.wallet);
    banned
        .map(|reason| Barred::Banned(reason.to_owned()))
        .or_else(|| miner.drain.then_some(Barred::Drain))
}

/// Whether a miner may be handed a job of these needs, once it asks and has a free slot.
pub fn can_take(needs: &Needs, miner: &Miner, in_force: &InForce) -> bool {
    barred(miner, in_force).is_none() && unmet(needs, miner).is_none()
}

/// Rounds a size up to the next multiple of 1000 or of 1024, whichever comes first: sizes as people
/// and as machines write them stay what they are, and clients cannot mint endless classes.
fn step(mb: u32) -> u32 {
    mb.next_multiple_of(1000).min(mb.next_multiple_of(1024))
}

/// Rounds a run time up.
fn runtime_step(secs: u32) -> u32 {
    const STEPS: [u32; 9] = [60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 86_400, 7 * 86_400];
    STEPS.into_iter().find(|step| secs <= *step).unwrap_or(secs)
}

impl Needs {
    /// What a job needs.
    pub fn of(spec: &Spec) -> Self {
        let limits = &spec.limits;
        let requirements = &spec.requirements;
        let mut models = requirements.models.clone();
        models.sort();
        models.dedup();
        Self {
            workload: spec.workload.clone(),
            runner: spec.runner.kind,
            command: spec.command.clone(),
            slot: spec.slot,
            vram_mb: step(requirements.vram_mb.unwrap_or(0)),
            ram_mb: step(requirements.ram_mb.unwrap_or(0)),
            disk_mb: step(limits.disk_mb.unwrap_or(0)),
            cpu_threads: requirements.cpu_threads.unwrap_or(0),
            max_runtime_s: limits.max_runtime_s.map_or(0, runtime_step),
            cuda: requirements.cuda.clone(),
            models,
            engine: requirements.engine.clone(),
            region: requirements.region.clone(),
            egress: limits.network == Some(Network::Egress),
            unit_price: spec.price.unit_price,
        }
    }

    /// The hash by which the class is found.
    pub fn digest(&self) -> Sha256Hex {
        // Fields in order of declaration: the same needs always give the same text.
        Sha256Hex::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// The first reason why `miner` cannot run a job of these needs; `None` where it can.
///
/// A miner that never registered stated nothing but its mode: it meets what is not measured.
pub fn unmet(needs: &Needs, miner: &Miner) -> Option<Unmet> {
    let has = &miner.capabilities;
    if !has.workloads.contains(&needs.workload) {
        return Some(Unmet::Workload);
    }
    if miner.registered {
        if !has.runners.contains(&needs.runner) {
            return Some(Unmet::Runner);
        }
        if let (Some(command), Some(allowed)) = (&needs.command, &has.commands)
            && !allowed.contains(command)
        {
            return Some(Unmet::Command);
        }
    }
    if slots(miner, needs.slot) == 0 {
        return Some(Unmet::Slot);
    }
    if needs.slot == SlotKind::Gpu && miner.gpu_lost {
        return Some(Unmet::GpuLost);
    }
    sizes(needs, miner).or_else(|| kinds(needs, miner))
}

fn sizes(needs: &Needs, miner: &Miner) -> Option<Unmet> {
    let has = &miner.capabilities;
    let limits = &has.limits;
    // Several GPUs do not add up: a job gets one.
    let largest = has.gpus.iter().map(|gpu| gpu.vram_mb).max();
    let vram = limits.vram_mb.or(largest);
    let short = |need: u32, have: Option<u32>| {
        // Who registered without saying how much there is has none to offer.
        let have = have.or_else(|| miner.registered.then_some(0))?;
        (need > have).then_some(have)
    };
    short(needs.vram_mb, vram)
        .map(Unmet::Vram)
        .or_else(|| short(needs.ram_mb, limits.ram_mb).map(Unmet::Ram))
        .or_else(|| short(needs.disk_mb, limits.disk_mb).map(Unmet::Disk))
        .or_else(|| short(needs.cpu_threads, limits.cpu_cores).map(Unmet::CpuThreads))
        .or_else(|| {
            let most = limits.max_runtime_s?;
            (needs.max_runtime_s > most).then_some(Unmet::Runtime(most))
        })
}

fn kinds(needs: &Needs, miner: &Miner) -> Option<Unmet> {
    let has = &miner.capabilities;
    if let Some(cuda) = &needs.cuda
        && !has
            .gpus
            .iter()
            .filter_map(|gpu| gpu.cuda.as_deref())
            .any(|v| version(v) >= version(cuda))
    {
        return Some(Unmet::Cuda);
    }
    if let Some(model) = needs.models.iter().find(|model| !has.models.contains(model)) {
        return Some(Unmet::Model(model.clone()));
    }
    if let Some(engine) = &needs.engine
        && !has.engines.contains(engine)
    {
        return Some(Unmet::Engine);
    }
    if needs.region.is_some() && needs.region != has.region {
        return Some(Unmet::Region);
    }
    if needs.egress && miner.registered && !has.egress {
        return Some(Unmet::Network);
    }
    has.price.filter(|least| *least > needs.unit_price).map(Unmet::Price)
}

/// How many jobs of a kind of slot the miner runs at once.
pub fn slots(miner: &Miner, kind: SlotKind) -> u32 {
    let has = &miner.capabilities;
    match (has.slots, kind) {
        (Some(slots), SlotKind::Cpu) => slots.cpu.min(has.concurrency),
        (Some(slots), SlotKind::Gpu) => slots.gpu.min(has.concurrency),
        // Without slots by kind, a GPU node takes either, as many as it said.
        (None, SlotKind::Cpu) => has.concurrency,
        (None, SlotKind::Gpu) => u32::from(has.gpu) * has.concurrency,
    }
}

/// A version, as versions compare: part by part; a part that is no number counts as 0.
pub fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::job::SlotKind;
    use protocol::miner::MinerCapabilities;
    use serde_json::{Value, json};

    use super::*;

    pub fn miner(change: Value) -> Miner {
        let mut capabilities = json!({
            "miner_id": "m", "mode": "gpu", "gpu": 1, "concurrency": 2,
            "workloads": ["llm_gen", "cli"], "runners": ["ollama", "cli"], "commands": ["gzip"],
            "limits": {"vram_mb": 16000, "ram_mb": 32768, "max_runtime_s": 3600, "cpu_cores": 8},
            "gpus": [{"index": 0, "name": "g", "vram_mb": 16384, "cuda": "12.4"}],
            "models": ["llama3.2:latest"], "engines": ["wasmtime-36"], "region": "eu",
            "price": "0.01",
        });
        for (key, value) in change.as_object().unwrap() {
            capabilities[key] = value.clone();
        }
        let capabilities: MinerCapabilities = serde_json::from_value(capabilities).unwrap();
        Miner {
            no: 1,
            id: capabilities.miner_id.clone(),
            wallet: "w".parse().unwrap(),
            registered: true,
            pubkey: None,
            drain: false,
            gpu_lost: false,
            capabilities,
        }
    }

    pub fn needs(change: Value) -> Needs {
        let mut needs = json!({
            "workload": "llm_gen", "runner": "ollama", "slot": "gpu", "unit_price": "0.02",
        });
        for (key, value) in change.as_object().unwrap() {
            needs[key] = value.clone();
        }
        serde_json::from_value(needs).unwrap()
    }

    #[test]
    fn every_requirement_has_its_reason() {
        let cases = [
            (json!({}), None),
            (json!({"workload": "sd_infer"}), Some(Unmet::Workload)),
            (json!({"runner": "python"}), Some(Unmet::Runner)),
            (json!({"workload": "cli", "runner": "cli", "slot": "cpu", "command": "gzip"}), None),
            (
                json!({"workload": "cli", "runner": "cli", "slot": "cpu", "command": "rm"}),
                Some(Unmet::Command),
            ),
            (json!({"vram_mb": 16000}), None),
            (json!({"vram_mb": 24000}), Some(Unmet::Vram(16000))),
            (json!({"ram_mb": 32768}), None),
            (json!({"ram_mb": 33000}), Some(Unmet::Ram(32768))),
            (json!({"disk_mb": 1000}), Some(Unmet::Disk(0))),
            (json!({"cpu_threads": 9}), Some(Unmet::CpuThreads(8))),
            (json!({"max_runtime_s": 14400}), Some(Unmet::Runtime(3600))),
            (json!({"cuda": "12.4"}), None),
            (json!({"cuda": "12.10"}), Some(Unmet::Cuda)),
            (json!({"models": ["llama3.2:latest"]}), None),
            (json!({"models": ["qwen"]}), Some(Unmet::Model("qwen".parse().unwrap()))),
            (json!({"engine": "wasmtime-36"}), None),
            (json!({"engine": "wasmtime-47"}), Some(Unmet::Engine)),
            (json!({"region": "us"}), Some(Unmet::Region)),
            (json!({"egress": true}), Some(Unmet::Network)),
            (json!({"unit_price": "0.009"}), Some(Unmet::Price("0.01".parse().unwrap()))),
        ];
        for (change, expected) in cases {
            assert_eq!(unmet(&needs(change.clone()), &miner(json!({}))), expected, "{change}");
        }
    }

    #[test]
    fn a_class_from_before_engines_is_still_found() {
        let old = r#"{"workload":"llm_gen","runner":"ollama","slot":"gpu","vram_mb":0,"ram_mb":0,"disk_mb":0,"cpu_threads":0,"max_runtime_s":0,"egress":false,"unit_price":"0.02"}"#;
        let needs = needs(json!({}));
        assert_eq!(serde_json::to_string(&needs).unwrap(), old);
        assert_eq!(needs.digest(), Sha256Hex::of(old.as_bytes()));
    }

    #[test]
    fn who_lets_jobs_out_to_the_network_gets_those_that_ask_for_it() {
        let gateway = miner(json!({"egress": true}));
        for egress in [true, false] {
            assert_eq!(unmet(&needs(json!({"egress": egress})), &gateway), None);
        }
    }

    #[test]
    fn no_gpu_no_gpu_job() {
        let cpu_only = miner(json!({"gpu": 0, "mode": "cpu"}));
        assert_eq!(unmet(&needs(json!({})), &cpu_only), Some(Unmet::Slot));
        let mut lost = miner(json!({}));
        lost.gpu_lost = true;
        assert_eq!(unmet(&needs(json!({})), &lost), Some(Unmet::GpuLost));
    }

    #[test]
    fn the_seed_s_script_states_nothing_and_meets_what_is_not_measured() {
        let mut script = miner(json!({"limits": {}, "runners": [], "gpus": [], "price": null}));
        script.registered = false;
        let unmeasured = json!({"ram_mb": 64000, "slot": "cpu", "egress": true});
        assert_eq!(unmet(&needs(unmeasured), &script), None);
    }

    #[test]
    fn sizes_round_up_to_what_people_and_machines_write() {
        for (size, class) in [(0, 0), (1, 1000), (8192, 8192), (12_000, 12_000), (12_001, 12_288)] {
            assert_eq!(step(size), class);
        }
        assert_eq!((runtime_step(1), runtime_step(61), runtime_step(3600)), (60, 300, 3600));
        assert_eq!(SlotKind::Gpu.as_str(), "gpu");
    }
}
