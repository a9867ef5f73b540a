//! What clients submit, from the body to what is stored, matched and handed out.

use coordinator::config::Config;
use coordinator::controls::InForce;
use coordinator::dispatch::matching::{Needs, unmet};
use coordinator::intake::{Draft, draft};
use coordinator::jobs::Spec;
use coordinator::miners::{Miner, capabilities};
use coordinator::wire;
use protocol::client::{MAX_BATCH, NewBatch, NewJob};
use protocol::job::{Lease, RunnerKind, SlotKind};
use protocol::miner::CapabilityLimits;
use protocol::{ErrorCode, Job, JobId, LeaseToken, Name, Timestamp};

/// A job, or a batch of them.
pub fn jobs(data: &[u8]) {
    job(data);
    if let Ok(batch) = wire::parse::<NewBatch>(data) {
        assert!((1..=MAX_BATCH).contains(&batch.jobs.len()));
        batch.jobs.iter().for_each(|one| job(one.get().as_bytes()));
    }
}

fn job(data: &[u8]) {
    let Ok(job) = wire::parse::<NewJob>(data) else { return };
    let client = name("client");
    let (config, in_force) = (Config::default(), InForce::default());
    match draft(&config, &in_force, &client, Timestamp::from_micros(0), job) {
        Err(error) => {
            assert_eq!(error.code, ErrorCode::InvalidPayload);
            assert!(error.details.contains_key("field"));
        }
        Ok(draft) => accepted(draft),
    }
}

fn accepted(draft: Draft) {
    assert!(!draft.hold.is_negative());
    let text = serde_json::to_string(&draft.spec).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Spec>(&text).ok().as_ref(), Some(&draft.spec));
    let text = serde_json::to_string(&draft.needs).expect("it is JSON");
    let needs: Needs = serde_json::from_str(&text).expect("it was written by us");
    assert_eq!((needs.digest(), &needs), (draft.needs.digest(), &draft.needs));
    meets_what_is_asked(&draft);

    let lease = Lease {
        token: LeaseToken::from_u128(7),
        fence: 1,
        expires_at: Timestamp::from_micros(0),
        deadline: Timestamp::from_micros(0),
    };
    let job = draft.spec.into_job(JobId::from_u128(7), 1, lease);
    let text = serde_json::to_string(&job).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Job>(&text).ok(), Some(job));
}

/// Sizes are rounded on their way to a class: never so that a smaller miner would do.
fn meets_what_is_asked(draft: &Draft) {
    let miner = miner(&draft.spec.workload);
    if unmet(&draft.needs, &miner).is_none() {
        let (asked, has) = (&draft.spec.limits, &miner.capabilities.limits);
        assert!(asked.disk_mb <= has.disk_mb && asked.ram_mb <= has.ram_mb);
        assert!(draft.spec.requirements.vram_mb <= has.vram_mb);
        assert!(Some(draft.max_runtime_s) <= has.max_runtime_s);
    }
}

fn miner(workload: &Name) -> Miner {
    let mut capabilities = capabilities::unregistered(name("miner"), SlotKind::Gpu, true);
    capabilities.workloads = vec![workload.clone()];
    capabilities.runners = vec![RunnerKind::Builtin, RunnerKind::Cli, RunnerKind::Python];
    capabilities.limits = CapabilityLimits {
        vram_mb: Some(16_000),
        ram_mb: Some(32_000),
        max_runtime_s: Some(3_600),
        disk_mb: Some(50_000),
        cpu_cores: Some(16),
    };
    Miner {
        no: 1,
        id: name("miner"),
        wallet: name("wallet"),
        registered: true,
        pubkey: None,
        drain: false,
        gpu_lost: false,
        capabilities,
    }
}

fn name(text: &'static str) -> Name {
    text.parse().expect("a name")
}
