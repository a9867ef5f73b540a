//! What the node knows of its machine: what it offers of it, how busy it is, and what is new about it.

use std::sync::{Arc, PoisonError};

use protocol::job::SlotKind;
use protocol::{Job, MinerCapabilities};
use serde_json::{Map, Value};
use tracing::info;

use super::start::complain_of_server;
use super::{Node, blocking};
use crate::capabilities::{GpuDevice, miner_capabilities};
use crate::listener::Machine;
use crate::runners::Ceilings;
use crate::sandbox::VramMeter;

impl Node {
    /// Looks again at what the machine has. If that changed, the coordinator will be told.
    pub async fn look_again(&self) {
        let (sensors, root) = (Arc::clone(&self.sensors), self.workspace.root().to_owned());
        let probe =
            blocking(move || sensors.lock().unwrap_or_else(PoisonError::into_inner).probe(&root));
        let Ok(mut probe) = probe.await else { return };
        // What its jobs have written comes back when they end.
        let available = &mut probe.disk.available_mb;
        *available = available.saturating_add(self.capacity.written_mb());
        let offer = self.runners.offer(self.offer.isolation.as_deref());
        let new = miner_capabilities(&probe, &self.config, &self.identity, &offer);
        let Some(new) = news(&self.capabilities(), new) else { return };
        info!(event = "capabilities_changed", "this machine has changed; registering again");
        *self.capabilities.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.standing.send_modify(|standing| standing.registered = false);
        self.heartbeat_wake.notify_one();
    }

    /// Asks the owner's servers again what they have. If that changed, the coordinator will be told.
    pub async fn look_at_servers(&self) {
        if self.runners.refresh(complain_of_server).await {
            self.look_again().await;
        }
    }

    /// On what a job will run.
    pub fn mode(&self, job: &Job) -> SlotKind {
        match job.slot {
            SlotKind::Gpu if self.capabilities().gpu => SlotKind::Gpu,
            SlotKind::Gpu | SlotKind::Cpu => SlotKind::Cpu,
        }
    }

    /// Who knows what processes hold of the memory of a GPU, if anybody does.
    pub fn vram_meter(&self, gpu: &GpuDevice) -> Option<VramMeter> {
        self.sensors.lock().unwrap_or_else(PoisonError::into_inner).vram_meter(gpu)
    }

    /// The most that any job may use.
    pub fn ceilings(&self) -> Ceilings {
        let capabilities = self.capabilities();
        let (offered, jobs) = (&capabilities.limits, capabilities.concurrency.max(1));
        let share = |all: u64| u32::try_from(all / u64::from(jobs)).unwrap_or(u32::MAX).max(1);
        // Jobs that ask for nothing always fit beside each other.
        let usual_ram_mb = share(self.capacity.ram_mb()).min(offered.ram_mb.unwrap_or(u32::MAX));
        let disk_mb = self.free_mb().saturating_add(self.capacity.written_mb());
        let output_mb = self.config.resources.max_output_mb;
        let usual_disk_mb = share(disk_mb).min(offered.disk_mb.unwrap_or(u32::MAX)).min(output_mb);
        Ceilings {
            runtime_s: self.config.accept.max_runtime_s,
            ram_mb: offered.ram_mb,
            usual_ram_mb: Some(usual_ram_mb),
            disk_mb: offered.disk_mb,
            usual_disk_mb: Some(usual_disk_mb),
            output_mb,
            cpu_threads: offered.cpu_cores,
            busy_threads: self.config.resources.max_cpu_threads,
            // Jobs are taken down to the floor itself: what is written beside the count, by jobs or
            // others, has the other half.
            least_free_mb: self.config.workspace.min_free_mb / 2,
            processes: self.config.sandbox.max_processes.into(),
            open_files: self.config.sandbox.max_open_files.into(),
        }
    }

    /// How busy the machine is.
    pub async fn load(&self) -> Map<String, Value> {
        let (sensors, root) = (Arc::clone(&self.sensors), self.workspace.root().to_owned());
        let load = move || {
            // A sensor that panicked leaves at worst a wrong rate.
            sensors.lock().unwrap_or_else(PoisonError::into_inner).load(&root)
        };
        tokio::task::spawn_blocking(load).await.unwrap_or_default()
    }

    /// How busy the machine is at this moment, for those who ask.
    pub async fn machine(&self) -> Option<Machine> {
        let (sensors, root) = (Arc::clone(&self.sensors), self.workspace.root().to_owned());
        let look =
            move || Machine::now(&sensors.lock().unwrap_or_else(PoisonError::into_inner), &root);
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// How busy the busiest GPU is, in per cent; `None` where no job reaches one. May start a
    /// program where there is no NVML.
    pub async fn busiest_gpu(&self) -> Option<u32> {
        if !self.capabilities().gpu {
            return None;
        }
        let sensors = Arc::clone(&self.sensors);
        let look = move || sensors.lock().unwrap_or_else(PoisonError::into_inner).gpus();
        let gpus = tokio::task::spawn_blocking(look).await.ok()?;
        gpus.iter().filter(|gpu| gpu.is_usable()).filter_map(|gpu| gpu.utilization_pct).max()
    }
}

/// What is new about the machine, if anything is worth telling: how many jobs run at once stays as
/// it was at the start, and free space that went up or down by less than an eighth is no news.
fn news(old: &MinerCapabilities, mut new: MinerCapabilities) -> Option<MinerCapabilities> {
    new.concurrency = old.concurrency;
    new.slots = old.slots;
    if let (Some(before), Some(now)) = (old.limits.disk_mb, new.limits.disk_mb)
        && before.abs_diff(now) < before / 8
    {
        new.limits.disk_mb = Some(before);
    }
    (new != *old).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(disk_mb: u32, ram_mb: u32) -> MinerCapabilities {
        serde_json::from_value(serde_json::json!({
            "miner_id": "m", "mode": "cpu", "gpu": false, "concurrency": 2,
            "limits": {"disk_mb": disk_mb, "ram_mb": ram_mb},
        }))
        .unwrap()
    }

    #[test]
    fn a_machine_that_changed_is_news_and_a_little_disk_is_not() {
        let old = capabilities(8000, 1000);
        assert_eq!(news(&old, capabilities(8000, 1000)), None);
        assert_eq!(news(&old, capabilities(7001, 1000)), None);
        assert_eq!(news(&old, capabilities(6000, 1000)), Some(capabilities(6000, 1000)));
        assert_eq!(news(&old, capabilities(8000, 2000)), Some(capabilities(8000, 2000)));
        let mut more = capabilities(8000, 1000);
        more.concurrency = 3;
        assert_eq!(news(&old, more), None);
    }
}
