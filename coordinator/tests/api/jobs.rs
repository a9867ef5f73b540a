//! Jobs, as clients use them.

use protocol::admin::AdminJob;
use protocol::client::{BatchReply, JobView, Quote};
use protocol::miner::LogReply;
use protocol::wallet::Page;
use protocol::{ErrorCode, JobId, JobState, Receipt, Sha256Hex, canonical};
use serde_json::{Value, json};

use crate::support::{Client, Request, TestApp, on_both_engines};

async fn page(client: &Client<'_>, query: &str) -> Page<JobView> {
    client.get(&format!("/v1/jobs?{query}")).await.expect(200).json()
}

on_both_engines! {
    async fn a_dry_run_quotes_and_stores_nothing(app: TestApp) {
        let client = app.client("c1").await;
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        let quote = |reply: crate::support::Reply| reply.expect(200).json::<Quote>();
        let quoted = quote(client.post("/v1/jobs?dry_run=true", job.clone()).await);
        assert_eq!(quoted.hold.to_string(), "0.2");
        assert_eq!(quoted.why.able, 0);
        let miner = app.registered("m1").await;
        let drained = app.registered("m2").await;
        let body = json!({"miner_id": "m2", "drain": true});
        drained.post("/v1/miner/drain", body).await.expect(200);
        let quoted = quote(client.post("/v1/jobs?dry_run=true", job.clone()).await);
        assert_eq!(quoted.why.able, 1);
        assert!(page(&client, "").await.items.is_empty());
        app.advance(61);
        let quoted = quote(client.post("/v1/jobs?dry_run=true", job).await);
        assert_eq!(quoted.why.able, 0);
        let reason = &quoted.why.reasons[0];
        assert_eq!((reason.requirement.as_str(), reason.count), ("offline", 1));
        drop(miner);
    }

    async fn a_dry_run_is_refused_for_what_the_job_would_be_refused_for(app: TestApp) {
        let prepaid = app.prepaid_client("p1").await;
        let job = json!({"workload": "hash", "limits": {"max_runtime_s": 100}});
        let dry = |job| prepaid.post("/v1/jobs?dry_run=true", job);
        dry(job.clone()).await.refused(ErrorCode::InsufficientFunds);
        app.deposit("p1", "0.2", "r1").await;
        dry(job).await.expect(200);
        let sha256 = Sha256Hex::of(b"nobody uploaded this");
        let files = json!([{"name": "in.txt", "sha256": sha256}]);
        let unknown = dry(json!({"workload": "hash", "limits": {"max_runtime_s": 100},
            "input": {"files": files}}));
        assert_eq!(unknown.await.refused(ErrorCode::InvalidPayload).field(), "input.files");
    }

    async fn require_now_refuses_what_nobody_can_run_now(app: TestApp) {
        let client = app.client("c1").await;
        let job = json!({"workload": "hash", "require_now": true});
        let refused = client.post("/v1/jobs", job.clone()).await;
        let body: Value = refused.refused(ErrorCode::NoEligibleMiner).json();
        assert_eq!(body["error"]["message"], "no miner is online");
        assert_eq!(body["error"]["details"]["why"]["online"], 0);
        app.registered("m1").await;
        let key = "8b7f6c9e-0d7a-4e1f-9a57-2f6b6f0f7f11";
        let send = || Request::post("/v1/jobs", job.clone()).header("idempotency-key", key);
        let first: JobView = client.send(send()).await.expect(201).json();
        app.advance(61);
        let again: JobView = client.send(send()).await.expect(201).json();
        assert_eq!(first, again);
        client.post("/v1/jobs", job.clone()).await.refused(ErrorCode::NoEligibleMiner);
    }

    async fn a_result_comes_back_with_the_hash_that_was_proven(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        for result in [json!({"loss": 1e16, "small": 1.5e-300, "n": 1}), json!(1e16), json!("x")] {
            let id = client.submit_any().await;
            let job = miner.take().await;
            let mut proof = miner.proof(&job, "x");
            if !result.is_string() {
                proof.output_sha = Sha256Hex::of(canonical::to_string(&result).as_bytes());
            }
            proof.result = Some(result.clone());
            miner.prove(&proof).await.expect(201);
            let back = client.result(id).await;
            assert_eq!((back.result, back.output_sha), (Some(result), Some(proof.output_sha)));
        }
    }

    async fn a_batch_has_one_outcome_per_job(app: TestApp) {
        let client = app.client("c1").await;
        let good = json!({"workload": "hash"});
        let jobs = json!({"jobs": [
            good, {"workload": "hash", "priority": 10}, {"workload": 7}, "nonsense",
            {"workload": "hash", "params": {"note": "a\u{0}b"}}, good, {"unknown": 1},
        ]});
        let reply: BatchReply = client.post("/v1/jobs/batch", jobs).await.expect(200).json();
        let statuses: Vec<_> = reply.items.iter().map(|item| item.status).collect();
        assert_eq!(statuses, [201, 422, 422, 422, 422, 201, 422]);
        let field = |i: usize| reply.items[i].error.as_ref().unwrap().details.get("field").cloned();
        assert_eq!((field(1), field(2)), (Some(json!("priority")), Some(json!("workload"))));
        assert_eq!(field(6), Some(json!("unknown")));
        assert_eq!(page(&client, "").await.items.len(), 2);
    }

    async fn a_batch_is_one_to_a_thousand_jobs(app: TestApp) {
        let client = app.client("c1").await;
        let batch = |n: usize| json!({"jobs": vec![json!({"workload": "hash"}); n]});
        for n in [0, 1001] {
            let reply = client.post("/v1/jobs/batch", batch(n)).await;
            assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "jobs");
        }
        let reply: BatchReply =
            client.post("/v1/jobs/batch", batch(1000)).await.expect(200).json();
        assert!(reply.items.iter().all(|item| item.status == 201));
    }

    async fn lists_are_paged_and_filtered(app: TestApp) {
        let (client, other) = (app.client("c1").await, app.client("c2").await);
        let miner = app.registered("m1").await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(client.submit_any().await);
            app.advance(1);
        }
        other.submit_any().await;
        ids.reverse();
        let first = page(&client, "limit=2").await;
        let next = first.next.unwrap();
        let second = page(&client, &format!("limit=2&cursor={next}")).await;
        let third =
            page(&client, &format!("limit=2&cursor={}", second.next.unwrap())).await;
        let seen = [first.items, second.items, third.items].concat();
        assert_eq!(seen.iter().map(|job| job.job_id).collect::<Vec<_>>(), ids);
        assert_eq!(third.next, None);

        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        client.cancel(ids[0]).await.expect(200);
        for (state, count) in
            [("RUNNING", 1), ("CANCELED", 1), ("QUEUED", 3), ("ASSIGNED", 0), ("COMPLETED", 0)]
        {
            let found = page(&client, &format!("state={state}")).await.items;
            assert_eq!(found.len(), count, "{state}");
            assert!(found.iter().all(|job| job.state.as_str() == state));
        }
        for query in ["state=DONE", "limit=0", "limit=201", "limit=x", "cursor=x"] {
            let reply = client.get(&format!("/v1/jobs?{query}")).await;
            let field = query.split('=').next().unwrap();
            assert_eq!(reply.refused(ErrorCode::InvalidParam).field(), field);
        }
    }

    async fn a_foreign_job_is_not_there(app: TestApp) {
        let (owner, other) = (app.client("c1").await, app.client("c2").await);
        let miner = app.registered("m1").await;
        let id = owner.submit_any().await;
        miner.work().await;
        for path in ["", "/result", "/receipt", "/receipts", "/artifacts", "/artifacts/1"] {
            let path = format!("/v1/jobs/{id}{path}");
            other.get(&path).await.refused(ErrorCode::JobNotFound);
        }
        other.cancel(id).await.refused(ErrorCode::JobNotFound);
        let gone = other.send(Request::delete(&format!("/v1/jobs/{id}"))).await;
        gone.refused(ErrorCode::JobNotFound);
        for id in ["nope", "..", "%2e%2e%2fa", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            let reply = owner.get(&format!("/v1/jobs/{id}")).await;
            reply.refused(ErrorCode::JobNotFound);
        }
    }

    async fn canceling_ends_a_job_once(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let body: Value = client.cancel(id).await.expect(200).json();
        assert_eq!(body, json!({"job_id": id, "state": "CANCELED"}));
        client.cancel(id).await.refused(ErrorCode::ConflictState);
        assert!(miner.next().await.is_none());
        assert_eq!(client.result(id).await.state, JobState::Canceled);
        app.audit().await;
    }

    async fn deleting_removes_the_output_and_keeps_the_receipt(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let spec = json!({"workload": "hash", "artifacts": [{"path": "out.bin"}]});
        let id = client.submit(spec).await;
        let path = format!("/v1/jobs/{id}");
        client.send(Request::delete(&path)).await.refused(ErrorCode::ConflictState);
        let job = miner.take().await;
        miner.about(&job, "logs", json!({"stream": "stdout", "seq": 0, "text": "x"})).await;
        miner.upload(&job, &[("out.bin", b"bytes")]).await.expect(201);
        let mut proof = miner.proof(&job, "x");
        proof.artifacts = vec![crate::support::proven("out.bin", b"bytes")];
        miner.prove(&proof).await.expect(201);
        assert_eq!(client.job(id).await.artifacts.len(), 1);
        client.send(Request::delete(&path)).await.expect(204);
        let view = client.job(id).await;
        assert!(view.artifacts.is_empty() && !view.result_available);
        client.get(&format!("{path}/result")).await.refused(ErrorCode::NotFound);
        client.get(&format!("{path}/artifacts/1")).await.refused(ErrorCode::ArtifactNotFound);
        client.get(&format!("{path}/receipt")).await.expect(200);
        client.send(Request::delete(&path)).await.expect(204);
        app.audit().await;
    }

    async fn jobs_are_found_by_state_workload_time_client_and_miner(app: TestApp) {
        let (one, two) = (app.client("c1").await, app.client("c2").await);
        let miner = app.registered("m1").await;
        let done = one.submit_any().await;
        miner.work().await;
        // Ids of one millisecond are in no order.
        app.advance(1);
        let canceled = one.submit(json!({"workload": "other"})).await;
        one.cancel(canceled).await.expect(200);
        app.advance(10);
        let running = one.submit_any().await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        app.advance(10);
        let queued = one.submit(json!({"workload": "other"})).await;
        let foreign = two.submit_any().await;
        let own = async |query: &str| -> Vec<JobId> {
            page(&one, query).await.items.iter().map(|job| job.job_id).collect()
        };
        assert_eq!(own("").await, [queued, running, canceled, done]);
        assert_eq!(own("state=RUNNING").await, [running]);
        assert_eq!(own("state=QUEUED,RUNNING").await, [queued, running]);
        let mixed = "state=COMPLETED,CANCELED,QUEUED";
        assert_eq!(own(mixed).await, [queued, canceled, done]);
        let first = page(&one, &format!("{mixed}&limit=2")).await;
        let next = format!("{mixed}&limit=2&cursor={}", first.next.unwrap());
        assert_eq!(own(&next).await, [done]);
        assert_eq!(own("workload=other").await, [queued, canceled]);
        assert_eq!(own("since=2026-01-24T00:00:10Z").await, [queued, running]);
        assert_eq!(own("until=2026-01-24T00:00:20Z&since=2026-01-24T00:00:10Z").await, [running]);
        let all = async |query: &str| -> Vec<JobId> {
            let request = Request::get(&format!("/v1/admin/jobs?{query}")).key(&app.admin_key);
            let page: Page<AdminJob> = request.send(&app).await.expect(200).json();
            page.items.iter().map(|item| item.job.job_id).collect()
        };
        assert_eq!(all("state=QUEUED").await.len(), 2);
        assert_eq!(all("client=c2").await, [foreign]);
        assert_eq!(all("miner=m1").await, [running, done]);
        assert_eq!(all("miner=m1&state=RUNNING,COMPLETED&client=c1").await, [running, done]);
        assert_eq!(all("state=CANCELED&workload=other").await, [canceled]);
        assert_eq!(all("miner=nobody").await, []);
        for (query, field) in [
            ("stat=QUEUED", "stat"),
            ("client=c2", "client"),
            ("state=QUEUED,X", "state"),
            ("since=yesterday", "since"),
            ("workload=a/b", "workload"),
        ] {
            let refused = one.get(&format!("/v1/jobs?{query}")).await;
            assert_eq!(refused.refused(ErrorCode::InvalidParam).field(), field, "{query}");
        }
        let meant = one.get("/v1/jobs?stat=QUEUED").await.refused(ErrorCode::InvalidParam);
        assert!(meant.text().contains("did you mean `state`?"), "{}", meant.text());
    }

    async fn logs_are_capped_and_repeats_are_ignored(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        client.submit_any().await;
        let job = miner.take().await;
        let chunk = |seq: i64, text: &str| json!({"stream": "stdout", "seq": seq, "text": text});
        let accepted = |reply: crate::support::Reply| reply.expect(200).json::<LogReply>().accepted;
        assert!(accepted(miner.about(&job, "logs", chunk(0, "a\u{0}b")).await));
        assert!(accepted(miner.about(&job, "logs", chunk(0, "other")).await));
        let long = "x".repeat(64 * 1024);
        let mut taken = 0;
        while accepted(miner.about(&job, "logs", chunk(taken + 1, &long)).await) {
            taken += 1;
        }
        // A MiB of text, less the small change of chunks.
        assert_eq!(taken, 15);
        let more = miner.about(&job, "logs", chunk(99, &format!("{long}x"))).await;
        assert_eq!(more.refused(ErrorCode::InvalidPayload).field(), "text");
        let negative = miner.about(&job, "logs", chunk(-1, "x")).await;
        assert_eq!(negative.refused(ErrorCode::InvalidPayload).field(), "seq");
    }

    async fn receipts_are_listed_for_job_and_miner(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let of_job = format!("/v1/jobs/{id}/receipts");
        let none: Page<Receipt> = client.get(&of_job).await.expect(200).json();
        assert!(none.items.is_empty());
        let first = miner.work().await.receipt;
        app.advance(1);
        client.submit_any().await;
        let second = miner.work().await.receipt;
        let one: Page<Receipt> = client.get(&of_job).await.expect(200).json();
        assert_eq!(one.items, std::slice::from_ref(&first));
        let page: Page<Receipt> = miner.get("/v1/miner/receipts?limit=1").await.json();
        assert_eq!(page.items, [second]);
        let rest = format!("/v1/miner/receipts?limit=1&cursor={}", page.next.unwrap());
        let page: Page<Receipt> = miner.get(&rest).await.json();
        assert_eq!((page.items, page.next), (vec![first], None));
        let bad = miner.get("/v1/miner/receipts?cursor=x").await;
        assert_eq!(bad.refused(ErrorCode::InvalidParam).field(), "cursor");
    }
}
