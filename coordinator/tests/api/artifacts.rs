//! Files: artifacts from miners to clients, inputs from clients to miners.

use std::future::poll_fn;
use std::task::Poll;

use axum::body::Bytes;
use axum::http::Method;
use coordinator::artifacts::{self, Kind, Unclaimed};
use coordinator::db::{Args, DbError};
use futures_util::stream;
use protocol::client::{ArtifactList, StoredInput};
use protocol::miner::Uploaded;
use protocol::{ErrorCode, Job, Sha256Hex};
use serde_json::json;

use crate::support::{Client, Engine, Reply, Request, TestApp, TestMiner, on_both_engines, proven};

/// How many files the coordinator keeps.
fn files(dir: &std::path::Path) -> usize {
    let entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    let count = |path: std::path::PathBuf| if path.is_dir() { files(&path) } else { 1 };
    entries.iter().map(|entry| count(entry.path())).sum()
}

fn kept(app: &TestApp) -> usize {
    files(&app.dir.path().join("artifacts"))
}

/// What is dropped is removed by a task of its own.
async fn until_kept(app: &TestApp, count: usize) {
    while kept(app) != count {
        tokio::task::yield_now().await;
    }
}

async fn job_with_files<'a>(
    app: &'a TestApp,
    rules: serde_json::Value,
) -> (Client<'a>, TestMiner<'a>, Job) {
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    client.submit(json!({"workload": "hash", "artifacts": rules})).await;
    let job = miner.take().await;
    (client, miner, job)
}

async fn put_input(client: &Client<'_>, bytes: &'static [u8], hash: Option<&str>) -> Reply {
    let mut request = Request::new(Method::POST, "/v1/inputs").body(bytes);
    if let Some(hash) = hash {
        request = request.header("x-content-sha256", hash);
    }
    client.send(request).await
}

/// The files that the rows of a table name.
async fn named(app: &TestApp, sql: &'static str) -> Vec<String> {
    let mut tx = app.app.db.read().await.unwrap();
    let rows = tx.rows(sql, Args::new()).await.unwrap();
    rows.iter().map(|row| row.get("location").unwrap()).collect()
}

/// Runs a request until it was polled `polls` times, and hangs up; `None`: it had ended before.
async fn hung_up_after(polls: usize, request: impl Future<Output = Reply>) -> Option<Reply> {
    let mut request = std::pin::pin!(request);
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match request.as_mut().poll(cx) {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending if polled < polls => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        }
    })
    .await
}

/// A file that is where its row says, and the row not committed yet.
async fn placed(app: &TestApp) -> Unclaimed {
    let chunks = stream::iter([Ok(Bytes::from_static(b"x"))]);
    let mut file = app.app.artifacts.put(Kind::Input, 9, chunks).await.unwrap();
    file.place().await.unwrap();
    file
}

on_both_engines! {
    async fn whoever_hangs_up_leaves_no_row_without_a_file(app: TestApp) {
        let client = app.client("c1").await;
        let inputs = "select location from inputs";
        let placed_in = app.dir.path().join("artifacts/inputs");
        for polls in 1.. {
            let upload = Request::new(Method::POST, "/v1/inputs").body(polls.to_string());
            let ended = hung_up_after(polls, client.send(upload)).await.is_some();
            // Whatever the upload left at work ends, as a row with a file or as neither. What had
            // not arrived yet may stay where the next start clears up.
            while named(&app, inputs).await.len() != files(&placed_in) {
                tokio::task::yield_now().await;
            }
            if ended {
                break;
            }
        }
        let last: StoredInput = put_input(&client, b"last", None).await.expect(201).json();
        assert_eq!(last.bytes, 4);
        for location in named(&app, inputs).await {
            let file = app.dir.path().join("artifacts").join(&location);
            assert!(file.is_file(), "{location}");
        }
    }

    async fn a_file_goes_with_a_row_that_was_certainly_not_committed(app: TestApp) {
        let file = placed(&app).await;
        let mut tx = app.app.db.write().await.unwrap();
        // The engine looks at it when it is committed, and not before.
        let table = "create table late (client_id text references clients (client_id)
                     deferrable initially deferred)";
        tx.execute(table, Args::new()).await.unwrap();
        tx.execute("insert into late values ('nobody')", Args::new()).await.unwrap();
        let refused = artifacts::commit(tx, &app.app.artifacts, vec![file]).await;
        assert!(matches!(refused, Err(DbError::Data(_))), "{refused:?}");
        assert_eq!(kept(&app), 0);
    }

    async fn an_artifact_goes_from_the_miner_to_the_client(app: TestApp) {
        let rules = json!([{"path": "out/a.txt", "type": "text/plain"}, {"path": "é.bin"}]);
        let (client, miner, job) = job_with_files(&app, rules).await;
        let files: [(&str, &[u8]); 2] = [("out/a.txt", b"hello"), ("é.bin", b"")];
        let uploaded: Uploaded = miner.upload(&job, &files).await.expect(201).json();
        assert_eq!(uploaded.items.len(), 2);
        assert_eq!(uploaded.items[0].sha256, Sha256Hex::of(b"hello"));
        // Nobody gets results before they are proven.
        let list = format!("/v1/jobs/{}/artifacts", job.id);
        let none: ArtifactList = client.get(&list).await.expect(200).json();
        assert!(none.items.is_empty());
        client.get(&format!("{list}/1")).await.refused(ErrorCode::ArtifactNotFound);
        let mut proof = miner.proof(&job, "x");
        proof.artifacts = vec![proven("out/a.txt", b"hello"), proven("é.bin", b"")];
        miner.prove(&proof).await.expect(201);

        let all: ArtifactList = client.get(&list).await.expect(200).json();
        assert_eq!(all.items, uploaded.items);
        let file = client.get(&format!("{list}/{}", all.items[0].artifact_id)).await.expect(200);
        assert_eq!(&file.bytes[..], b"hello");
        let header = |name: &str| file.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/plain");
        assert_eq!(header("content-length"), "5");
        assert_eq!(header("content-disposition"), "attachment; filename=\"a.txt\"");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-content-sha256"), Sha256Hex::of(b"hello").to_string());
        let empty = client.get(&format!("{list}/{}", all.items[1].artifact_id)).await.expect(200);
        assert!(empty.bytes.is_empty());
        for no in ["3", "0", "-1", "x"] {
            let reply = client.get(&format!("{list}/{no}")).await;
            reply.refused(ErrorCode::ArtifactNotFound);
        }
    }

    async fn a_file_comes_in_parts_and_not_twice(app: TestApp) {
        let (client, miner, job) = job_with_files(&app, json!([{"path": "a"}])).await;
        miner.upload(&job, &[("a", b"hello world")]).await.expect(201);
        let mut proof = miner.proof(&job, "x");
        proof.artifacts = vec![proven("a", b"hello world")];
        miner.prove(&proof).await.expect(201);
        let path = format!("/v1/jobs/{}/artifacts/1", job.id);
        let ask = |name: &str, value: &str| client.send(Request::get(&path).header(name, value));
        let header = |reply: &Reply, name: &str| reply.headers[name].to_str().unwrap().to_owned();
        let whole = client.get(&path).await.expect(200);
        let tag = header(&whole, "etag");
        assert_eq!(tag, format!("\"{}\"", Sha256Hex::of(b"hello world")));
        assert_eq!(header(&whole, "accept-ranges"), "bytes");
        for (range, bytes, said) in [
            ("bytes=0-4", "hello", "bytes 0-4/11"),
            ("bytes=6-", "world", "bytes 6-10/11"),
            ("bytes=-5", "world", "bytes 6-10/11"),
            ("bytes=10-99", "d", "bytes 10-10/11"),
        ] {
            let part = ask("range", range).await.expect(206);
            assert_eq!(part.text(), bytes);
            assert_eq!(header(&part, "content-range"), said);
            assert_eq!(header(&part, "content-length"), bytes.len().to_string());
        }
        let beyond = ask("range", "bytes=11-").await.refused(ErrorCode::RangeNotSatisfiable);
        assert_eq!(header(&beyond, "content-range"), "bytes */11");
        let unchanged = ask("if-none-match", &tag).await.expect(304);
        assert!(unchanged.bytes.is_empty());
        assert_eq!(header(&unchanged, "etag"), tag);
        let resumed = |tag: &str| {
            let request = Request::get(&path).header("range", "bytes=6-");
            client.send(request.header("if-range", tag))
        };
        assert_eq!(resumed(&tag).await.expect(206).text(), "world");
        assert_eq!(resumed("\"other\"").await.expect(200).text(), "hello world");
        let head = client.send(Request::new(Method::HEAD, &path)).await.expect(200);
        assert!(head.bytes.is_empty());
        assert_eq!(header(&head, "content-length"), "11");
        assert_eq!(header(&head, "etag"), tag);
    }

    async fn bytes_with_another_hash_are_not_kept(app: TestApp) {
        let (_, miner, job) = job_with_files(&app, json!([{"path": "a"}, {"path": "b"}])).await;
        let announced = json!({
            "lease_token": job.lease.token,
            "artifacts": [{"path": "b", "sha256": Sha256Hex::of(b"expected")}],
        });
        let files: [(&str, &[u8]); 2] = [("a", b"good"), ("b", b"other")];
        let reply = miner.upload_as(&job, Some(announced), &files).await;
        reply.refused(ErrorCode::HashMismatch);
        until_kept(&app, 0).await;
        let mut proof = miner.proof(&job, "x");
        proof.artifacts = vec![proven("a", b"good"), proven("b", b"other")];
        miner.prove(&proof).await.refused(ErrorCode::InvalidPayload);
    }

    async fn only_declared_paths_are_taken(app: TestApp) {
        let (_, miner, job) = job_with_files(&app, json!([{"path": "a"}])).await;
        for path in ["../a", "/a", "b", "a/../a", "", "a\\\\b", "x/"] {
            let reply = miner.upload(&job, &[]).await;
            assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "artifact");
            let token = json!({"lease_token": job.lease.token});
            let reply = miner.upload_as(&job, Some(token), &[(path, b"x")]).await;
            assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "artifact", "{path}");
        }
        let token = json!({"lease_token": job.lease.token});
        let twice: [(&str, &[u8]); 2] = [("a", b"x"), ("a", b"x")];
        miner.upload_as(&job, Some(token), &twice).await.refused(ErrorCode::InvalidPayload);
        until_kept(&app, 0).await;
    }

    async fn a_file_over_the_cap_is_refused(app: TestApp) {
        let rules = json!([{"path": "a", "max_mb": 1}, {"path": "b", "max_mb": 1}]);
        let (_, miner, job) = job_with_files(&app, rules).await;
        let large = vec![7; 1024 * 1024 + 1];
        miner.upload(&job, &[("a", &large)]).await.refused(ErrorCode::PayloadTooLarge);
        until_kept(&app, 0).await;
        miner.upload(&job, &[("a", &large[1..]), ("b", &large[1..])]).await.expect(201);
        assert_eq!(kept(&app), 2);
    }

    async fn all_files_together_stay_in_the_jobs_own_limit(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let rules = json!([{"path": "a"}, {"path": "b"}]);
        let limits = json!({"max_output_mb": 1});
        client.submit(json!({"workload": "hash", "artifacts": rules, "limits": limits})).await;
        let job = miner.take().await;
        let half = vec![7; 512 * 1024];
        let more = vec![7; 512 * 1024 + 1];
        let reply = miner.upload(&job, &[("a", &half), ("b", &more)]).await;
        reply.refused(ErrorCode::PayloadTooLarge);
        miner.upload(&job, &[("a", &half), ("b", &half)]).await.expect(201);
        until_kept(&app, 2).await;
    }

    async fn the_same_bytes_again_are_the_same_file_and_others_a_conflict(app: TestApp) {
        let (_, miner, job) = job_with_files(&app, json!([{"path": "a"}])).await;
        let first: Uploaded = miner.upload(&job, &[("a", b"x")]).await.expect(201).json();
        let again: Uploaded = miner.upload(&job, &[("a", b"x")]).await.expect(201).json();
        assert_eq!(first, again);
        miner.upload(&job, &[("a", b"y")]).await.refused(ErrorCode::ConflictState);
        until_kept(&app, 1).await;
    }

    async fn an_upload_needs_the_lease(app: TestApp) {
        let (client, miner, job) = job_with_files(&app, json!([{"path": "a"}])).await;
        miner.upload_as(&job, None, &[("a", b"x")]).await.refused(ErrorCode::LeaseLost);
        client.cancel(job.id).await.expect(200);
        miner.upload(&job, &[("a", b"x")]).await.refused(ErrorCode::ConflictState);
        assert_eq!(kept(&app), 0);
    }

    async fn what_is_no_multipart_is_said_so(app: TestApp) {
        let (_, miner, job) = job_with_files(&app, json!([{"path": "a"}])).await;
        let path = format!("/v1/miner/jobs/{}/artifacts", job.id);
        miner.post(&path, json!({})).await.refused(ErrorCode::UnsupportedMediaType);
        let content_type = "multipart/form-data; boundary=b";
        let send = |body: Vec<u8>| {
            let request = Request::new(Method::POST, &path).header("content-type", content_type);
            miner.send(request.body(body))
        };
        send(b"nothing of the kind".to_vec()).await.refused(ErrorCode::InvalidPayload);
        let cut = b"--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{".to_vec();
        send(cut).await.refused(ErrorCode::InvalidPayload);
        // A header that does not end is not collected for ever.
        let mut endless = b"--b\r\nX: ".to_vec();
        endless.resize(4 * 1024 * 1024, b'x');
        send(endless).await.refused(ErrorCode::InvalidPayload);
        let mut long = b"--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n".to_vec();
        long.resize(300 * 1024, b' ');
        long.extend_from_slice(b"\r\n--b--\r\n");
        send(long).await.refused(ErrorCode::PayloadTooLarge);
    }

    async fn the_script_uploads_without_metadata(app: TestApp) {
        let client = app.client("c1").await;
        let script = app.miner("script").await;
        script.heartbeat(json!({})).await.expect(200);
        client.submit(json!({"workload": "torch_bench", "artifacts": [{"path": "f"}]})).await;
        let job = script.take().await;
        script.upload_as(&job, None, &[("f", b"x")]).await.expect(201);
    }

    async fn an_input_reaches_the_miner_that_holds_its_job(app: TestApp) {
        let (client, stranger) = (app.client("c1").await, app.client("c2").await);
        let (miner, other) = (app.registered("m1").await, app.registered("m2").await);
        let stored: StoredInput = put_input(&client, b"data", None).await.expect(201).json();
        assert_eq!((stored.sha256, stored.bytes), (Sha256Hex::of(b"data"), 4));
        put_input(&client, b"data", Some(&stored.sha256.to_string())).await.expect(201);
        until_kept(&app, 1).await;
        let files = json!([{"name": "in.bin", "sha256": stored.sha256}]);
        let spec = json!({"workload": "hash", "input": {"files": files}});
        // It is its owner's alone.
        let reply = stranger.post("/v1/jobs", spec.clone()).await;
        assert_eq!(reply.refused(ErrorCode::InvalidPayload).field(), "input.files");
        client.submit(spec).await;

        let path = format!("/v1/inputs/{}", stored.sha256);
        miner.get(&path).await.refused(ErrorCode::InputNotFound);
        let job = miner.take().await;
        let got = miner.get(&path).await.expect(200);
        assert_eq!(&got.bytes[..], b"data");
        assert_eq!(got.headers["content-type"], "application/octet-stream");
        let by_lease = format!("{path}?job={}&lease_token={}", job.id, job.lease.token);
        miner.get(&by_lease).await.expect(200);
        miner.get(&format!("{path}?job={}", job.id)).await.refused(ErrorCode::LeaseLost);
        other.get(&by_lease).await.refused(ErrorCode::MinerMismatch);
        other.get(&path).await.refused(ErrorCode::InputNotFound);
        client.get(&path).await.refused(ErrorCode::ForbiddenScope);
        let unnamed = format!("/v1/inputs/{}", Sha256Hex::of(b"other"));
        miner.get(&unnamed).await.refused(ErrorCode::InputNotFound);
        miner.get("/v1/inputs/..%2fetc").await.refused(ErrorCode::InputNotFound);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        miner.get(&path).await.refused(ErrorCode::InputNotFound);
    }

    async fn an_input_with_another_hash_is_not_kept(app: TestApp) {
        let client = app.client("c1").await;
        let hash = Sha256Hex::of(b"expected").to_string();
        put_input(&client, b"data", Some(&hash)).await.refused(ErrorCode::HashMismatch);
        let bad = put_input(&client, b"data", Some("abc")).await;
        assert_eq!(bad.refused(ErrorCode::InvalidParam).field(), "x-content-sha256");
        until_kept(&app, 0).await;
    }
}

#[tokio::test]
async fn a_file_stays_where_nobody_knows_whether_its_row_was_committed() {
    let app = TestApp::with(Engine::Postgres, |_| {}).await;
    let file = placed(&app).await;
    let mut tx = app.app.db.write().await.unwrap();
    let own = tx.row("select pg_backend_pid() as pid", Args::new()).await.unwrap();
    let pid: i32 = own.unwrap().get("pid").unwrap();
    let mut other = app.app.db.write().await.unwrap();
    // It returns once the other process has ended.
    let sql = "select pg_terminate_backend($1, 10000) as ended";
    let ended = other.row(sql, Args::new().with(pid)).await.unwrap();
    assert!(ended.unwrap().get::<bool>("ended").unwrap());
    let lost = artifacts::commit(tx, &app.app.artifacts, vec![file]).await;
    assert!(matches!(lost, Err(DbError::Unavailable(_))), "{lost:?}");
    assert_eq!(kept(&app), 1);
}
