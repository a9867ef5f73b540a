//! Jobs as they run, at a real coordinator: their events and logs, waiting, interrupts, downloads
//! that go on, and why nothing happens.

use protocol::Sha256Hex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::market::Market;
use crate::program::Program;

const FOLLOW: [&str; 4] = ["submit", "--workload", "hash", "--follow"];

/// What a program says on standard error, line by line.
struct Said(Lines<BufReader<ChildStderr>>);

impl Said {
    fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stderr.take().unwrap()).lines())
    }

    /// Waits for a line with these words.
    async fn until(&mut self, words: &str) -> String {
        while let Some(line) = self.0.next_line().await.unwrap() {
            if line.contains(words) {
                return line;
            }
        }
        panic!("it never said {words:?}");
    }

    async fn rest(mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.0.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }
}

#[tokio::test]
async fn a_job_is_followed_as_it_runs() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let mut child = client.start(&FOLLOW);
    let mut said = Said::of(&mut child);
    let job = miner.take().await;
    said.until("RUNNING by m1").await;
    miner.log(&job, 0, "one\nt").await;
    miner.progress(&job, 50, "half").await;
    // It is shown while the job runs: nothing else happens before it has come.
    said.until("50 % half").await;
    miner.log(&job, 1, "wo\n").await;
    miner.prove(&job, "one\ntwo\n", &[]).await;
    assert!(said.rest().await.contains("aitbc: COMPLETED\n"));
    assert_eq!(Program::end(child).await.ok(), "one\ntwo\n");

    // And so is the past.
    let id = job.id.to_string();
    assert_eq!(client.run(&["job", "logs", &id]).await.ok(), "one\ntwo\n");
    assert_eq!(client.run(&["job", "logs", "--follow", &id]).await.ok(), "one\ntwo\n");
    let events = client.run(&["job", "events", &id]).await.ok();
    let cells: Vec<Vec<_>> = events.lines().map(|line| line.split('\t').collect()).collect();
    let kinds: Vec<_> = cells.iter().map(|cells| (cells[0], cells[2])).collect();
    let golden = ["state", "state", "state", "log", "progress", "log", "state"];
    let numbers: Vec<_> = (1..=golden.len()).map(|number| number.to_string()).collect();
    assert_eq!(kinds, numbers.iter().map(String::as_str).zip(golden).collect::<Vec<_>>());
    assert!(cells[1][3].starts_with("ASSIGNED {") && cells[1][3].contains("\"m1\""), "{events}");
    assert_eq!((cells[3][3], cells[4][3]), ("one t", "50 % half"));
    let lines = client.run(&["--json", "job", "events", "--follow", &id]).await.ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[6]["state"]), (golden.len(), &"COMPLETED".into()));
}

#[tokio::test]
async fn an_admin_follows_and_waits_too() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let admin = market.admin().await;
    let submit = ["submit", "--workload", "hash", "--max-attempts", "1"];
    let id = client.run(&submit).await.ok().trim().to_owned();
    let waiting = admin.start(&["job", "wait", &id]);
    miner.fail(&miner.take().await, "E_EXIT", "").await;
    let ended = Program::end(waiting).await.code(1).says("FAILED: E_EXIT: it broke");
    assert_eq!(ended.stdout, format!("{id}\tFAILED\n"));
    let ended = admin.run(&["--json", "job", "wait", &id]).await.code(1);
    let golden = format!(
        "{{\"error\":{{\"code\":\"E_EXIT\",\"message\":\"it broke\"}},\"job_id\":\"{id}\",\
         \"state\":\"FAILED\"}}\n"
    );
    assert_eq!(ended.stdout, golden);
    admin.run(&["job", "logs", "--follow", &id]).await.code(1).says("E_EXIT");
    // The client is shown the whole job.
    let ended = client.run(&["--json", "job", "wait", &id]).await.code(1);
    let job: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&job["workload"], &job["error"]["code"]), (&"hash".into(), &"E_EXIT".into()));
    // Nobody else is shown anything.
    let other = market.client("bob").await;
    other.run(&["job", "wait", &id]).await.code(4).says("JOB_NOT_FOUND");
}

/// Ctrl-C, once the program says that the job runs.
async fn interrupt(mut child: Child) -> (i32, String) {
    let mut said = Said::of(&mut child);
    said.until("RUNNING").await;
    let id = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let said = said.rest().await;
    (child.wait().await.unwrap().code().unwrap(), said)
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_alone_unless_told_otherwise() {
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let child = client.start(&FOLLOW);
    let id = miner.take().await.id.to_string();
    let (code, said) = interrupt(child).await;
    assert_eq!(code, 130);
    assert!(said.contains(&format!("`aitbc job logs --follow {id}`")), "{said}");
    let state =
        async |id: &str| client.run(&["--json", "job", "show", id]).await.json()["state"].clone();
    assert_eq!(state(&id).await, "RUNNING");

    let child = client.start(&[&FOLLOW[..], &["--cancel-on-interrupt"]].concat());
    let id = miner.take().await.id.to_string();
    assert_eq!(interrupt(child).await.0, 3);
    assert_eq!(state(&id).await, "CANCELED");
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    const CONTENT: &[u8] = &[b'x'; 10_000];
    let market = Market::open().await;
    let (client, (miner, _)) = (market.client("alice").await, market.miner("m1").await);
    let words = ["submit", "--command", "make", "--artifact", "a.bin"];
    let id = client.run(&words).await.ok().trim().to_owned();
    let job = miner.take().await;
    miner.upload(&job, "a.bin", CONTENT).await;
    miner.prove(&job, "made\n", &[("a.bin", CONTENT)]).await;
    let partial = format!("got/.{:.32}.part", Sha256Hex::of(CONTENT).to_string());
    let fetch = ["job", "artifacts", &id, "--download", "got"];
    client.file(&partial, &"x".repeat(4000), 0o644);
    client.run(&fetch).await.code(0);
    assert_eq!(client.read("got/a.bin").as_bytes(), CONTENT);
    // What was there was something else, which shows that only the rest was fetched; it is not
    // kept, and the next try starts anew.
    client.file(&partial, &"y".repeat(4000), 0o644);
    std::fs::remove_file(client.path("got/a.bin")).unwrap();
    client.run(&fetch).await.code(1).says("it was not kept");
    assert!(!client.path(&partial).exists() && !client.path("got/a.bin").exists());
    client.run(&fetch).await.code(0);
}

#[tokio::test]
async fn why_is_laid_out() {
    let market = Market::open().await;
    let (client, (miner, owner)) = (market.client("alice").await, market.miner("m1").await);
    miner.heartbeat().await;
    let words = ["submit", "--workload", "hash", "--ram-mb", "64000"];
    let id = client.run(&words).await.ok().trim().to_owned();
    let row = "1\tram_mb\t";
    let said = client.run(&["job", "why", &id]).await.ok();
    assert!(said.contains("miners online\t1\nable to run it\t0\nfree now\t0\n"), "{said}");
    assert!(said.contains(row) && said.contains("\t32768\t"), "{said}");
    // Before it is submitted the same is said.
    let quote = client.run(&[&words[..], &["--dry-run"]].concat()).await.ok();
    assert!(quote.contains("costs at most\t") && quote.contains(row), "{quote}");
    let said = owner.run(&["miner", "why", "m1"]).await.ok();
    assert!(said.contains("jobs queued\t1\nthat it could run\t0\nthat it holds\t0\n"), "{said}");
    assert!(said.contains(row), "{said}");

    let submit = ["submit", "--workload", "hash", "--max-attempts", "1"];
    let id = client.run(&submit).await.ok().trim().to_owned();
    miner.fail(&miner.take().await, "E_OOM", "").await;
    let said = client.run(&["job", "why", &id]).await.ok();
    assert!(said.contains("1\tm1\tno\t-\tE_OOM\t"), "{said}");
}
