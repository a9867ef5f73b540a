//! The GPU of a job: its device files, and a watch over what the job holds of its memory.
//!
//! There is no limit for GPU memory in the kernel. Somebody has to ask the driver, process by
//! process, and end the job that holds too much.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Pid;

use super::process_tree;

/// What the processes with these ids hold of one GPU's memory, in bytes; `None` where the driver
/// does not say.
pub type VramMeter = Arc<dyn Fn(&[u32]) -> Option<u64> + Send + Sync>;

/// A GPU that a run may use, and no other one.
#[derive(Clone)]
pub struct Gpu {
    /// Its device files, and those that the driver needs for any GPU; the job sees no other.
    pub nodes: Vec<PathBuf>,
    /// What tells libraries which GPU it is.
    pub env: Vec<(String, String)>,
    /// Who knows how much of its memory processes hold; absent: nobody, and then there is no limit.
    pub meter: Option<VramMeter>,
    /// The most that the job may hold, in bytes; absent: whatever there is.
    pub most_bytes: Option<u64>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("nodes", &self.nodes)
            .field("env", &self.env)
            .field("most_bytes", &self.most_bytes)
            .finish_non_exhaustive()
    }
}

/// What is known of the GPU memory of a run.
#[derive(Default)]
pub(super) struct VramWatch {
    meter: Option<VramMeter>,
    most_bytes: Option<u64>,
    peak_bytes: Option<u64>,
}

impl VramWatch {
    pub(super) fn over(gpu: Option<&Gpu>) -> Self {
        let Some(gpu) = gpu else { return Self::default() };
        Self { meter: gpu.meter.clone(), most_bytes: gpu.most_bytes, peak_bytes: None }
    }

    /// Whether `root` and everything below it hold more than they may.
    pub(super) async fn exceeds(&mut self, root: Option<Pid>) -> bool {
        let (Some(meter), Some(root)) = (self.meter.clone(), root) else { return false };
        let ask = move || {
            let tree = process_tree::descendants(root).into_iter().chain([root]);
            let pids: Vec<u32> = tree.map(|pid| pid.as_raw_pid().unsigned_abs()).collect();
            meter(&pids)
        };
        let held = tokio::task::spawn_blocking(ask).await.ok().flatten();
        self.peak_bytes = self.peak_bytes.max(held);
        held.zip(self.most_bytes).is_some_and(|(held, most)| held > most)
    }

    /// The most that was seen; `None` where nobody could say.
    pub(super) const fn peak_bytes(&self) -> Option<u64> {
        self.peak_bytes
    }
}
