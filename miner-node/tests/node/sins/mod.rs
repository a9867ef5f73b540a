//! Programs with one sin each, run as real jobs: each must fail in the sandbox, with the code that
//! its ending has, and leave the host as it was.
//!
//! A sin that cannot be committed at all shows nothing, so that each is first committed outside. The
//! programs are in `programs/` and print a line for each attempt: `did WHAT` or `refused WHAT ERROR`.

use protocol::client::JobView;
use protocol::{JobId, JobState, Sha256Hex};
use serde_json::json;

use crate::rig::{Rig, eventually};

mod host;
mod neighbour;
mod outside;
mod table;

use host::Host;
use neighbour::Neighbour;
use table::{SINS, Sin};

/// What the programs are told about this run. None of it is secret.
struct Scene {
    neighbour: Neighbour,
    /// Digits that occur nowhere else; with each sin's number behind them they are its mark.
    mark: String,
}

impl Scene {
    fn new(rig: &Rig) -> Self {
        let path = rig.root.path();
        let digits = Sha256Hex::of(path.as_os_str().as_encoded_bytes()).to_string();
        let mark = digits.bytes().take(9).map(|byte| char::from(b'1' + byte % 9)).collect();
        Self { neighbour: Neighbour::start(path), mark }
    }

    fn mark_of(&self, sin: &Sin) -> String {
        let number = SINS.iter().position(|one| std::ptr::eq(one, sin)).unwrap();
        // What is left and what looks for it afterwards are of one mind.
        let number = if sin.program == "leaver" { 99 } else { number };
        format!("{}{number:02}", self.mark)
    }

    fn fill_in(&self, sin: &Sin, arguments: &[&str]) -> Vec<String> {
        let one = |argument: &&str| match *argument {
            "MARK" => self.mark_of(sin),
            "PID" => std::process::id().to_string(),
            "ADDRESS" => self.neighbour.address.ip().to_string(),
            "PORT" => self.neighbour.address.port().to_string(),
            "PATH" => self.neighbour.path.display().to_string(),
            "NAME" => self.neighbour.name.clone(),
            other => other.to_owned(),
        };
        arguments.iter().map(one).collect()
    }
}

fn python() -> std::path::PathBuf {
    // The allowlist takes no links.
    std::fs::canonicalize("/usr/bin/python3").expect("apt install python3")
}

#[tokio::test]
async fn no_sin_gets_out() {
    let mut rig = Rig::new().await;
    rig.config.resources.max_concurrency = Some(4);
    rig.config.resources.max_output_mb = 4;
    rig.config.sandbox.max_processes = 64;
    let words = "[A-Za-z0-9/._-]*";
    rig.allow(
        "python",
        &format!(
            "command: {{path: {}, name: python}}\n\
             args: [{{matches: 'input/[a-z_]+[.]py'}}, {{matches: '{words}'}}]\n",
            python().display()
        ),
    );
    let scene = Scene::new(&rig);
    for sin in SINS {
        outside::commit(&scene, sin);
    }
    let visits = scene.neighbour.visits();
    assert!(visits > 0);

    let before = Host::look();
    let node = rig.run().await;
    let mut jobs = Vec::new();
    for sin in SINS.iter().filter(|sin| !sin.is_last()) {
        jobs.push((sin, submit(&rig, &scene, sin).await));
    }
    judge(&rig, &scene, &jobs).await;
    // What comes after all others.
    let mut last = Vec::new();
    for sin in SINS.iter().filter(|sin| sin.is_last()) {
        last.push((sin, submit(&rig, &scene, sin).await));
    }
    judge(&rig, &scene, &last).await;
    node.end().await;

    assert_eq!(scene.neighbour.visits(), visits, "somebody came out");
    before.assert_unchanged(&scene.mark);
}

async fn submit(rig: &Rig, scene: &Scene, sin: &Sin) -> JobId {
    let name = format!("{}.py", sin.program);
    let sha256 = rig.upload(&std::fs::read(outside::file(sin)).unwrap()).await;
    let mut args = vec![format!("input/{name}")];
    args.extend(scene.fill_in(sin, sin.inside));
    let mut limits = json!({"max_runtime_s": 20, "ram_mb": 128, "disk_mb": 8});
    if let Some((limit, value)) = sin.limit {
        limits[limit] = json!(value);
    }
    let artifacts: Vec<_> = sin.artifact.iter().map(|path| json!({"path": path})).collect();
    rig.submit(json!({
        "command": "python", "args": args, "limits": limits, "max_attempts": 1,
        "input": {"files": [{"name": name, "sha256": sha256}]}, "artifacts": artifacts,
    }))
    .await
}

/// Waits for the jobs and holds each against its sin's verdict.
async fn judge(rig: &Rig, scene: &Scene, jobs: &[(&Sin, JobId)]) {
    let mut wrong = Vec::new();
    for (sin, id) in jobs {
        let view = ended(rig, *id).await;
        let left = host::processes(&scene.mark_of(sin));
        if !left.is_empty() {
            wrong.push(format!("{}: processes are left: {left:?}", sin.name()));
        }
        if let Err(why) = sin.verdict.holds(&outcome(rig, &view).await) {
            wrong.push(format!("{}: {why}", sin.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn ended(rig: &Rig, id: JobId) -> JobView {
    let view = rig.ended(id).await;
    // The node has heard of it as well.
    eventually(async || (!rig.job_dir(id).join("work").exists()).then_some(())).await;
    view
}

/// What the client sees: an error code, or else what was printed.
async fn outcome(rig: &Rig, view: &JobView) -> Result<String, String> {
    if view.state == JobState::Completed {
        let result = rig.result(view.job_id).await.result;
        return Ok(result.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default());
    }
    let error = view.error.as_ref().unwrap();
    Err(format!("{} {}", error.code, error.message))
}
