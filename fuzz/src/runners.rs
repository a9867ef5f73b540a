//! What clients say to runners, and what the programs of jobs say in their log.

use std::path::Path;

use miner_node::config::{LlmRunner, SdRunner};
use miner_node::progress::stated_metrics;
use miner_node::runners::{Ceilings, Containers, Llm, Plan, Report, Runners, Sd, Wasm};
use miner_node::sandbox::container::{Engine, EngineKind};
use protocol::{FailureCode, Job};
use serde_json::{Value, json};

use crate::files;

/// The line between the parameters and the arguments.
const LINE: &str = "\n---\n";

/// The one image that may run.
const IMAGE: &str =
    "localhost/tiny@sha256:a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";

/// The jobs that have parameters of their own.
const JOBS: [(&str, &str); 5] = [
    ("wasm", "wasm"),
    ("ollama", "llm_gen"),
    ("python", "sd_infer"),
    ("container", "container"),
    ("builtin", "hash"),
];

thread_local! {
    static RUNNERS: Runners = runners();
}

/// Parameters as JSON; below a line `---` the arguments, one on each line. Each runner plans within
/// its limits or says why not.
pub fn runner_params(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (params, args) = text.split_once(LINE).unwrap_or((text, ""));
    let Ok(Value::Object(params)) = serde_json::from_str(params) else { return };
    let (params, args): (_, Vec<String>) = (&params, args.lines().map(str::to_owned).collect());
    for (kind, workload) in JOBS {
        let mut job = job(kind, workload);
        job.params.clone_from(params);
        job.args.clone_from(&args);
        let planned =
            RUNNERS.with(|runners| runners.plan(&job, Path::new("/job"), &Ceilings::default()));
        match planned {
            Ok(Plan::Sandboxed(command)) => {
                assert_eq!(command.program, Path::new("/miner-node"), "{kind}");
            }
            Ok(Plan::Contained(container)) => {
                assert_eq!((kind, container.image.as_str()), ("container", IMAGE));
                assert!(container.args.len() <= 256);
                assert!(container.args.iter().all(|arg| !arg.contains('\0')));
            }
            // Nobody serves here.
            Ok(Plan::Call(call)) => panic!("{call:?}"),
            Err(refusal) => assert!(
                matches!(
                    refusal.code,
                    FailureCode::Input
                        | FailureCode::Deny
                        | FailureCode::Unsupported
                        | FailureCode::Internal
                ),
                "{kind}: {refusal}"
            ),
        }
    }
}

fn job(kind: &str, workload: &str) -> Job {
    let job = json!({
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "workload": workload, "runner": {"kind": kind},
        "artifacts": [{"path": "image.png"}], "slot": "cpu", "attempt": 1, "client": "client-a",
        "limits": {"max_fuel": 1000, "max_runtime_s": 60, "max_tokens": 100},
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.01"},
        "lease": {"token": "AAAAAAAAAAAAAAAAAAAAAA", "fence": 1,
            "expires_at": "2026-01-24T00:00:30Z", "deadline": "2026-01-24T00:02:00Z"},
        "created_at": "2026-01-24T00:00:00Z", "expires_at": "2026-01-24T00:15:00Z",
    });
    serde_json::from_value(job).expect("it is a job")
}

fn runners() -> Runners {
    // Another thread may have been faster; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let engine = Engine {
        program: "/usr/bin/podman".into(),
        kind: EngineKind::Podman,
        is_rootless: true,
        owner: "fuzz".to_owned(),
        keeps_processors: Ok(()),
    };
    Runners {
        wasm: Some(Wasm::new("/usr/bin/true")),
        llm: Llm::new(&LlmRunner::default()).ok(),
        sd: Sd::new(&SdRunner::default()).ok(),
        containers: Some(Containers::of(engine, vec![IMAGE.to_owned()], false)),
        ..Runners::default()
    }
}

/// The end of a job's standard error: what the job states stays within limits, and what our own
/// program adds at the end is read whatever stands before it.
pub fn run_log(data: &[u8]) {
    let log = files::put("logs/stderr.log", data);
    let metrics = stated_metrics(&log);
    assert!(metrics.len() <= 16);
    for (name, value) in &metrics {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name:?}");
        assert!(value.as_f64().is_some_and(f64::is_finite), "{value}");
    }
    let said = Report::read(&log);
    if let Some(refusal) = said.refusal() {
        assert!(refusal.message.chars().count() <= 600, "{refusal}");
    }
    let message = String::from_utf8_lossy(data).chars().take(100).collect();
    let report = Report { fuel: Some(7), code: Some(FailureCode::Exit), message: Some(message) };
    let mut whole = data.to_vec();
    whole.extend(report.line().bytes());
    assert_eq!(Report::read(&files::put("logs/whole.log", &whole)), report);
}
