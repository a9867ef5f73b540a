//! Submitting: from flags, from files, with uploads, to the end.

use protocol::Sha256Hex;
use serde_json::Value;

use crate::market::Market;
use crate::program::Program;

#[tokio::test]
async fn one_job_from_flags() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let ended = client
        .run(&["submit", "--workload", "hash", "--input-text", "hello", "--priority", "3"])
        .await;
    let id = ended.ok().trim().to_owned();
    let job = client.run(&["--json", "job", "show", &id]).await.json();
    assert_eq!((&job["state"], &job["priority"]), (&"QUEUED".into(), &3.into()));
    let shown = client.run(&["job", "show", &id]).await.ok();
    let lines: Vec<_> = shown.lines().take(6).collect();
    let golden = [
        format!("job\t{id}"),
        "workload\thash".to_owned(),
        "state\tQUEUED".to_owned(),
        "attempt\t1".to_owned(),
        "priority\t3".to_owned(),
        "price\t0.002 for one of cpu_seconds".to_owned(),
    ];
    assert_eq!(lines, golden);
}

#[tokio::test]
async fn waiting_prints_what_the_job_made() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let waiting =
        client.start(&["submit", "--command", "echo", "--wait", "--", "-n", "--workload", "x"]);
    let job = miner.work("it is done\n").await;
    assert_eq!(job.args, ["-n", "--workload", "x"]);
    let ended = Program::end(waiting).await.code(0).says(&format!("job {}", job.id));
    assert_eq!(ended.stdout, "it is done\n");
    // As JSON it is the result as the coordinator has it.
    let waiting = client.start(&["--json", "submit", "--workload", "hash", "--wait"]);
    let job = miner.work("again\n").await;
    let result = Program::end(waiting).await.json();
    assert_eq!(result["job_id"], job.id.to_string());
    assert_eq!((&result["state"], &result["result"]), (&"COMPLETED".into(), &"again\n".into()));
}

#[tokio::test]
async fn the_exit_code_says_how_it_ended() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let waiting = client.start(&["submit", "--workload", "hash", "--max-attempts", "1", "--wait"]);
    miner.fail(&miner.take().await, "E_EXIT", "the last line\n").await;
    let ended = Program::end(waiting).await.code(1);
    assert_eq!(ended.stdout, "");
    let ended = ended.says("FAILED: E_EXIT: it broke").says("the last line");
    assert!(!ended.stderr.contains("goes on"), "{ended:?}");

    let waiting = client.start(&["submit", "--workload", "hash", "--wait"]);
    let job = miner.take().await.id.to_string();
    assert_eq!(client.run(&["job", "cancel", &job]).await.ok(), "CANCELED\n");
    Program::end(waiting).await.code(3).says("CANCELED");
    client.run(&["job", "result", &job]).await.code(3);
    client.run(&["job", "cancel", &job]).await.code(4).says("CONFLICT_STATE");
}

#[tokio::test]
async fn a_file_of_jobs_has_one_outcome_a_line() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let file = client.file(
        "jobs.yaml",
        "jobs:\n- workload: hash\n- {workload: hash, constraints: {cuda: new}}\n- command: echo\n",
        0o644,
    );
    let ended = client.run(&["submit", &file, "--priority", "2"]).await.code(4);
    let lines: Vec<Vec<_>> = ended.stdout.lines().map(|line| line.split('\t').collect()).collect();
    let outcomes: Vec<_> = lines.iter().map(|line| (line[0], line[1])).collect();
    assert_eq!(outcomes, [("1", "accepted"), ("2", "refused"), ("3", "accepted")]);
    assert!(lines[1][2].starts_with("INVALID_PAYLOAD: "), "{lines:?}");
    // Flags count for each of them.
    let job = client.run(&["--json", "job", "show", lines[2][2]]).await.json();
    assert_eq!((&job["workload"], &job["priority"]), (&"cli".into(), &2.into()));
}

#[tokio::test]
async fn a_batch_is_waited_for() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let file =
        client.file("jobs.jsonl", "{\"workload\":\"hash\"}\n{\"workload\":\"hash\"}\n", 0o644);
    let waiting = client.start(&["submit", &file, "--wait"]);
    let jobs = [miner.work("a").await.id, miner.work("b").await.id];
    let ended = Program::end(waiting).await.code(0);
    for job in jobs {
        assert!(ended.stdout.contains(&format!("{job}\tCOMPLETED\n")), "{ended:?}");
    }
}

#[tokio::test]
async fn a_bad_file_submits_nothing() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let file = client.file("jobs.yaml", "- workload: hash\n- wrokload: hash\n", 0o644);
    client.run(&["submit", &file]).await.code(2).says("did you mean `workload`?");
    client.run(&["submit", "missing.json"]).await.code(2).says("missing.json: ");
    client.run(&["submit"]).await.code(2).says("--workload");
    client.run(&["submit", "--workload", "hash", "--input-file", "a=b"]).await.code(2);
    let piped = client.run_with_input(&["submit", "-"], "{\"workload\": 5}").await;
    piped.code(2).says("-: ");
    assert_eq!(client.run(&["jobs"]).await.ok(), "");
    let piped = client.run_with_input(&["submit", "-"], "workload: hash\n").await;
    assert_eq!(client.run(&["jobs"]).await.ok().split('\t').next(), Some(piped.ok().trim()));
}

#[tokio::test]
async fn inputs_are_uploaded_and_named() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    client.file("data.txt", "some data", 0o644);
    let words = ["submit", "--workload", "hash", "--input-file", "in/data.txt=data.txt"];
    client.run(&words).await.code(0).says("uploaded data.txt (9 bytes)");
    let job = miner.take().await;
    assert_eq!(job.input.files[0].name.as_str(), "in/data.txt");
    assert_eq!(job.input.files[0].sha256, Sha256Hex::of(b"some data"));
}

#[tokio::test]
async fn several_jobs_are_not_followed() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    client.file("data.txt", "some data", 0o644);
    let file = client.file("jobs.yaml", "[{workload: hash}, {workload: hash}]\n", 0o644);
    let ended = client.run(&["submit", &file, "--follow", "--input-file", "a=data.txt"]).await;
    assert!(!ended.stderr.contains("uploaded"), "{ended:?}");
    ended.code(2).says("--follow is for one job");
}

#[tokio::test]
async fn a_result_replaces_no_file_by_itself() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let submit = ["submit", "--workload", "hash", "--max-attempts", "1"];
    let good = client.run(&submit).await.ok().trim().to_owned();
    miner.work("new\n").await;
    client.file("out", "old\n", 0o644);
    let result = ["job", "result", &good, "-o", "out"];
    client.run(&result).await.code(2).says("out is there");
    assert_eq!(client.read("out"), "old\n");
    client.run(&[&result[..], &["--force"]].concat()).await.code(0);
    assert_eq!(client.read("out"), "new\n");
    let bad = client.run(&submit).await.ok().trim().to_owned();
    miner.fail(&miner.take().await, "E_EXIT", "the last line\n").await;
    client.run(&["job", "result", &bad, "-o", "none"]).await.code(1);
    assert!(!client.path("none").exists());
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    client.file("data.txt", "some data", 0o644);
    let words = ["submit", "--workload", "hash", "--dry-run", "--input-file", "a=data.txt"];
    let quote = client.run(&words).await.code(0).says("without its files").stdout;
    assert!(quote.contains("unit price\t0.002\n"), "{quote}");
    assert_eq!(client.run(&["--json", "jobs"]).await.json()["items"], Value::Array(vec![]));
}

#[tokio::test]
async fn the_same_key_submits_once() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let key = "7f2c4a9e-3a63-4f0e-9c55-2b1f5f9e0a11";
    let words = ["submit", "--workload", "hash", "--idempotency-key", key];
    let first = client.run(&words).await.ok();
    assert_eq!(client.run(&words).await.ok(), first);
    let other = ["submit", "--workload", "cli", "--idempotency-key", key];
    client.run(&other).await.code(4).says("IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn nobody_now_is_not_never() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let words = ["submit", "--workload", "hash", "--require-now"];
    client.run(&words).await.code(6).says("NO_ELIGIBLE_MINER").says("without --require-now");
}
