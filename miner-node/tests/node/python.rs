//! The python runner: the owner's modules, a real Python, and everything that a run can come to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::Rig;

/// Tasks of an owner; some of them are broken in one way each.
const TASKS: [(&str, &str); 7] = [
    (
        "count.py",
        "import aitbc_task, os, sys\n\
         def run(text, times=1):\n\
         \x20   print('to nobody')\n\
         \x20   aitbc_task.progress(50)\n\
         \x20   aitbc_task.metric('tokens', 200)\n\
         \x20   os.write(1, b'to nobody either')\n\
         \x20   return {'words': len(text.split()) * times, 'prefix': sys.prefix, 'who': 'caf\\u00e9'}\n",
    ),
    (
        "sins.py",
        "import os\n\
         def run(sin):\n\
         \x20   if sin == 'raise': raise ValueError('no such\\nthing')\n\
         \x20   if sin == 'memory': return len(bytearray(4 << 40))\n\
         \x20   if sin == 'nan': return float('nan')\n\
         \x20   if sin == 'object': return object()\n\
         \x20   if sin == 'exit': raise SystemExit(0)\n\
         \x20   if sin == 'quit': os._exit(9)\n\
         \x20   open('/tasks/0/planted.py', 'w')\n",
    ),
    ("wants.py", "import no_such_module_anywhere\ndef run(): pass\n"),
    ("idle.py", "def walk(): pass\n"),
    ("json.py", "def run(): return 'not the JSON of Python'\n"),
    ("torn.py", "def run(:\n"),
    ("_own.py", "def run(): return 1\n"),
];

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    // Whatever the umask of the tests is.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// A rig whose node has the tasks, and a virtual environment of the Python at `base`.
async fn rig(base: &str) -> Rig {
    let mut rig = Rig::new().await;
    let tasks = rig.root.path().join("tasks");
    fs::create_dir(&tasks).unwrap();
    fs::set_permissions(&tasks, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in TASKS {
        write(&tasks.join(name), text);
    }
    let venv = rig.root.path().join("venv");
    make_venv(base, &venv);
    rig.config.runners.python.venv = Some(venv);
    rig.config.runners.python.task_paths = vec![tasks];
    rig
}

#[tokio::test]
async fn a_module_can_paint_where_there_is_no_server() {
    let rig = rig("/usr/bin/python3").await;
    let paint = "def run(prompt, steps=20):\n\
                 \x20   open('image.png', 'wb').write(b'\\x89PNG ' + prompt.encode())\n\
                 \x20   return {'steps': steps}\n";
    write(&rig.config.runners.python.task_paths[0].join("sd_infer.py"), paint);
    let node = rig.run().await;
    let id = rig
        .submit(json!({
            "workload": "sd_infer", "runner": {"kind": "python"}, "params": {"prompt": "a cat"},
            "artifacts": [{"path": "image.png", "type": "image/png"}], "max_attempts": 1,
        }))
        .await;
    rig.result(id).await;
    assert_eq!(rig.download(id, 1).await, b"\x89PNG a cat");
    node.end().await;
}

#[expect(clippy::disallowed_methods, reason = "the tests make what an owner makes")]
fn make_venv(base: &str, venv: &Path) {
    let made = Command::new(base)
        .args(["-m", "venv", "--without-pip"])
        .arg(venv)
        .env_clear()
        .status()
        .unwrap();
    assert!(made.success());
}

fn job(task: &str, params: Value) -> Value {
    json!({"workload": task, "runner": {"kind": "python"}, "params": params, "max_attempts": 1})
}

#[tokio::test]
async fn a_task_of_the_owner_is_run_in_the_owners_environment() {
    let rig = rig("/usr/bin/python3").await;
    let node = rig.run().await;
    let offered = node.node.capabilities();
    let offered: Vec<_> = offered.workloads.iter().map(|name| name.as_str()).collect();
    assert_eq!(offered, ["cli", "count", "hash", "sins", "torch_bench", "wants", "wasm"]);

    let id = rig.submit(job("count", json!({"text": "a b c", "times": 2}))).await;
    let result = rig.result(id).await;
    let venv = rig.config.runners.python.venv.clone().unwrap();
    let text = result.result.unwrap().as_str().unwrap().to_owned();
    let wanted = json!({"words": 6, "prefix": venv, "who": "café"});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
    assert_eq!(result.metrics["tokens"], 200);
    assert_eq!(rig.credits(id).await, 1);
    let stderr = fs::read_to_string(rig.job_dir(id).join("logs/stderr.log")).unwrap();
    assert!(stderr.contains("to nobody\n") && stderr.contains("progress: 50%"), "{stderr}");
    node.end().await;
}

#[tokio::test]
async fn every_end_of_a_task_has_its_code() {
    let rig = rig("/usr/bin/python3").await;
    let node = rig.run().await;
    for (task, params, code, message) in [
        ("sins", json!({"sin": "raise"}), "E_EXIT", "ValueError: no such thing"),
        ("sins", json!({"sin": "memory"}), "E_OOM", "out of memory"),
        ("sins", json!({"sin": "nan"}), "E_OUTPUT", "no JSON"),
        ("sins", json!({"sin": "object"}), "E_OUTPUT", "no JSON"),
        ("sins", json!({"sin": "exit"}), "E_EXIT", "SystemExit: 0"),
        ("sins", json!({"sin": "quit"}), "E_EXIT", "code 9"),
        ("sins", json!({"sin": "plant"}), "E_EXIT", "Read-only file system"),
        ("sins", json!({"sun": "x"}), "E_INPUT", "missing a required argument: 'sin'"),
        ("wants", json!({}), "E_UNSUPPORTED", "No module named 'no_such_module_anywhere'"),
    ] {
        let id = rig.submit(job(task, params.clone())).await;
        let error = rig.failed(id, code).await.error.unwrap();
        assert!(error.message.contains(message), "{task} {params}: {}", error.message);
        assert_eq!(rig.credits(id).await, 0);
    }
    let traceback = rig.submit(job("sins", json!({"sin": "raise"}))).await;
    let error = rig.failed(traceback, "E_EXIT").await.error.unwrap();
    assert!(error.logs_tail.unwrap().contains("Traceback (most recent call last)"));
    assert!(!rig.config.runners.python.task_paths[0].join("planted.py").exists());
    node.end().await;
}

#[tokio::test]
async fn what_is_no_task_is_denied() {
    let rig = rig("/usr/bin/python3").await;
    let node = rig.node().await;
    let plan = |node: &miner_node::node::Node, task: &str| {
        let mut job: protocol::Job = serde_json::from_value(json!({
            "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "workload": task, "runner": {"kind": "python"},
            "slot": "cpu", "price": {"unit_type": "cpu_seconds", "unit_price": "0.01"},
            "attempt": 1, "client": "c", "created_at": "2026-01-24T00:00:00Z",
            "expires_at": "2026-01-24T00:15:00Z",
            "lease": {"token": "AAAAAAAAAAAAAAAAAAAAAA", "fence": 1,
                "expires_at": "2026-01-24T00:00:30Z", "deadline": "2026-01-24T00:02:00Z"},
        }))
        .unwrap();
        job.limits.max_runtime_s = Some(9);
        let planned = node.runners.plan(&job, Path::new("/x"), &node.ceilings());
        planned.map(drop).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(plan(&node, "count"), Ok(()));
    for other in ["os", "json", "idle", "torn", "_own", "count.run"] {
        let why = plan(&node, other).unwrap_err();
        assert!(why.starts_with("E_DENY") && why.contains("not one of this node's tasks"), "{why}");
    }
    let task = rig.config.runners.python.task_paths[0].join("count.py");
    fs::set_permissions(&task, fs::Permissions::from_mode(0o666)).unwrap();
    let why = plan(&node, "count").unwrap_err();
    assert!(why.starts_with("E_DENY") && why.contains("writable for others"), "{why}");
}

#[tokio::test]
async fn without_python_there_is_no_python_runner() {
    let mut rig = rig("/usr/bin/python3").await;
    for venv in [rig.root.path().join("nowhere"), rig.root.path().to_owned()] {
        rig.config.runners.python.venv = Some(venv);
        let node = rig.node().await;
        assert!(node.runners.python.is_none());
        let told = node.capabilities();
        assert!(told.workloads.iter().all(|name| name.as_str() != "count"), "{told:?}");
        assert!(!told.runners.contains(&protocol::job::RunnerKind::Python));
    }
    rig.config.runners.python = Default::default();
    assert!(rig.node().await.runners.python.is_none());
}

#[tokio::test]
async fn the_sample_task_counts_words() {
    let mut rig = rig("/usr/bin/python3").await;
    // A copy of its own, whoever the sources belong to.
    let tasks = rig.root.path().join("samples");
    fs::create_dir(&tasks).unwrap();
    fs::set_permissions(&tasks, fs::Permissions::from_mode(0o755)).unwrap();
    let sample = include_str!("../../../etc/miner/tasks/word_count.py");
    write(&tasks.join("word_count.py"), sample);
    rig.config.runners.python.task_paths = vec![tasks];
    let node = rig.run().await;
    let sha256 = rig.upload(b"to be or not to be").await;
    let mut job = job("word_count", json!({"top": 2}));
    job["input"] = json!({"files": [{"name": "book.txt", "sha256": sha256}]});
    let id = rig.submit(job).await;
    let result = rig.result(id).await;
    let text = result.result.unwrap().as_str().unwrap().to_owned();
    assert_eq!(text, "{\"words\":6,\"top\":[[\"to\",2],[\"be\",2]]}\n");
    assert_eq!(result.metrics["words"], 6);
    node.end().await;
}

/// What a virtual environment with torch looks like from here. The real one is of hundreds of
/// megabytes; this one holds what it is asked to do against what the workload promises.
const TORCH: &str = "\
import os
__version__ = '9.9'
class cuda:
    is_available = staticmethod(lambda: os.path.exists('input/cuda'))
    get_device_name = staticmethod(lambda number: 'Made Up 4090')
    synchronize = staticmethod(lambda: None)
products = 0
def device(name): return name
def set_num_threads(threads): assert threads == 1
def rand(rows, columns, device):
    assert (rows, columns) == (64, 64) and device in ('cpu', 'cuda')
    return device
def mm(a, b):
    assert a == b
    global products
    products += 1
    assert products <= 6, 'one to warm up, and as many as asked for'
";

#[tokio::test]
async fn torch_bench_runs_on_the_torch_of_the_environment_and_says_so() {
    let mut rig = rig("/usr/bin/python3").await;
    rig.config.runners.python.task_paths = Vec::new();
    let library = rig.config.runners.python.venv.clone().unwrap().join("lib");
    let version = fs::read_dir(library).unwrap().next().unwrap().unwrap().path();
    write(&version.join("site-packages/torch.py"), TORCH);
    let node = rig.run().await;
    assert!(!node.node.capabilities().runners.contains(&protocol::job::RunnerKind::Python));
    let mut job = json!({"workload": "torch_bench", "params": {"size": 64, "rounds": 5}});
    for device in ["cpu", "cuda (Made Up 4090)"] {
        let id = rig.submit(job.clone()).await;
        let text = rig.result(id).await.result.unwrap().as_str().unwrap().to_owned();
        assert!(text.starts_with("throughput_ops=5, seconds=0."), "{text}");
        let wanted = format!("\nengine=torch 9.9, device={device}, dtype=f32, size=64\n");
        assert!(text.ends_with(&wanted), "{text}");
        let sha256 = rig.upload(b"").await;
        job["input"] = json!({"files": [{"name": "cuda", "sha256": sha256}]});
    }
    node.end().await;
}

/// A Python that is nowhere near `/usr`, as pyenv and uv have it: the system's, moved.
#[tokio::test]
async fn a_python_in_a_home_directory_is_shown_as_far_as_it_is_needed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let base = moved_python(elsewhere.path());
    let rig = rig(base.to_str().unwrap()).await;
    fs::write(elsewhere.path().join("secret"), "").unwrap();
    let peek = rig.config.runners.python.task_paths[0].join("peek.py");
    write(
        &peek,
        "import os, sys\ndef run(): return [sys.base_prefix, os.listdir(sys.base_prefix)]\n",
    );
    let node = rig.run().await;
    let id = rig.submit(job("peek", json!({}))).await;
    let text = rig.result(id).await.result.unwrap().as_str().unwrap().to_owned();
    let (prefix, mut seen): (PathBuf, Vec<String>) = serde_json::from_str(&text).unwrap();
    seen.sort();
    assert_eq!((prefix.as_path(), seen), (elsewhere.path(), vec!["bin".into(), "lib".into()]));
    node.end().await;
}

/// Copies the system's Python below `root`.
#[expect(clippy::disallowed_methods, reason = "the tests make what an owner makes")]
fn moved_python(root: &Path) -> PathBuf {
    let ask = "import sys, sysconfig; print(sys.executable); print(sysconfig.get_path('stdlib'))";
    let said = Command::new("/usr/bin/python3").args(["-I", "-c", ask]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (program, library) = said.trim().split_once('\n').unwrap();
    let (program, library) = (fs::canonicalize(program).unwrap(), Path::new(library));
    let (bin, lib) = (root.join("bin"), root.join("lib"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&lib).unwrap();
    fs::copy(&program, bin.join("python3")).unwrap();
    let copied = Command::new("cp").args(["-rL"]).arg(library).arg(&lib).status().unwrap();
    assert!(copied.success());
    bin.join("python3")
}
