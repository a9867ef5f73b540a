//! Looking at jobs, and getting what they made.

use serde_json::Value;

use crate::market::Market;
use crate::program::Program;
use crate::stub::{Stub, reply};

#[tokio::test]
async fn lists_come_in_pages_or_whole() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.run(&["submit", "--workload", "hash"]).await.ok().trim().to_owned());
    }
    ids.reverse();
    let page = client.run(&["jobs", "--limit", "2"]).await.code(0).says("there are more: --cursor");
    let cursor = page.stderr.split("--cursor ").nth(1).unwrap().split(',').next().unwrap();
    assert_eq!(page.stdout.lines().count(), 2);
    let rest = client.run(&["jobs", "--cursor", cursor]).await.ok();
    assert_eq!(rest.split('\t').next(), Some(ids[2].as_str()));
    let first = page.stdout.lines().next().unwrap();
    let cells: Vec<_> = first.split('\t').collect();
    assert_eq!(
        (&cells[..4], &cells[5..]),
        (&[&*ids[0], "hash", "QUEUED", "1"][..], &["-", "-"][..])
    );
    // As JSON: a page as the coordinator has it, or an item a line.
    let page = client.run(&["--json", "jobs", "--limit", "2"]).await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let lines = client.run(&["--json", "jobs", "--all"]).await.ok();
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = found.iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn all_of_a_list_is_gathered_page_by_page() {
    let line = |id: u32| {
        serde_json::json!({"id": id.to_string(), "kind": "credit", "amount": "1",
            "created_at": "2026-01-24T00:00:00Z"})
    };
    let stub = Stub::start(move |seen| match seen.path.as_str() {
        "/v1/wallet/ledger?limit=200" => {
            reply(200, serde_json::json!({"items": [line(2)], "next": "2"}))
        }
        _ => reply(200, serde_json::json!({"items": [line(1)], "next": "2"})),
    });
    let stub = stub.await;
    let program = Program::at(&stub.url, Some("id.secret"));
    // The second page names itself as the next: nobody goes round in circles.
    let lines = program.run(&["wallet", "ledger", "--all"]).await.ok();
    assert_eq!(lines, "2026-01-24T00:00:00Z\tcredit\t1\t-\t-\n".repeat(2));
    let asked: Vec<_> = stub.seen().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(asked, ["/v1/wallet/ledger?limit=200", "/v1/wallet/ledger?limit=200&cursor=2"]);
}

#[tokio::test]
async fn what_there_is_not_is_said() {
    let market = Market::open().await;
    let client = market.client("alice").await;
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    client.run(&["job", "show", unknown]).await.code(4).says("JOB_NOT_FOUND").says("request id: ");
    client.run(&["job", "show", "no-id"]).await.code(2).says("not a job id");
    let id = client.run(&["submit", "--workload", "hash"]).await.ok();
    client.run(&["job", "result", id.trim()]).await.code(6).says("aitbc job wait");
    client.run(&["job", "receipt", id.trim()]).await.code(4).says("RECEIPT_NOT_FOUND");
    client.run(&["job", "rm", id.trim()]).await.code(4).says("CONFLICT_STATE");
}

#[tokio::test]
async fn results_are_printed_written_and_removed() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let id = client.run(&["submit", "--workload", "hash"]).await.ok().trim().to_owned();
    miner.work("line 1\n\x1b[31mline 2\n").await;
    // In a pipe every byte is the job's.
    assert_eq!(client.run(&["job", "result", &id]).await.ok(), "line 1\n\x1b[31mline 2\n");
    client.run(&["job", "result", &id, "--output", "out.txt"]).await.code(0);
    assert_eq!(client.read("out.txt"), "line 1\n\x1b[31mline 2\n");
    let shown = client.run(&["jobs"]).await.ok();
    assert!(shown.contains("\tCOMPLETED\t1\t") && shown.contains("\tm1\t-\n"), "{shown}");
    client.run(&["job", "rm", &id]).await.code(0);
    client.run(&["job", "result", &id]).await.code(4).says("was deleted");
}

#[tokio::test]
async fn artifacts_arrive_whole_or_not_at_all() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let words = ["submit", "--command", "make", "--artifact", "out/a.bin"];
    let id = client.run(&words).await.ok().trim().to_owned();
    let job = miner.take().await;
    miner.upload(&job, "out/a.bin", b"0123456789").await;
    miner.prove(&job, "made\n", &[("out/a.bin", b"0123456789")]).await;
    let listed = client.run(&["job", "artifacts", &id]).await.ok();
    assert!(listed.starts_with("out/a.bin\t10\t"), "{listed}");
    let fetch = ["job", "artifacts", &id, "--download", "got"];
    assert_eq!(client.run(&fetch).await.ok(), "got/out/a.bin\n");
    assert_eq!(client.read("got/out/a.bin"), "0123456789");
    // It is there already; then something else is.
    client.run(&fetch).await.code(0);
    client.file("got/out/a.bin", "mine", 0o644);
    client.run(&fetch).await.code(2).says("--force");
    assert_eq!(client.read("got/out/a.bin"), "mine");
    client.run(&["job", "artifacts", &id, "--download", "got", "--force"]).await.code(0);
    assert_eq!(client.read("got/out/a.bin"), "0123456789");
    let other = ["job", "artifacts", &id, "--download", "got", "--only", "b.bin"];
    client.run(&other).await.code(2).says("no artifact");
}

#[tokio::test]
async fn lists_are_filtered() {
    let market = Market::open().await;
    let (alice, bob) = (market.client("alice").await, market.client("bob").await);
    let (admin, (miner, _)) = (market.admin().await, market.miner("m1").await);
    let done = alice.run(&["submit", "--workload", "hash"]).await.ok().trim().to_owned();
    miner.work("done").await;
    let waiting = alice.run(&["submit", "--command", "echo"]).await.ok().trim().to_owned();
    let bobs = bob.run(&["submit", "--workload", "hash"]).await.ok().trim().to_owned();
    let hour = ["--since", "1h"];
    for (program, words, wanted) in [
        (&alice, &["--state", "queued,Failed"][..], &[&waiting][..]),
        (&alice, &["--workload", "hash"], &[&done]),
        (&alice, &hour, &[&waiting, &done]),
        (&alice, &["--until", "2026-01-25T06:00:00Z"], &[]),
        (&admin, &["--everybody"], &[&bobs, &waiting, &done]),
        (&admin, &["--everybody", "--client", "bob"], &[&bobs]),
        (&admin, &["--everybody", "--miner", "m1"], &[&done]),
    ] {
        let lines = program.run(&[&["--json", "jobs", "--all"], words].concat()).await.ok();
        let found: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<_> = found.iter().map(|job| job["job_id"].as_str().unwrap()).collect();
        assert_eq!(found, wanted, "{words:?}");
    }
    alice.run(&["jobs", "--state", "lost"]).await.code(2).says("QUEUED");
    alice.run(&["jobs", "--client", "alice"]).await.code(2).says("--everybody");
}
