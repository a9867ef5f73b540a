//! Jobs on GPUs: each on one of its own. The GPUs are made up, at the outermost place: what the
//! driver says, and device files that are plain files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use miner_node::capabilities::Sensors;
use miner_node::capabilities::gpu::{DeviceProbe, GpuDevice, NoDevices, Vendor};
use miner_node::sandbox::VramMeter;
use protocol::JobId;
use protocol::job::SlotKind;
use serde_json::{Value, json};

use crate::rig::{Rig, Running, eventually};

/// A driver with two GPUs, which says that every process holds so many bytes, if it knows.
struct Driver {
    devices: PathBuf,
    held: Option<u64>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DeviceProbe for Driver {
    fn name(&self) -> &'static str {
        "made up"
    }

    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices> {
        let gpu = |index: u32| GpuDevice {
            index,
            vram_total_mb: 16_384,
            uuid: Some(format!("GPU-{index}")),
            nodes: [format!("nvidia{index}"), "nvidiactl".to_owned()]
                .map(|name| self.devices.join(name))
                .to_vec(),
            ..GpuDevice::named("A", Vendor::Nvidia)
        };
        Ok(vec![gpu(0), gpu(1)])
    }

    fn vram_meter(&self, uuid: &str) -> Option<VramMeter> {
        let (asked, uuid, held) = (Arc::clone(&self.asked), uuid.to_owned(), self.held?);
        Some(Arc::new(move |pids| {
            // Asked for processes that are there, and never for the node's own.
            assert!(!pids.contains(&std::process::id()));
            asked.lock().unwrap().push(uuid.clone());
            Some(held)
        }))
    }
}

struct Gpus {
    rig: Rig,
    node: Running,
    devices: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gpus {
    async fn new(held: impl Into<Option<u64>>) -> Self {
        let held = held.into();
        let rig = Rig::new().await;
        rig.allow(
            "sh",
            "command: {path: /usr/bin/dash, name: sh}\nargs: [['-c', '(?s).*']]\ngpu: true\n",
        );
        let devices = rig.root.path().join("devices");
        fs::create_dir(&devices).unwrap();
        for name in ["nvidia0", "nvidia1", "nvidiactl"] {
            fs::write(devices.join(name), "").unwrap();
        }
        let asked = Arc::default();
        let driver = Driver { devices: devices.clone(), held, asked: Arc::clone(&asked) };
        let node = rig.run_with_sensors(Sensors::with_gpus(vec![Box::new(driver)])).await;
        Self { rig, node, devices, asked }
    }

    async fn submit(&self, script: &str, limits: Value) -> JobId {
        let job = json!({
            "command": "sh", "args": ["-c", script], "max_attempts": 1,
            "constraints": {"gpu": true}, "limits": limits,
        });
        self.rig.submit(job).await
    }

    async fn text(&self, id: JobId) -> String {
        self.rig.result(id).await.result.unwrap().as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn two_jobs_at_once_have_a_gpu_each_and_see_no_other() {
    let gpus = Gpus::new(5 << 20).await;
    let told = gpus.node.node.capabilities();
    assert_eq!((told.gpus.len(), told.slots.unwrap().gpu), (2, 2));
    let script = format!(
        "ls {}; echo $CUDA_VISIBLE_DEVICES; touch here; while [ ! -e go ]; do sleep 0.05; done",
        gpus.devices.display()
    );
    let ids = [gpus.submit(&script, json!({})).await, gpus.submit(&script, json!({})).await];
    let works = |id: &JobId| gpus.rig.job_dir(*id).join("work");
    eventually(async || ids.iter().all(|id| works(id).join("here").exists()).then_some(())).await;
    // Each is looked at while both hold their GPU.
    eventually(async || {
        let asked = gpus.asked.lock().unwrap();
        ["GPU-0", "GPU-1"].iter().all(|uuid| asked.iter().any(|one| one == uuid)).then_some(())
    })
    .await;
    for id in &ids {
        fs::write(works(id).join("go"), "").unwrap();
    }
    let mut seen = Vec::new();
    for id in ids {
        seen.push(gpus.text(id).await);
        let metrics = gpus.rig.result(id).await.metrics;
        assert_eq!(metrics["peak_vram_mb"], 5);
        assert!(metrics.contains_key("gpu_seconds"));
    }
    seen.sort();
    assert_eq!(seen, ["nvidia0\nnvidiactl\nGPU-0\n", "nvidia1\nnvidiactl\nGPU-1\n"]);

    let cpu = gpus.rig.submit_script(&format!("ls {}", gpus.devices.display())).await;
    gpus.rig.failed(cpu, "E_EXIT").await;
    gpus.node.end().await;
}

#[tokio::test]
async fn more_gpu_memory_than_the_job_may_have_ends_it() {
    let gpus = Gpus::new((2 << 30) + 1).await;
    let id = gpus.submit("exec sleep 1000", json!({"vram_mb": 2048})).await;
    let error = gpus.rig.failed(id, "E_OOM").await.error.unwrap();
    assert!(error.message.contains("memory"), "{}", error.message);
    gpus.node.end().await;
}

#[tokio::test]
async fn a_gpu_that_is_gone_is_no_gpu() {
    let gpus = Gpus::new(0).await;
    for name in ["nvidia0", "nvidia1"] {
        fs::remove_file(Path::new(&gpus.devices).join(name)).unwrap();
    }
    let id = gpus.submit("true", json!({})).await;
    let fail = format!("POST /v1/miner/jobs/{id}/fail");
    let call = gpus.rig.mock.journal.wait_for(move |call| call.is(&fail)).await;
    assert_eq!(call.body.unwrap()["error_code"], "E_NOGPU");
    gpus.node.end().await;
}

#[tokio::test]
async fn a_limit_that_nobody_can_keep_is_refused() {
    let gpus = Gpus::new(None).await;
    // Not only when there is a GPU for it.
    let slots = &gpus.node.node.slots;
    let others = [slots.slot(SlotKind::Gpu, 0).await, slots.slot(SlotKind::Gpu, 0).await];
    let id = gpus.submit("true", json!({"vram_mb": 2048})).await;
    let error = gpus.rig.failed(id, "E_DENY").await.error.unwrap();
    assert!(error.message.contains("cannot be kept"), "{}", error.message);
    drop(others);
    assert_eq!(gpus.text(gpus.submit("echo ok", json!({})).await).await, "ok\n");
    gpus.node.end().await;
}
