//! Why a job waits, why a miner idles, why an attempt was not paid.

use protocol::why::{JobWhy, MinerWhy};
use protocol::{ErrorCode, JobId, JobState};
use serde_json::{Value, json};

use crate::support::{Reply, Request, TestApp, on_both_engines};

fn path(job: JobId) -> String {
    format!("/v1/jobs/{job}/why")
}

fn why(reply: Reply) -> JobWhy {
    reply.expect(200).json()
}

fn gpu(vram_mb: u32) -> Value {
    json!({
        "mode": "gpu", "gpu": true, "limits": {"vram_mb": vram_mb, "max_runtime_s": 3600},
        "gpus": [{"index": 0, "name": "g", "vram_mb": vram_mb}],
    })
}

on_both_engines! {
    async fn a_job_that_is_too_large_for_all_says_so_with_numbers(app: TestApp) {
        let client = app.client("c1").await;
        for (name, vram_mb) in [("m1", 8192), ("m2", 16384), ("m3", 12288)] {
            app.miner(name).await.register_with(gpu(vram_mb)).await.expect(201);
        }
        let job = client.submit(json!({"workload": "hash", "limits": {"vram_mb": 24000}})).await;
        let told = why(client.get(&path(job)).await);
        let sentence = "3 miners online, none has vram_mb >= 24000; the largest has 16384";
        assert_eq!(told.summary, format!("{sentence}; it lapses at 2026-01-24T00:15:00Z"));
        assert_eq!((told.state, told.ahead), (JobState::Queued, None));
        let reach = told.reach.unwrap();
        assert_eq!((reach.online, reach.able, reach.free), (3, 0, 0));
        // Nobody takes it: it says so when it lapses, too.
        app.advance(901);
        app.sweep().await;
        let ended = client.job(job).await;
        let message = ended.error.unwrap().message;
        assert!(message.starts_with("nobody took the job before it lapsed: no miner is online"));
        let told = why(client.get(&path(job)).await);
        assert!(told.summary.starts_with("expired at") && told.summary.contains("NO_ELIGIBLE_MINER"));
    }

    async fn a_lapsed_job_says_what_nobody_had(app: TestApp) {
        let client = app.client("c1").await;
        app.registered("m1").await;
        let spec = json!({"workload": "sd_infer", "ttl_seconds": 30});
        let job = client.submit(spec).await;
        app.advance(31);
        app.sweep().await;
        let message = client.job(job).await.error.unwrap().message;
        assert_eq!(message, "nobody took the job before it lapsed: 1 miner online, none offers the \
                             workload sd_infer; on offer: cli, hash, torch_bench");
    }

    async fn a_job_for_the_network_goes_to_who_lets_it_out_and_not_back_to_who_did_not(app: TestApp) {
        let client = app.client("c1").await;
        let walled = app.registered("m1").await;
        let spec = json!({"workload": "hash", "limits": {"network": "egress"}});
        let job = client.submit(spec).await;
        assert_eq!(walled.next().await.map(|job| job.id), None);
        let told = why(client.get(&path(job)).await);
        let sentence = "1 miner online, none lets jobs reach out to the network";
        assert!(told.summary.starts_with(sentence), "{}", told.summary);
        assert_eq!(told.reach.unwrap().reasons[0].requirement, "network");
        // Two say that they do, and the first does not after all.
        let (first, second) = (app.miner("m2").await, app.miner("m3").await);
        for open in [&first, &second] {
            open.register_with(json!({"egress": true})).await.expect(201);
        }
        let taken = first.take().await;
        assert_eq!(taken.id, job);
        first.fail(&taken, "E_EGRESS").await.expect(200);
        assert_eq!(first.next().await.map(|job| job.id), None);
        assert_eq!(second.take().await.id, job);
    }

    async fn silent_miners_are_told_of(app: TestApp) {
        let client = app.client("c1").await;
        app.registered("m1").await;
        app.registered("m2").await;
        app.advance(300);
        let told = why(client.get(&path(client.submit_any().await)).await);
        assert!(told.summary.starts_with(
            "no miner is online. 2 known miners could run it but were last heard of 5 min ago"
        ), "{}", told.summary);
    }

    async fn a_job_is_followed_from_queue_to_pay(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.miner("m1").await;
        miner.register_with(json!({"concurrency": 1})).await.expect(201);
        let (first, second) = (client.submit_any().await, client.submit_any().await);
        let told = why(client.get(&path(second)).await);
        assert_eq!(told.ahead, Some(1));
        assert!(told.summary.starts_with(
            "1 of 1 miner online can run it, 1 of them free; it waits behind 1 job;"
        ), "{}", told.summary);
        let job = miner.take().await;
        assert_eq!(job.id, first);
        let told = why(client.get(&path(first)).await);
        assert!(told.summary.starts_with("m1 was handed it at 2026-"), "{}", told.summary);
        miner.ack(&job).await.expect(200);
        let told = why(client.get(&path(first)).await);
        assert_eq!(told.summary, "m1 works on it since 2026-01-24T00:00:00Z, attempt 1 of 3");
        let told = why(client.get(&path(second)).await);
        assert!(told.summary.contains("none of them is free; it is the first"), "{}", told.summary);
        assert_eq!(told.reach.unwrap().reasons[0].requirement, "busy");
        app.advance(10);
        miner.fail(&job, "E_EXIT").await.expect(200);
        let told = why(client.get(&path(first)).await);
        assert!(told.summary.starts_with("it waits until 2026-01-24T00:00:1"), "{}", told.summary);
        assert!(told.summary.contains("for attempt 2 of 3 after E_EXIT: it broke"));
        assert_eq!(told.reach.unwrap().reasons[0].requirement, "retry");
        app.advance(6);
        app.sweep().await;
        let job = miner.take().await;
        app.advance(5);
        miner.prove(&miner.proof(&job, "done")).await.expect(201);
        let told = why(client.get(&path(job.id)).await);
        assert_eq!(told.state, JobState::Completed);
        let last = told.attempts.last().unwrap();
        assert!(last.paid && last.message.starts_with("paid 0.01 AITBC at "), "{}", last.message);
        assert!(told.summary.contains("by m1: paid 0.01 AITBC"), "{}", told.summary);
        app.audit().await;
    }

    async fn a_refused_proof_and_a_lost_lease_are_why_nothing_was_paid(app: TestApp) {
        let client = app.client("c1").await;
        let (slow, fast) = (app.registered("m1").await, app.registered("m2").await);
        let id = client.submit_any().await;
        let job = slow.take().await;
        slow.ack(&job).await.expect(200);
        let mut bad = slow.proof(&job, "x");
        bad.result = Some("something else".into());
        slow.prove(&bad).await.refused(ErrorCode::HashMismatch);
        let told = why(slow.get(&path(id)).await);
        assert!(told.reach.is_none() && told.attempts.len() == 1);
        assert!(told.summary.contains("was refused: HASH_MISMATCH: "), "{}", told.summary);
        // A receipt that does not verify is refused before the books are opened, and told of.
        let mut unsigned = slow.proof(&job, "x");
        unsigned.receipt = Some(slow.receipt(&job, &unsigned, "1"));
        slow.prove(&unsigned).await.refused(ErrorCode::BadSignature);
        assert!(why(slow.get(&path(id)).await).summary.contains("BAD_SIGNATURE"));
        app.advance(31);
        app.sweep().await;
        let again = fast.take().await;
        slow.prove(&slow.proof(&job, "x")).await.refused(ErrorCode::LeaseLost);
        let told = why(slow.get(&path(id)).await);
        let [own] = &told.attempts[..] else { panic!("{told:?}") };
        assert!(!own.paid && own.error_code.as_deref() == Some("E_CRASH"));
        for part in ["the miner's lease expired at 2026", "refused: LEASE_LOST", "another lease"] {
            assert!(own.message.contains(part), "{part}: {}", own.message);
        }
        assert!(!own.message.contains("m2"));
        client.cancel(id).await.expect(200);
        app.advance(1);
        fast.prove(&fast.proof(&again, "x")).await.refused(ErrorCode::ConflictState);
        let told = why(client.get(&path(id)).await);
        assert!(told.attempts[0].message.contains("the job went to m2 at 2026"));
        assert!(told.attempts[1].message.starts_with("not paid: the client canceled the job at"));
        assert!(told.attempts[1].message.contains("too late, its proof of"));
        assert!(told.summary.starts_with("canceled at 2026"), "{}", told.summary);
    }

    async fn who_gave_a_job_back_is_counted_as_excluded(app: TestApp) {
        let client = app.client("c1").await;
        let (first, second) = (app.registered("m1").await, app.registered("m2").await);
        let id = client.submit_any().await;
        let job = first.take().await;
        first.fail(&job, "E_DENY").await.expect(200);
        let reach = why(client.get(&path(id)).await).reach.unwrap();
        assert_eq!((reach.online, reach.able, reach.free), (2, 1, 1));
        assert_eq!(reach.reasons[0].requirement, "excluded");
        let told: MinerWhy = first.get("/v1/miners/m1/why").await.expect(200).json();
        assert_eq!((told.queued, told.able), (1, 0));
        assert_eq!(told.reasons[0].requirement, "excluded");
        let told: MinerWhy = second.get("/v1/miners/m2/why").await.expect(200).json();
        assert_eq!((told.queued, told.able, told.inflight), (1, 1, 0));
        assert_eq!(told.summary, "1 job waits, it can run 1: it gets one when it asks");
    }

    async fn a_miner_is_told_why_it_idles(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let ask = || async {
            miner.get("/v1/miners/m1/why").await.expect(200).json::<MinerWhy>()
        };
        assert_eq!(ask().await.summary, "no job waits");
        client.submit(json!({"workload": "sd_infer"})).await;
        client.submit(json!({"workload": "hash", "limits": {"ram_mb": 65536}})).await;
        let told = ask().await;
        assert_eq!((told.queued, told.able, told.reasons.len()), (2, 0, 2));
        let drain = json!({"miner_id": "m1", "drain": true});
        miner.post("/v1/miner/drain", drain).await.expect(200);
        assert!(ask().await.summary.starts_with("draining"));
        app.advance(300);
        assert_eq!(ask().await.summary, "offline: it was last heard of 5 min ago");
        let admin = Request::get("/v1/miners/m1/why").key(&app.admin_key).send(&app).await;
        assert_eq!(admin.expect(200).json::<MinerWhy>(), ask().await);
    }

    async fn nobody_is_told_of_what_is_not_theirs(app: TestApp) {
        let (client, other) = (app.client("c1").await, app.client("c2").await);
        let (miner, idle) = (app.registered("m1").await, app.registered("m2").await);
        let id = client.submit_any().await;
        miner.take().await;
        other.get(&path(id)).await.refused(ErrorCode::JobNotFound);
        idle.get(&path(id)).await.refused(ErrorCode::JobNotFound);
        let unknown = path(JobId::from_u128(1));
        client.get(&unknown).await.refused(ErrorCode::JobNotFound);
        idle.get("/v1/miners/m1/why").await.refused(ErrorCode::MinerMismatch);
        client.get("/v1/miners/m1/why").await.refused(ErrorCode::ForbiddenScope);
        idle.get("/v1/miners/nobody/why").await.refused(ErrorCode::MinerNotRegistered);
        let admin = Request::get(&path(id)).key(&app.admin_key).send(&app).await;
        assert_eq!(why(admin).attempts.len(), 1);
    }
}
