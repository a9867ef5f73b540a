//! Containers: by a real podman where there is one that can run one, with an image made here.

use std::path::Path;
use std::process::Command;

use miner_node::facts::usable_processors;
use mining::engine::Engine as _;
use serde_json::{Value, json};

use crate::mining::{cancel, mind_nobody, mining, processors_of_job, processors_of_lanes};
use crate::rig::{Rig, eventually, exists};

/// A podman with a place of its own, and the image in it, by its digest; `None` where there is no
/// podman, or this machine does not let it run anything.
struct Podman {
    program: String,
    image: String,
    root: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "the tests prepare what the node will use")]
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Podman {
    fn new() -> Result<Self, String> {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/podman --root {} --runroot {} --cgroup-manager cgroupfs \
             --runtime runc \"$@\"\n",
            path("storage"),
            path("run")
        );
        let program = path("podman");
        std::fs::write(&program, script).unwrap();
        run("/bin/chmod", &["755", &program])?;
        for directory in ["image/bin", "image/work", "image/tmp"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        // As every image has it: engines keep the mode of what they mount over.
        run("/bin/chmod", &["1777", &path("image/tmp")])?;
        std::fs::copy("/bin/busybox", path("image/bin/busybox")).map_err(|e| e.to_string())?;
        for name in ["sh", "cat", "id", "ls", "sleep", "wget", "dd", "touch", "env", "tail", "grep"]
        {
            std::os::unix::fs::symlink("busybox", path(&format!("image/bin/{name}"))).unwrap();
        }
        run("/bin/tar", &["-C", &path("image"), "-cf", &path("image.tar"), "."])?;
        run(&program, &["import", "--quiet", &path("image.tar"), "localhost/tiny:1"])?;
        let digest =
            run(&program, &["image", "inspect", "--format", "{{.Digest}}", "localhost/tiny:1"])?;
        let image = format!("localhost/tiny@{digest}");
        Ok(Self { program, image, root })
    }

    fn containers(&self) -> String {
        run(&self.program, &["ps", "--all", "--quiet"]).unwrap()
    }

    async fn rig(&self) -> Rig {
        let mut rig = Rig::new().await;
        let container = &mut rig.config.runners.container;
        container.enable = true;
        container.engine = self.program.clone();
        container.images = vec![self.image.clone()];
        container.allow_rootful = true;
        rig
    }

    fn job(&self, script: &str) -> Value {
        json!({"workload": "container", "runner": {"kind": "container"}, "max_attempts": 1,
            "params": {"image": self.image, "args": ["/bin/sh", "-c", script]}})
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its layers belong to other users; left alone they are only clutter.
        let _ = run(&self.program, &["rm", "--all", "--force"]);
        let _ =
            run("/bin/umount", &[&self.root.path().join("storage/overlay").display().to_string()]);
    }
}

#[tokio::test]
#[ignore = "needs podman, runc and busybox-static, and root"]
async fn containers_run_and_leave_nothing() {
    let podman = Podman::new().unwrap();
    let mut rig = podman.rig().await;
    rig.config.resources.max_output_mb = 8;
    let node = rig.run().await;
    let sha256 = rig.upload(b"from outside\n").await;
    let mut job = podman.job(
        "cat input/x; id -u; echo made > made.txt; ls /sys/class/net; cat /job.json | tail -c 1",
    );
    job["input"] = json!({"files": [{"name": "x", "sha256": sha256}]});
    job["artifacts"] = json!([{"path": "made.txt"}]);
    let id = rig.submit(job).await;
    let result = rig.result(id).await;
    let text = result.result.unwrap().as_str().unwrap().to_owned();
    assert!(text.starts_with("from outside\n65534\nlo\n"), "{text}");
    assert_eq!(rig.download(id, 1).await, b"made\n");
    let receipt = rig.receipt(id).await;
    assert_eq!(receipt.isolation.as_deref(), Some("podman-rootful"));
    let with = |script: &str, limits: Value| {
        let mut job = podman.job(script);
        job["limits"] = limits;
        job
    };
    let mut denied = podman.job("true");
    denied["params"]["image"] = "localhost/tiny:1".into();
    for (job, code) in [
        (podman.job("exit 3"), "E_EXIT"),
        // The first process of a container cannot kill itself.
        (podman.job("sh -c 'kill -9 $$'; exit $?"), "E_SIGNAL"),
        (podman.job("echo x > /etc/x || exit 7; exit 0"), "E_EXIT"),
        (podman.job("cat /dev/zero"), "E_OUTPUT"),
        (with("trap '' TERM; while :; do sleep 1; done", json!({"max_runtime_s": 1})), "E_TIMEOUT"),
        (denied, "E_DENY"),
    ] {
        let id = rig.submit(job).await;
        rig.failed(id, code).await;
        assert_eq!(podman.containers(), "");
    }
    // What it uses is seen while it runs.
    let id = rig
        .submit(podman.job(
            "dd if=/dev/zero of=file bs=1000 count=500; i=0; \
             while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1",
        ))
        .await;
    let metrics = rig.result(id).await.metrics;
    assert!(metrics["cpu_seconds"].as_f64().unwrap() > 0.0, "{metrics:?}");
    assert!(metrics["written_bytes"].as_u64().unwrap() >= 500_000, "{metrics:?}");
    assert!(metrics["max_rss_mb"].as_f64().unwrap() > 0.0, "{metrics:?}");
    let slowly = "i=0; while :; do dd if=/dev/zero of=/tmp/$i bs=1000000 count=1; i=$((i+1)); \
                  sleep 0.1; done";
    let id = rig.submit(with(slowly, json!({"ram_mb": 32}))).await;
    rig.failed(id, "E_OOM").await;
    // Who is too fast to be seen is known to the engine, if at all.
    let id = rig.submit(with("tail /dev/zero", json!({"ram_mb": 32}))).await;
    let code = rig.ended(id).await.error.unwrap().code;
    assert!(["E_OOM", "E_SIGNAL"].contains(&code.as_str()), "{code}");
    let id = rig.submit(podman.job("touch here; sleep 1000")).await;
    exists(&rig.job_dir(id).join("work/here")).await;
    cancel(&rig, id).await;
    rig.until_phase(id, "FAILED").await;
    assert_eq!(podman.containers(), "");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs podman, runc and busybox-static, and root"]
async fn nothing_is_mined_on_the_processors_of_a_container() {
    let podman = Podman::new().unwrap();
    let mut rig = podman.rig().await;
    mind_nobody(&mut rig);
    let all = usable_processors().len();
    let (running, engine) = mining(&rig, all).await;
    let mut job = podman.job("grep Cpus_allowed_list /proc/self/status; exec sleep 600");
    job["constraints"] = json!({"cpu_threads": 1});
    let id = rig.submit(job).await;
    rig.until_phase(id, "RUNNING").await;
    let of_job = processors_of_job(&rig, id).await;
    assert_eq!(of_job.len(), 1);
    eventually(async || (engine.busy_threads() < all).then_some(())).await;
    let mine = processors_of_lanes(all - 1);
    assert_eq!(mine.is_empty(), all == 1);
    assert!(mine.is_disjoint(&of_job), "{of_job:?} {mine:?}");
    cancel(&rig, id).await;
    rig.until_phase(id, "FAILED").await;
    eventually(async || (engine.busy_threads() == all).then_some(())).await;
    assert_eq!(podman.containers(), "");
    running.end().await;
}

#[tokio::test]
async fn without_an_engine_or_with_a_rootful_one_nothing_is_offered() {
    let mut rig = Rig::new().await;
    let program = rig.root.path().join("podman");
    // It answers as a rootful podman does, and refuses everything else.
    let script = "#!/bin/sh\ncase \"$1\" in --version) echo podman version 4.3.1 ;; info) echo false ;; ps) ;; *) exit 125 ;; esac\n";
    std::fs::write(&program, script).unwrap();
    run("/bin/chmod", &["755", program.to_str().unwrap()]).unwrap();
    let digest = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
    rig.config.runners.container.enable = true;
    rig.config.runners.container.images = vec![format!("localhost/tiny@sha256:{digest}")];
    for engine in [program.as_path(), Path::new("/no/such/engine")] {
        rig.config.runners.container.engine = engine.display().to_string();
        let node = rig.node().await;
        let told = serde_json::to_value(&*node.capabilities()).unwrap();
        assert!(!told["runners"].as_array().unwrap().contains(&"container".into()), "{told}");
    }
}
