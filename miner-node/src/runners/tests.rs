//! Jobs as tests need them, and the rules that all runners share.

use super::*;

/// A built-in job of `workload` with a minute to run, at 0.01 per CPU second.
pub(crate) fn job(workload: &str) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "workload": workload,
        "runner": {"kind": "builtin"},
        "limits": {"max_runtime_s": 60},
        "slot": "cpu",
        "price": {"unit_type": "cpu_seconds", "unit_price": "0.01"},
        "attempt": 1,
        "lease": {
            "token": "AAAAAAAAAAAAAAAAAAAAAA",
            "fence": 1,
            "expires_at": "2026-01-24T00:00:30Z",
            "deadline": "2026-01-24T00:02:00Z",
        },
        "client": "client-a",
        "created_at": "2026-01-24T00:00:00Z",
        "expires_at": "2026-01-24T00:15:00Z",
    }))
    .unwrap()
}

fn refusal(runners: &Runners, job: &Job) -> FailureCode {
    runners.plan(job, Path::new("/x"), &Ceilings::default()).unwrap_err().code
}

#[test]
fn what_is_not_there_is_unsupported() {
    let none = Runners::default();
    assert_eq!(refusal(&none, &job("hash")), FailureCode::Unsupported);
    let mut other = job("x");
    other.runner.kind = RunnerKind::Container;
    assert_eq!(refusal(&none, &other), FailureCode::Unsupported);
    let runners = Runners { builtin: Some(Builtin::new("/node")), ..Runners::default() };
    assert_eq!(refusal(&runners, &job("x")), FailureCode::Unsupported);
    assert_eq!(runners.offer(Some("bwrap")).runners, [RunnerKind::Builtin]);
}

#[test]
fn work_that_uses_no_gpu_is_refused_a_gpu_slot_and_the_gpu_stays_on_offer() {
    let builtin = Some(Builtin::new("/node"));
    let runners = Runners { builtin, wasm: Some(Wasm::new("/node")), ..Runners::default() };
    assert!(!runners.offer(Some("bwrap")).reaches_gpu);
    for workload in ["hash", "torch_bench"] {
        let mut job = job(workload);
        job.slot = SlotKind::Gpu;
        assert_eq!(refusal(&runners, &job), FailureCode::Unsupported);
    }
}

#[test]
fn a_program_learns_nothing_about_the_lease() {
    let facts = serde_json::to_string(&JobFacts::of(&job("hash"))).unwrap();
    assert!(!facts.contains("AAAAAAAA") && facts.contains("01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{facts}");
}

#[test]
fn nobody_pays_for_a_gpu_and_gets_a_processor() {
    let runners = Runners { builtin: Some(Builtin::new("/node")), ..Runners::default() };
    let mut job = job("hash");
    assert!(runners.plan(&job, Path::new("/x"), &Ceilings::default()).is_ok());
    job.slot = SlotKind::Gpu;
    let refusal = runners.plan(&job, Path::new("/x"), &Ceilings::default()).unwrap_err();
    assert_eq!(refusal.code, FailureCode::Unsupported);
    assert!(refusal.message.contains("GPU"), "{}", refusal.message);
}

#[test]
fn a_server_without_models_brings_no_gpu() {
    let mut offer = Offer::default();
    offer.add_models(RunnerKind::Ollama, llm::WORKLOAD, Vec::new(), true);
    assert!(!offer.reaches_gpu);
    offer.add_models(RunnerKind::Ollama, llm::WORKLOAD, vec!["m".parse().unwrap()], true);
    assert!(offer.reaches_gpu);
}

#[test]
fn a_server_on_the_gpu_keeps_it_busy_whatever_the_job_is_paid_as() {
    // Another test may have been faster; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut painting = job(sd::WORKLOAD);
    painting.runner.kind = sd::KIND;
    for (gpu, slot) in [(true, SlotKind::Gpu), (false, SlotKind::Cpu)] {
        let config = crate::config::SdRunner { gpu, ..crate::config::SdRunner::default() };
        let runners = Runners { sd: Some(Sd::new(&config).unwrap()), ..Runners::default() };
        assert_eq!(runners.slot(&painting), slot);
        assert_eq!(runners.slot(&job("hash")), SlotKind::Cpu);
    }
}
