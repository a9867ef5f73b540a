//! Where the node's secrets are, and above all where they are not.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::client::JobView;
use serde_json::json;

use crate::rig::{Rig, eventually, script_job};

/// What this node must not tell, with a name for each.
struct Secret {
    name: &'static str,
    text: Vec<u8>,
    /// The only files that may hold it.
    kept_in: &'static [&'static str],
}

/// Every file below `top` that holds one of the secrets and should not.
fn leaks(top: &Path, secrets: &[Secret]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = fs::read(&path) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let held = secrets.iter().filter(|secret| holds(&bytes, &secret.text));
            found.extend(
                held.filter(|secret| !secret.kept_in.contains(&&*name))
                    .map(|secret| format!("{} in {}", secret.name, path.display())),
            );
        }
    }
    found
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// The directories in `/proc` of everything below process `root`.
fn below(root: u32) -> Vec<PathBuf> {
    let list = fs::read_dir(format!("/proc/{root}/task")).into_iter().flatten().flatten();
    let children: String = list
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default() + " ")
        .collect();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .flat_map(|pid: u32| [vec![PathBuf::from(format!("/proc/{pid}"))], below(pid)].concat())
        .collect()
}

#[tokio::test]
async fn no_secret_is_written_or_handed_on() {
    let rig = Rig::new().await;
    let root = rig.root.path();
    let key = "id.key-that-nobody-must-see";
    fs::write(root.join("api.key"), key).unwrap();
    let node = rig.start(
        json!({
            "coordinator": {"base_url": rig.mock.url(), "auth_token_file": root.join("api.key")},
            "logging": {"level": "debug", "path": root.join("node.log")},
        }),
        &[],
        fs::File::create(root.join("node.out")).unwrap(),
    );

    // Seen while it runs.
    let running = rig.submit_script("touch here; while [ ! -e go ]; do sleep 0.1; done").await;
    crate::rig::exists(&rig.job_dir(running).join("work/here")).await;
    let seed = fs::read_to_string(root.join("work/signing.key")).unwrap().trim().to_owned();
    let mut secrets = vec![
        Secret { name: "API key", text: key.into(), kept_in: &["api.key"] },
        Secret { name: "seed", text: hex::decode(&seed).unwrap(), kept_in: &[] },
        Secret { name: "seed", text: seed.into_bytes(), kept_in: &["signing.key"] },
    ];
    let children = below(node.id());
    assert!(children.len() >= 3, "{children:?}");
    let mut is_seen = false;
    for child in children {
        for file in ["environ", "cmdline"] {
            // It may have ended meanwhile.
            let bytes = fs::read(child.join(file)).unwrap_or_default();
            assert!(secrets.iter().all(|secret| !holds(&bytes, &secret.text)), "{child:?}");
            is_seen |= holds(&bytes, b"HOME=/work");
        }
    }
    assert!(is_seen, "the environment of a job could be read");
    fs::write(rig.job_dir(running).join("work/go"), "").unwrap();
    let mut views: Vec<JobView> = vec![rig.ended(running).await];

    // Endings of every kind.
    let mut late = script_job("exec sleep 1000");
    late["limits"] = json!({"max_runtime_s": 1});
    for job in [
        script_job("env; cat /proc/self/environ"),
        script_job("env >&2; exit 3"),
        script_job("kill -SEGV $$"),
        late,
        json!({"command": "sh", "args": ["-x"], "max_attempts": 1}),
        json!({"workload": "hash", "input": {"inline": {"text": "x"}}}),
    ] {
        let id = rig.submit(job).await;
        views.push(rig.ended(id).await);
    }
    let proven = views.iter().find(|view| view.state == protocol::JobState::Completed).unwrap();
    fs::write(root.join("receipt"), serde_json::to_vec(&rig.receipt(proven.job_id).await).unwrap())
        .unwrap();
    // Leases are secrets, too; the node needs them again after a crash, in one place.
    let calls = rig.mock.journal.all(|call| call.body.is_some());
    let tokens = calls.iter().filter_map(|call| call.body.as_ref()?["lease_token"].as_str());
    let leases: std::collections::BTreeSet<_> = tokens.map(str::to_owned).collect();
    assert!(leases.len() >= views.len(), "{leases:?}");
    secrets.extend(leases.into_iter().map(|lease| Secret {
        name: "lease",
        text: lease.into_bytes(),
        // Each is written beside its place first: the node is killed at any moment.
        kept_in: &["state.json", "state.tmp", "report.json", "report.tmp"],
    }));
    assert!(rig.mock.journal.all(|call| call.path.ends_with("/logs")).iter().all(|call| {
        let text = call.body.as_ref().map(|body| body["text"].to_string()).unwrap_or_default();
        secrets.iter().all(|secret| !holds(text.as_bytes(), &secret.text))
    }));

    let log =
        eventually(async || fs::read(root.join("node.log")).ok().filter(|log| !log.is_empty()))
            .await;
    assert!(holds(&log, views[0].job_id.to_string().as_bytes()), "the log tells of the jobs");
    drop(node);
    // What is looked for would be found: these files are where the secrets belong.
    let kept: Vec<Secret> = secrets
        .iter()
        .map(|secret| Secret { kept_in: &[], text: secret.text.clone(), ..*secret })
        .collect();
    let found = leaks(root, &kept).join("\n");
    for file in ["api.key", "signing.key", "state.json"] {
        assert!(found.contains(file), "{found}");
    }
    assert_eq!(leaks(root, &secrets), [] as [String; 0]);
}
