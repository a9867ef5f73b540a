//! `probe`: what this machine has, and what a node on it would offer.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use protocol::job::SlotKind;
use serde::Serialize;
use tokio::runtime::Builder;

use super::{FAILED, Flags, answer, complain};
use crate::capabilities::{GpuDevice, Probe, Sensors, mode, slot_plan};
use crate::config::Config;
use crate::private;
use crate::runners::{Offer, Remark, Runners, Standing, Trial};
use crate::sandbox::{Isolation, Piece, Sandbox, Tools};

/// Everything that `probe` has to say.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Probe,
    /// Whether a GPU is usable.
    gpu: bool,
    /// On what a node would work, after `ACCEL_MODE`.
    mode: SlotKind,
    /// The sandbox level, if jobs can be run at all.
    isolation: Option<String>,
    /// Which parts of the isolation are in force, and why the others are not.
    parts: Vec<Part>,
    runners: Vec<&'static str>,
    workloads: Vec<String>,
    commands: Vec<String>,
    models: Vec<String>,
    /// Jobs at once, by kind and together.
    slots: Slots,
    /// Why something is not offered.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Part {
    part: Piece,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_because: Option<String>,
}

#[derive(Serialize)]
struct Slots {
    cpu: u32,
    gpu: u32,
    total: u32,
}

/// Prints it, as JSON if asked for or if a program reads it.
pub(super) fn main(flags: &Flags, json: bool) -> ExitCode {
    let loaded = match flags.load_aloud() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let report = report(&loaded.config);
    if !json && std::io::stdout().is_terminal() {
        return answer(&text(&report));
    }
    match serde_json::to_string_pretty(&report) {
        Ok(json) => answer(&format!("{json}\n")),
        Err(error) => complain(&error, FAILED),
    }
}

fn report(config: &Config) -> Report {
    let machine = Sensors::of_machine().probe(&config.workspace.root);
    let mut notes = Vec::new();
    let mut parts = Vec::new();
    let offer = offer(config, &mut parts, &mut notes);
    let gpu = machine.usable_gpus().next().is_some();
    for device in machine.usable_gpus().filter(|device| !device.is_reachable()) {
        let GpuDevice { index, name, .. } = device;
        notes.push(format!("GPU {index} ({name}) is not offered: its device files are not known"));
    }
    let (mode, warning) = mode(config.accel_mode, gpu);
    notes.extend(warning.map(str::to_owned));
    if gpu && mode == SlotKind::Gpu && !offer.reaches_gpu {
        notes.push(
            "no runner reaches a GPU (docs/jobs.md says which do); jobs run on the processor"
                .to_owned(),
        );
    }
    let plan = slot_plan(&machine, config, &offer);
    Report {
        machine,
        gpu,
        mode,
        isolation: offer.isolation,
        parts,
        runners: offer.runners.iter().map(|kind| kind.as_str()).collect(),
        workloads: offer.workloads.iter().map(ToString::to_string).collect(),
        commands: offer.commands,
        models: offer.models.iter().map(ToString::to_string).collect(),
        slots: Slots { cpu: plan.cpu, gpu: plan.gpu, total: plan.total },
        notes,
    }
}

/// What the runners can do; what cannot is noted.
fn offer(config: &Config, parts: &mut Vec<Part>, notes: &mut Vec<String>) -> Offer {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            notes.push(format!("no job can be run: {error}"));
            return Offer::default();
        }
    };
    runtime.block_on(async {
        let mut runners = Runners::default();
        let level = try_programs(config, &mut runners, parts, notes).await;
        let level = level.map_err(|why| notes.push(format!("no program can be run: {why}"))).ok();
        runners.add_served(&config.runners, |remark| notes.extend(note(remark))).await;
        runners.offer(level.map(|level| level.to_string()).as_deref())
    })
}

/// Adds the runners of programs and returns the level at which they are isolated.
async fn try_programs(
    config: &Config,
    runners: &mut Runners,
    parts: &mut Vec<Part>,
    notes: &mut Vec<String>,
) -> Result<Isolation, String> {
    let root = std::env::temp_dir().join(format!("aitbc-probe-{}", std::process::id()));
    private::directory(&root).map_err(|error| error.to_string())?;
    // Trials under a user id of their own pass through it, as jobs do in a work directory.
    let open = Permissions::from_mode(0o711);
    std::fs::set_permissions(&root, open).map_err(|error| error.to_string())?;
    let level = try_below(&root, config, runners, parts, notes).await;
    // Left behind it is only clutter.
    let _ = std::fs::remove_dir_all(root);
    level
}

async fn try_below(
    root: &Path,
    config: &Config,
    runners: &mut Runners,
    parts: &mut Vec<Part>,
    notes: &mut Vec<String>,
) -> Result<Isolation, String> {
    let directory = root.join("trial");
    let tools = Tools::find().map_err(|error| error.to_string())?;
    let mut policy = config.sandbox_policy();
    policy.reached.extend(std::env::current_exe());
    let mut sandbox = Sandbox::new(tools, &policy).map_err(|error| error.to_string())?;
    let probed = sandbox.probe(&directory).await;
    parts.extend(
        Piece::ALL
            .map(|part| Part { part, missing_because: sandbox.why_not(part).map(str::to_owned) }),
    );
    let level = probed.map_err(|error| error.to_string())?;
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let trial = Trial {
        settings: &config.runners,
        sandbox: &sandbox,
        executable: &executable,
        root,
        owner: "probe",
        divides_processors: config.divides_processors(),
    };
    *runners = Runners::tried(&trial, |remark| notes.extend(note(remark))).await;
    Ok(level)
}

/// What is worth a note; that something works is seen from what is offered.
fn note(remark: Remark) -> Option<String> {
    let Remark { runner, state, what } = remark;
    match state {
        Standing::Works => (runner == "python").then_some(what),
        Standing::Partly(fix) => Some(format!("{runner}: {what} ({fix})")),
        Standing::Fails(fix) => Some(format!("{runner} is not offered: {what} ({fix})")),
    }
}

fn text(report: &Report) -> String {
    let Report { machine, .. } = report;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let cpu = &machine.cpu;
    line("cpu", format!("{}, {} threads, load {:.2}", cpu.model, cpu.logical_cores, cpu.load_1m));
    let memory = &machine.memory;
    line(
        "memory",
        format!(
            "{} MiB, {} available, {} cached",
            memory.total_mb, memory.available_mb, memory.cached_mb
        ),
    );
    let disk = &machine.disk;
    line(
        "disk",
        format!("{} MiB, {} free, at {}", disk.total_mb, disk.available_mb, disk.path.display()),
    );
    for interface in machine.network.iter().filter(|interface| interface.name != "lo") {
        line("network", format!("{} {}", interface.name, interface.addresses.join(", ")));
    }
    for gpu in &machine.gpus {
        line("gpu", format!("{} {}, {} MiB", gpu.index, gpu.name, gpu.vram_total_mb));
    }
    line("mode", report.mode.to_string());
    line("sandbox", report.isolation.clone().unwrap_or_else(|| "none".to_owned()));
    for Part { part, missing_because } in &report.parts {
        let state =
            missing_because.as_deref().map_or("in force".to_owned(), |why| format!("no: {why}"));
        line(&format!("  {part}"), state);
    }
    line("runners", report.runners.join(", "));
    line("workloads", report.workloads.join(", "));
    line("commands", report.commands.join(", "));
    line("models", report.models.join(", "));
    let Slots { cpu, gpu, total } = report.slots;
    line("slots", format!("{cpu} cpu, {gpu} gpu, {total} at once"));
    for note in &report.notes {
        line("note", note.clone());
    }
    text
}
