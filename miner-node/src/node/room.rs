//! Whether there is room for a job, and how much a job takes.

use protocol::Job;

use super::Node;
use crate::capacity::Footprint;
use crate::runners::Ceilings;

impl Node {
    /// Why there is no room for jobs, if there is none.
    pub fn lack_of_space(&self) -> Option<String> {
        let floor = self.config.workspace.min_free_mb;
        match self.workspace.free_mb() {
            Ok(free) if free >= floor.into() => None,
            Ok(free) => Some(format!("{free} MiB free, workspace.min_free_mb is {floor}")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why a job that asks for nothing in particular would have to wait for others to end, if it
    /// would.
    pub fn lack_of_room(&self) -> Option<String> {
        let usual = usual(&self.ceilings());
        usual.lacks(self.capacity.left(self.free_mb())).map(|lack| lack.to_string())
    }

    /// What the disk has for jobs, in MiB.
    pub fn free_mb(&self) -> u64 {
        let floor = self.config.workspace.min_free_mb;
        self.workspace.free_mb().map_or(0, |free| free.saturating_sub(floor.into()))
    }

    /// What `job` takes of the machine while it is here.
    pub fn footprint(&self, job: &Job) -> Footprint {
        // One that asks for more than it can have is about to be refused.
        let Ok(limits) = self.ceilings().limits(job) else { return Footprint::default() };
        let disk_mb = mebibytes(limits.work_bytes);
        if self.runners.is_served(job) {
            return Footprint { disk_mb, ..Footprint::default() };
        }
        Footprint {
            ram_mb: limits.memory_bytes.map_or(0, mebibytes),
            threads: job.requirements.cpu_threads.unwrap_or(0).into(),
            disk_mb,
        }
    }
}

/// What a job takes that asks for nothing.
fn usual(ceilings: &Ceilings) -> Footprint {
    Footprint {
        ram_mb: ceilings.usual_ram_mb.unwrap_or(0).into(),
        threads: 0,
        disk_mb: ceilings.usual_disk_mb.unwrap_or(0).into(),
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
