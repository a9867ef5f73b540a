//! What a node reads: jobs, its own files after a crash, devices, the coordinator's address.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use miner_node::capabilities::{DeviceProbe as _, host, nvidia_smi, sysfs::Sysfs};
use miner_node::config::{Accept, BaseUrl};
use miner_node::outbox::Outbox;
use miner_node::receipts::{Signer, receipt};
use miner_node::runners::{Allowlist, Builtin, Ceilings, Cli, JobFacts, Plan, Runners, Wasm};
use miner_node::workdir::{RunRecord, Workspace};
use miner_node::{consent, identity, inputs};
use protocol::job::SlotKind;
use protocol::{Job, JobId, Sha256Hex, Timestamp};

use crate::files;

const CEILINGS: Ceilings = Ceilings {
    runtime_s: 3_600,
    ram_mb: Some(1 << 14),
    usual_ram_mb: None,
    output_mb: 100,
    disk_mb: Some(1 << 16),
    usual_disk_mb: None,
    least_free_mb: 0,
    cpu_threads: Some(64),
    busy_threads: None,
    processes: 1024,
    open_files: 1024,
};

thread_local! {
    static RUNNERS: Runners = runners();
    static WORKSPACE: OnceCell<Workspace> = const { OnceCell::new() };
}

/// A job from the coordinator: it is planned within the owner's limits, or refused.
pub fn leased_job(data: &[u8]) {
    let Ok(job) = serde_json::from_slice::<Job>(data) else { return };
    let text = serde_json::to_vec(&job).expect("a job is JSON");
    assert_eq!(serde_json::from_slice::<Job>(&text).ok().as_ref(), Some(&job));
    let _ = consent::check(&Accept::default(), &job);
    let facts = serde_json::to_vec(&JobFacts::of(&job)).expect("facts are JSON");
    assert_eq!(serde_json::from_slice::<JobFacts>(&facts).ok(), Some(JobFacts::of(&job)));
    RUNNERS.with(|runners| {
        if let Ok(Plan::Sandboxed(command)) = runners.plan(&job, Path::new("/job"), &CEILINGS) {
            assert!(["/miner-node", "/usr/bin/env"].map(Path::new).contains(&&*command.program));
            assert!(command.args.iter().all(|arg| arg.bytes().all(|b| (b' '..=b'~').contains(&b))));
            assert!(command.limits.wall <= Duration::from_secs(CEILINGS.runtime_s.into()));
            assert!(command.limits.memory_bytes <= Some(1 << 34));
            assert!(command.limits.output_bytes <= u64::from(CEILINGS.output_mb) << 20);
            assert!(command.limits.work_bytes <= 1 << 36);
        }
    });
    receipts_verify(&job);
}

fn runners() -> Runners {
    let allow = "command: {path: /usr/bin/env}\nargs: [[-i], [--chdir, '.*'], {matches: '.+'}]\n";
    let file = files::put("runners.d/env.yaml", allow.as_bytes());
    let list = Allowlist::load(file.parent().expect("it is in a directory")).expect("it is good");
    Runners {
        builtin: Some(Builtin::new("/usr/bin/true")),
        cli: Cli::new(list),
        wasm: Some(Wasm::new("/usr/bin/true")),
        ..Runners::default()
    }
}

/// Whatever the coordinator says, a node signs only what verifies.
fn receipts_verify(job: &Job) {
    let run = RunRecord {
        mode: SlotKind::Cpu,
        isolation: "bwrap".to_owned(),
        started_at: Timestamp::from_micros(1_000_000),
        wall_micros: 11_846_000,
        cpu_micros: 0,
        max_rss_bytes: 0,
        written_bytes: 0,
        vram_bytes: None,
        joules: None,
        egress_bytes: None,
        output_sha: Sha256Hex::of(b""),
        artifacts: Vec::new(),
        fuel: Some(1_000_000),
        tokens: Some(7),
        model: None,
        measured: serde_json::Map::new(),
    };
    let (miner, key) = ("m1".parse().expect("a name"), SigningKey::from_bytes(&[1; 32]));
    let signer = Signer { miner: &miner, wallet: &miner, key: &key, nonce: 1 };
    if let Some(receipt) = receipt(job, &run, &signer) {
        assert_eq!(receipt.verify(), Ok(()));
    }
}

/// The files of a work directory that a crash, or somebody else, left behind.
pub fn state_files(data: &[u8]) {
    let id = JobId::from_u128(7);
    for name in ["state.json", "report.json"] {
        files::put(&format!("node/jobs/{id}/{name}"), data);
    }
    let key = files::put("node/node.key", data);
    WORKSPACE.with(|workspace| {
        let root = files::directory().join("node");
        let workspace = workspace.get_or_init(|| Workspace::open(&root).expect("it is ours"));
        let dir = workspace.job(id);
        assert_eq!(workspace.jobs().expect("it can be listed"), std::slice::from_ref(&dir));
        if let Ok(state) = dir.state() {
            let text = serde_json::to_vec(&state).expect("a state is JSON");
            assert_eq!(serde_json::from_slice(&text).ok(), Some(state));
        }
        if let Ok(report) = Outbox::default().resume(&dir) {
            let text = serde_json::to_vec(&report).expect("a report is JSON");
            assert_eq!(serde_json::from_slice(&text).ok(), Some(report));
        }
    });
    let _ = identity::read_key(&key);
}

/// Where a card's facts lie below `/sys/class/drm`.
const CARD: [&str; 8] = [
    "card0/device/vendor",
    "card0/device/device",
    "card0/device/product_name",
    "card0/device/mem_info_vram_total",
    "card0/device/mem_info_vram_used",
    "card0/device/gpu_busy_percent",
    "card0/device/hwmon/hwmon0/temp1_input",
    "card0/lmem_avail_bytes",
];

/// What drivers and the kernel say: `nvidia-smi`, a card's files (one on each line), `meminfo`.
pub fn devices(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let found = nvidia_smi::parse(&text);
    assert!(!found.is_empty() && found.iter().all(|device| device.is_usable()));
    let memory = host::parse_meminfo(&text);
    assert!(memory.total_mb <= u64::MAX >> 10);
    for (name, line) in CARD.iter().zip(data.split(|byte| *byte == b'\n')) {
        files::put(&format!("drm/{name}"), line);
    }
    let cards = Sysfs::at(files::directory().join("drm")).devices();
    assert!(cards.expect("the directory is there").len() <= 1);
}

/// Where a client says that an input lies: nowhere but at the owner's hosts, and without secrets.
pub fn input_url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let hosts = ["data.example.net", "127.0.0.1"];
    let accept = Accept { input_hosts: hosts.map(str::to_owned).to_vec(), ..Accept::default() };
    if let Ok(url) = inputs::allowed(text, &accept) {
        assert!(url.host_str().is_some_and(|host| hosts.contains(&host)), "{url}");
        assert!(["http", "https"].contains(&url.scheme()), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert!(inputs::allowed(text, &Accept::default()).is_err());
    }
}

/// The coordinator's address: where requests go is what was written.
pub fn base_url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(base) = text.parse::<BaseUrl>() else { return };
    let shown = base.to_string();
    let again: BaseUrl = shown.parse().expect("it was written by us");
    assert_eq!((again.to_string(), again.is_loopback()), (shown, base.is_loopback()));
    let endpoint = base.endpoint("/v1/health");
    assert_eq!(again.endpoint("/v1/health"), endpoint);
    assert_eq!(endpoint.host_str(), Some(base.host()));
    assert!(endpoint.path().ends_with("/v1/health") && endpoint.query().is_none());
    assert!(endpoint.username().is_empty() && endpoint.password().is_none());
    assert_eq!(base.is_https(), endpoint.scheme() == "https");
    if !text.contains("://") {
        assert!(base.is_https() || base.is_loopback(), "{text} is plain and elsewhere");
    }
}
