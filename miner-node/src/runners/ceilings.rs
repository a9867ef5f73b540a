//! The most that jobs may use on this node, and what that leaves a job. Pure.

use std::time::Duration;

use protocol::{FailureCode, Job};

use super::Refusal;
use crate::sandbox::Limits;

/// How long a program has between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);

/// The most that any job may use on this node. The default limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Wall-clock time in seconds.
    pub runtime_s: u32,
    /// Memory in MiB that a job may ask for; absent: any.
    pub ram_mb: Option<u32>,
    /// Memory in MiB of a job that asks for none.
    pub usual_ram_mb: Option<u32>,
    /// Output in MiB.
    pub output_mb: u32,
    /// Scratch space in MiB that a job may ask for; absent: any.
    pub disk_mb: Option<u32>,
    /// Scratch space in MiB of a job that asks for none; absent: as much as output.
    pub usual_disk_mb: Option<u32>,
    /// Processor threads that a job may ask for; absent: any.
    pub cpu_threads: Option<u32>,
    /// Processor threads that a job may keep busy that asks for none; absent: all.
    pub busy_threads: Option<u32>,
    /// Free space in MiB below which running jobs are ended; 0: never mind.
    pub least_free_mb: u32,
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of each process.
    pub open_files: u64,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            runtime_s: u32::MAX,
            ram_mb: None,
            usual_ram_mb: None,
            output_mb: u32::MAX,
            disk_mb: None,
            usual_disk_mb: None,
            cpu_threads: None,
            busy_threads: None,
            least_free_mb: 0,
            processes: 1 << 15,
            open_files: 1 << 20,
        }
    }
}

impl Ceilings {
    /// What `job` may use: what it asks for, else what the node allows.
    ///
    /// # Errors
    /// [`FailureCode::Deny`] where it asks for more than it can have: it is not run with less.
    pub fn limits(&self, job: &Job) -> Result<Limits, Refusal> {
        let (asked, needed) = (&job.limits, &job.requirements);
        // What is left in the end has to be written first.
        let disk_mb = asked.disk_mb.max(asked.max_output_mb);
        for (what, asked, most, unit) in [
            ("run time", asked.max_runtime_s, Some(self.runtime_s), "s"),
            ("memory", asked.ram_mb.max(needed.ram_mb), self.ram_mb, "MiB"),
            ("output", asked.max_output_mb, Some(self.output_mb), "MiB"),
            ("scratch space", disk_mb, self.disk_mb, "MiB"),
            ("processor threads", needed.cpu_threads, self.cpu_threads, "threads"),
        ] {
            if let (Some(asked), Some(most)) = (asked, most)
                && asked > most
            {
                let why = format!(
                    "the job asks for {asked} {unit} of {what}, this node gives at most {most} {unit}"
                );
                return Err(Refusal::new(FailureCode::Deny, why));
            }
        }
        let bytes = |mb: u32| u64::from(mb) << 20;
        let output_mb = asked.max_output_mb.unwrap_or(self.output_mb);
        let work_mb = disk_mb.or(self.usual_disk_mb).unwrap_or(output_mb);
        let runtime_s = asked.max_runtime_s.unwrap_or(self.runtime_s);
        Ok(Limits {
            wall: Duration::from_secs(runtime_s.into()),
            grace: GRACE,
            cpu_secs: asked.cpu_secs.map(u64::from),
            memory_bytes: asked.ram_mb.or(self.usual_ram_mb).map(bytes),
            cpu_threads: needed.cpu_threads.or(self.busy_threads),
            processes: self.processes,
            open_files: self.open_files,
            output_bytes: bytes(output_mb),
            work_bytes: bytes(work_mb),
            least_free_bytes: bytes(self.least_free_mb),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::tests::job;

    const CEILINGS: Ceilings = Ceilings {
        runtime_s: 100,
        ram_mb: Some(64),
        usual_ram_mb: Some(32),
        output_mb: 10,
        disk_mb: Some(50),
        usual_disk_mb: Some(9),
        cpu_threads: Some(4),
        busy_threads: Some(3),
        least_free_mb: 0,
        processes: 7,
        open_files: 8,
    };

    #[test]
    fn who_asks_for_nothing_gets_what_is_usual() {
        let mut job = job("hash");
        job.limits.max_runtime_s = None;
        let limits = CEILINGS.limits(&job).unwrap();
        assert_eq!((limits.wall.as_secs(), limits.cpu_secs), (100, None));
        assert_eq!(limits.cpu_threads, Some(3));
        assert_eq!((limits.output_bytes, limits.work_bytes), (10 << 20, 9 << 20));
        assert_eq!(limits.memory_bytes, Some(32 << 20));
        assert_eq!((limits.processes, limits.open_files), (7, 8));
    }

    #[test]
    fn what_is_asked_for_is_what_counts() {
        let mut job = job("hash");
        job.limits.max_runtime_s = Some(100);
        job.limits.ram_mb = Some(64);
        job.limits.max_output_mb = Some(3);
        job.limits.disk_mb = Some(50);
        job.limits.cpu_secs = Some(7);
        job.requirements.cpu_threads = Some(4);
        let limits = CEILINGS.limits(&job).unwrap();
        assert_eq!((limits.wall.as_secs(), limits.cpu_secs), (100, Some(7)));
        assert_eq!(limits.cpu_threads, Some(4));
        assert_eq!((limits.output_bytes, limits.work_bytes), (3 << 20, 50 << 20));
        assert_eq!(limits.memory_bytes, Some(64 << 20));
        job.limits.disk_mb = Some(1);
        assert_eq!(CEILINGS.limits(&job).unwrap().work_bytes, 3 << 20);
    }

    #[test]
    fn who_asks_for_more_than_there_is_is_refused() {
        type Ask = fn(&mut Job);
        let cases: [(&str, Ask); 6] = [
            ("101 s of run time", |job| job.limits.max_runtime_s = Some(101)),
            ("65 MiB of memory", |job| job.limits.ram_mb = Some(65)),
            ("66 MiB of memory", |job| job.requirements.ram_mb = Some(66)),
            ("11 MiB of output", |job| job.limits.max_output_mb = Some(11)),
            ("51 MiB of scratch", |job| job.limits.disk_mb = Some(51)),
            ("5 threads of processor", |job| job.requirements.cpu_threads = Some(5)),
        ];
        for (word, ask) in cases {
            let mut job = job("hash");
            ask(&mut job);
            let refusal = CEILINGS.limits(&job).unwrap_err();
            assert_eq!(refusal.code, FailureCode::Deny);
            assert!(refusal.message.contains(word), "{}", refusal.message);
            assert!(Ceilings::default().limits(&job).is_ok());
        }
    }
}
