//! What the node tells the coordinator that it can do: the machine, within the owner's limits, as
//! far as a runner that works can make use of it.

use protocol::MinerCapabilities;
use protocol::job::{RunnerKind, SlotKind};
use protocol::miner::{CapabilityLimits, Gpu, Slots};
use protocol::{Amount, Name};
use serde_json::Map;

use super::{GpuDevice, Probe, mode};
use crate::config::{Config, SlotPlan};
use crate::identity::Identity;
use crate::runners::Offer;

/// How many jobs run at once, of which kinds.
pub fn slot_plan(probe: &Probe, config: &Config, offer: &Offer) -> SlotPlan {
    let gpus = match offered_mode(probe, config, offer) {
        SlotKind::Gpu => u32::try_from(offered_gpus(probe, offer).count()).unwrap_or(u32::MAX),
        SlotKind::Cpu => 0,
    };
    config.resources.slots(gpus)
}

/// The GPUs that jobs can use: through a server of the owner's any, else those that a program can be
/// given.
pub fn offered_gpus<'a>(probe: &'a Probe, offer: &Offer) -> impl Iterator<Item = &'a GpuDevice> {
    let serves_gpu = offer.serves_gpu;
    probe.usable_gpus().filter(move |gpu| serves_gpu || gpu.is_reachable())
}

fn offered_mode(probe: &Probe, config: &Config, offer: &Offer) -> SlotKind {
    mode(config.accel_mode, offer.reaches_gpu && offered_gpus(probe, offer).next().is_some()).0
}

/// The body of the registration.
pub fn miner_capabilities(
    probe: &Probe,
    config: &Config,
    identity: &Identity,
    offer: &Offer,
) -> MinerCapabilities {
    let mode = offered_mode(probe, config, offer);
    let plan = slot_plan(probe, config, offer);
    let gpus: Vec<Gpu> = match mode {
        SlotKind::Gpu => offered_gpus(probe, offer).map(wire_gpu).collect(),
        SlotKind::Cpu => Vec::new(),
    };
    let accepted = |workload: &&Name| config.accept.workloads.contains(workload);
    MinerCapabilities {
        miner_id: identity.node_id.clone(),
        mode,
        gpu: mode == SlotKind::Gpu,
        concurrency: plan.total,
        workloads: offer.workloads.iter().filter(accepted).cloned().collect(),
        limits: limits(probe, config, &gpus),
        gpus,
        runners: offer.runners.clone(),
        commands: offer.runners.contains(&RunnerKind::Cli).then(|| offer.commands.clone()),
        slots: Some(Slots { cpu: plan.cpu, gpu: plan.gpu }),
        models: offer.models.clone(),
        engines: offer.engines.clone(),
        region: config.region.clone(),
        wallet: config.wallet.clone(),
        pubkey: Some(identity.pubkey()),
        isolation: offer.isolation.clone(),
        mining: Map::new(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        price: Some(config.accept.min_price).filter(|price| *price > Amount::ZERO),
        egress: !config.egress.allow.is_empty(),
    }
}

fn wire_gpu(device: &GpuDevice) -> Gpu {
    Gpu {
        index: device.index,
        name: device.name.clone(),
        vram_mb: device.vram_total_mb,
        driver: device.driver.clone(),
        cuda: device.cuda.clone(),
    }
}

fn limits(probe: &Probe, config: &Config, gpus: &[Gpu]) -> CapabilityLimits {
    let at_most = |amount: u64, limit: Option<u32>| {
        Some(u32::try_from(amount).unwrap_or(u32::MAX).min(limit.unwrap_or(u32::MAX)))
    };
    CapabilityLimits {
        vram_mb: gpus.iter().map(|gpu| gpu.vram_mb).max(),
        ram_mb: at_most(probe.ram_mb(), config.resources.max_ram_mb),
        max_runtime_s: Some(config.accept.max_runtime_s),
        disk_mb: at_most(
            probe.disk.available_mb.saturating_sub(config.workspace.min_free_mb.into()),
            config.resources.max_disk_mb,
        ),
        cpu_cores: at_most(probe.cpu.usable_cores.into(), config.resources.max_cpu_threads),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::capabilities::{GpuDevice, gpu::Vendor, host};
    use crate::config::Selection;

    fn probe(gpus: Vec<GpuDevice>) -> Probe {
        Probe {
            cpu: host::Cpu {
                model: "A".to_owned(),
                architecture: "x86_64".to_owned(),
                physical_cores: Some(8),
                logical_cores: 16,
                usable_cores: 12,
                load_1m: 0.5,
                usage_pct: 1.0,
                per_core: Vec::new(),
            },
            memory: host::Memory { total_mb: 32_768, ..host::Memory::default() },
            disk: host::Disk { path: PathBuf::from("/"), total_mb: 9000, available_mb: 2024 },
            network: Vec::new(),
            gpus,
        }
    }

    fn card() -> GpuDevice {
        let nodes = vec![PathBuf::from("/dev/nvidia0")];
        GpuDevice { vram_total_mb: 16_384, nodes, ..GpuDevice::named("RTX", Vendor::Nvidia) }
    }

    fn capabilities(probe: &Probe, config: &Config, reaches_gpu: bool) -> MinerCapabilities {
        let identity = Identity {
            node_id: "rig7-gpu0".parse().unwrap(),
            key: ed25519_dalek::SigningKey::from_bytes(&[7; 32]),
        };
        let offer = Offer {
            runners: vec![RunnerKind::Builtin],
            workloads: vec!["hash".parse().unwrap(), "torch_bench".parse().unwrap()],
            models: vec!["llama3.2".parse().unwrap()],
            isolation: Some("bwrap".to_owned()),
            reaches_gpu,
            ..Offer::default()
        };
        miner_capabilities(probe, config, &identity, &offer)
    }

    #[test]
    fn the_machine_within_the_owners_limits() {
        let mut config = Config::default();
        config.resources.max_ram_mb = Some(4096);
        config.resources.max_concurrency = Some(3);
        config.accept.workloads = Selection::Only(vec!["hash".parse().unwrap()]);
        config.accept.min_price = "0.01".parse().unwrap();
        let told = capabilities(&probe(vec![card(); 2]), &config, true);
        assert_eq!((told.mode, told.gpu, told.concurrency), (SlotKind::Gpu, true, 3));
        assert_eq!(told.slots, Some(Slots { cpu: 3, gpu: 2 }));
        assert_eq!((told.limits.ram_mb, told.limits.vram_mb), (Some(4096), Some(16_384)));
        assert_eq!((told.limits.cpu_cores, told.limits.disk_mb), (Some(12), Some(1000)));
        assert_eq!(told.workloads, ["hash".parse().unwrap()]);
        assert_eq!(told.price.unwrap().to_string(), "0.01");
        assert_eq!(told.gpus.len(), 2);
        assert_eq!(told.models, ["llama3.2".parse().unwrap()]);
        assert!(!told.egress);
        config.egress.allow = vec!["example.org:443".parse().unwrap()];
        assert!(capabilities(&probe(vec![card(); 2]), &config, true).egress);
    }

    #[test]
    fn a_gpu_that_no_runner_reaches_is_not_offered() {
        let told = capabilities(&probe(vec![card()]), &Config::default(), false);
        assert_eq!((told.mode, told.gpu, told.gpus.len()), (SlotKind::Cpu, false, 0));
        assert_eq!((told.slots, told.limits.vram_mb), (Some(Slots { cpu: 1, gpu: 0 }), None));
    }

    #[test]
    fn a_gpu_of_which_only_the_name_is_known_is_not_offered() {
        let named = GpuDevice::named("RTX", Vendor::Nvidia);
        let told = capabilities(&probe(vec![named, card()]), &Config::default(), true);
        assert_eq!((told.gpus.len(), told.slots), (1, Some(Slots { cpu: 1, gpu: 1 })));
    }

    #[test]
    fn the_owner_can_keep_the_gpu() {
        let config = Config { accel_mode: crate::config::AccelMode::Cpu, ..Config::default() };
        assert_eq!(capabilities(&probe(vec![card()]), &config, true).mode, SlotKind::Cpu);
    }
}
