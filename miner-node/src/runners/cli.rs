//! The `cli` runner: an allowlisted program, its arguments as a list, no shell anywhere.

use std::time::Duration;

use protocol::job::{Network, SlotKind};
use protocol::{FailureCode, Job};

use super::allowlist::Program;
use super::{Allowlist, Refusal};
use crate::sandbox::{Command, Limits, Shown};

/// The workload of jobs that only name a command.
pub const WORKLOAD: &str = "cli";

/// The runner.
#[derive(Debug)]
pub struct Cli {
    allowlist: Allowlist,
}

impl Cli {
    /// A runner of the programs of `allowlist`; `None` where there are none.
    pub fn new(allowlist: Allowlist) -> Option<Self> {
        (!allowlist.programs().is_empty()).then_some(Self { allowlist })
    }

    /// The names of the programs.
    pub fn commands(&self) -> Vec<String> {
        self.allowlist.programs().keys().cloned().collect()
    }

    /// Whether a program among them may use a GPU.
    pub fn reaches_gpu(&self) -> bool {
        self.allowlist.programs().values().any(|program| program.gpu)
    }

    pub(super) fn plan(&self, job: &Job, mut limits: Limits) -> Result<Command, Refusal> {
        let name = job.command.as_deref().unwrap_or_default();
        let program = self
            .allowlist
            .check(name, &job.args)
            .map_err(|why| Refusal::new(FailureCode::Deny, why))?;
        if job.slot == SlotKind::Gpu && !program.gpu {
            let why = format!("{name} may not use a GPU on this node");
            return Err(Refusal::new(FailureCode::Deny, why));
        }
        program.check_still().map_err(|why| {
            let why = format!("this node does not trust its own {name} any more: it {why}");
            Refusal::new(FailureCode::Deny, why)
        })?;
        check_limits(name, program, job)?;
        if let Some(secs) = program.max_runtime_s {
            limits.wall = limits.wall.min(Duration::from_secs(secs.into()));
        }
        if let Some(mb) = program.max_output_mb {
            limits.output_bytes = limits.output_bytes.min(u64::from(mb) << 20);
        }
        if let Some(mb) = program.max_ram_mb {
            let bytes = u64::from(mb) << 20;
            limits.memory_bytes = Some(limits.memory_bytes.map_or(bytes, |own| own.min(bytes)));
        }
        if let Some(secs) = program.max_cpu_secs {
            let secs = u64::from(secs);
            limits.cpu_secs = Some(limits.cpu_secs.map_or(secs, |own| own.min(secs)));
        }
        match (program.network, job.limits.network) {
            (Network::Egress, None | Some(Network::None)) => {
                let why = format!("{name} is of no use without limits.network: egress");
                return Err(Refusal::new(FailureCode::Deny, why));
            }
            (Network::None, Some(Network::Egress)) => {
                let why = format!("this node gives {name} no network");
                return Err(Refusal::new(FailureCode::Deny, why));
            }
            (Network::None, _) | (Network::Egress, Some(Network::Egress)) => {}
        }
        let path = program.path.clone();
        let seen = [path.clone()].into_iter().chain(program.show.iter().cloned());
        // The sandbox shows /usr already.
        let seen = seen.filter(|path| !path.starts_with("/usr"));
        let shown = seen.map(|path| Shown { host: path.clone(), inside: path }).collect();
        Ok(Command { program: path, args: job.args.clone(), env: Vec::new(), shown, limits })
    }
}

/// Who asks for more than the program may have is not run with less.
fn check_limits(name: &str, program: &Program, job: &Job) -> Result<(), Refusal> {
    let (asked, needed) = (&job.limits, &job.requirements);
    for (what, asked, most, unit) in [
        ("run time", asked.max_runtime_s, program.max_runtime_s, "s"),
        ("output", asked.max_output_mb, program.max_output_mb, "MiB"),
        ("memory", asked.ram_mb.max(needed.ram_mb), program.max_ram_mb, "MiB"),
        ("processor time", asked.cpu_secs, program.max_cpu_secs, "s"),
    ] {
        if let (Some(asked), Some(most)) = (asked, most)
            && asked > most
        {
            let why = format!(
                "the job asks for {asked} {unit} of {what}, this node gives {name} at most {most} {unit}"
            );
            return Err(Refusal::new(FailureCode::Deny, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::job::RunnerKind;

    use super::super::tests::job;
    use super::super::{Ceilings, Plan, Runners};
    use super::*;

    fn runners(text: &str) -> Runners {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("env.yaml"), text).unwrap();
        let cli = Cli::new(Allowlist::load(directory.path()).unwrap());
        Runners { cli, ..Runners::default() }
    }

    #[test]
    fn limits_of_the_allowlist_count_too() {
        let runners = runners(
            "command: {path: /usr/bin/env}\nargs: [[--help]]\nmax_runtime_s: 9\nmax_output_mb: 2",
        );
        assert_eq!(runners.offer(Some("bwrap")).commands, ["env"]);
        let mut job = job("cli");
        job.runner.kind = RunnerKind::Cli;
        job.command = Some("env".to_owned());
        job.args = vec!["--help".to_owned()];
        job.limits.max_runtime_s = None;
        let ceilings = Ceilings { runtime_s: 100, output_mb: 10, ..Ceilings::default() };
        let plan = runners.plan(&job, Path::new("/x"), &ceilings).unwrap();
        let Plan::Sandboxed(command) = plan else { panic!("no program: {plan:?}") };
        assert_eq!(command.program, Path::new("/usr/bin/env"));
        assert_eq!((command.limits.wall.as_secs(), command.limits.output_bytes), (9, 2 << 20));
        job.args.push("sh".to_owned());
        let refusal = runners.plan(&job, Path::new("/x"), &ceilings).unwrap_err();
        assert_eq!(refusal.code, FailureCode::Deny);
    }

    #[test]
    fn a_program_may_use_a_gpu_where_its_file_says_so() {
        let ceilings = Ceilings { runtime_s: 100, output_mb: 10, ..Ceilings::default() };
        let mut job = job("cli");
        job.runner.kind = RunnerKind::Cli;
        job.command = Some("env".to_owned());
        job.slot = SlotKind::Gpu;
        let without = runners("command: {path: /usr/bin/env}");
        assert!(!without.offer(Some("bwrap")).reaches_gpu);
        let refusal = without.plan(&job, Path::new("/x"), &ceilings).unwrap_err();
        assert_eq!(refusal.code, FailureCode::Deny);
        let with = runners("command: {path: /usr/bin/env}\ngpu: true");
        assert!(with.offer(Some("bwrap")).reaches_gpu);
        assert!(with.plan(&job, Path::new("/x"), &ceilings).is_ok());
        job.slot = SlotKind::Cpu;
        assert!(without.plan(&job, Path::new("/x"), &ceilings).is_ok());
    }

    #[test]
    fn who_asks_for_more_than_the_program_may_have_is_refused() {
        type Ask = fn(&mut Job);
        let text = "command: {path: /usr/bin/env}\nargs: [[--help]]\nmax_runtime_s: 9\n\
            max_output_mb: 2\nmax_ram_mb: 3\nmax_cpu_secs: 4";
        let runners = runners(text);
        let cases: [(&str, Ask, Ask); 5] = [
            (
                "10 s of run time",
                |job| job.limits.max_runtime_s = Some(9),
                |job| job.limits.max_runtime_s = Some(10),
            ),
            (
                "3 MiB of output",
                |job| job.limits.max_output_mb = Some(2),
                |job| job.limits.max_output_mb = Some(3),
            ),
            (
                "4 MiB of memory",
                |job| job.limits.ram_mb = Some(3),
                |job| job.limits.ram_mb = Some(4),
            ),
            (
                "4 MiB of memory",
                |job| job.requirements.ram_mb = Some(3),
                |job| job.requirements.ram_mb = Some(4),
            ),
            (
                "5 s of processor time",
                |job| job.limits.cpu_secs = Some(4),
                |job| job.limits.cpu_secs = Some(5),
            ),
        ];
        for (word, modest, greedy) in cases {
            let mut job = job("cli");
            job.runner.kind = RunnerKind::Cli;
            job.command = Some("env".to_owned());
            job.args = vec!["--help".to_owned()];
            job.limits.max_runtime_s = None;
            let plan = |job: &Job| runners.plan(job, Path::new("/x"), &Ceilings::default());
            modest(&mut job);
            assert!(plan(&job).is_ok(), "{word}");
            greedy(&mut job);
            let refusal = plan(&job).unwrap_err();
            assert_eq!(refusal.code, FailureCode::Deny);
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }

    #[test]
    fn a_program_that_others_can_write_by_now_is_not_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(place.path()).unwrap().join("tool");
        std::fs::copy("/usr/bin/env", &path).unwrap();
        let runners = runners(&format!("command: {{path: {}, name: env}}", path.display()));
        let mut job = job("cli");
        job.runner.kind = RunnerKind::Cli;
        job.command = Some("env".to_owned());
        let plan = || runners.plan(&job, Path::new("/x"), &Ceilings::default());
        assert!(plan().is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o775)).unwrap();
        let refusal = plan().unwrap_err();
        assert_eq!(refusal.code, FailureCode::Deny);
        assert!(refusal.message.contains("writable"), "{}", refusal.message);
    }

    #[test]
    fn an_empty_allowlist_is_no_runner() {
        assert!(Cli::new(Allowlist::default()).is_none());
    }
}
