//! What an operator does at a real coordinator.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::market::Market;
use crate::program::Program;

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let create = ["keys", "create", "--scope", "client", "--client", "alice"];
    let key = admin.run(&create).await.ok().trim().to_owned();
    let alice = Program::at(&market.url, Some(&key));
    alice.run(&["jobs"]).await.code(0);
    let id = key.split('.').next().unwrap();
    let listed = admin.run(&["keys", "list"]).await.ok();
    assert!(listed.contains(&format!("{id}\tclient\talice\t-\t")), "{listed}");
    assert!(!listed.contains(&key));
    admin.run(&["keys", "revoke", id]).await.code(0);
    alice.run(&["jobs"]).await.code(5).says("UNAUTHORIZED_KEY").says("AITBC_KEY_FILE");
    admin.run(&["keys", "revoke", "nobody"]).await.code(4).says("KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_client_can_be_made_to_pay_in_first() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let create = ["keys", "create", "--scope", "client", "--client", "bob"];
    let terms = ["--funding", "prepaid", "--weight", "5"];
    let key = admin.run(&[&create[..], &terms].concat()).await.ok();
    let bob = Program::at(&market.url, Some(key.trim()));
    bob.run(&["submit", "--workload", "hash"]).await.code(4).says("INSUFFICIENT_FUNDS");
    admin.run(&[&create[..], &["--weight", "0"]].concat()).await.code(2).says("--weight");
    let miner = ["keys", "create", "--scope", "miner", "--wallet", "w", "--weight", "5"];
    admin.run(&miner).await.code(2).says("--client");
}

#[tokio::test]
async fn a_key_can_go_straight_into_a_file() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let create = ["keys", "create", "--scope", "miner", "--wallet", "w1", "--output", "miner.key"];
    let said = admin.run(&create).await.ok();
    let key = admin.read("miner.key");
    assert!(!said.contains(key.trim()));
    let mode = fs::metadata(admin.path("miner.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let program = Program::at(&market.url, Some(key.trim()));
    assert!(program.run(&["wallet", "balance"]).await.ok().starts_with("wallet\tw1\n"));
    // No file is overwritten, and no key is made for one that cannot be written.
    admin.run(&create).await.code(2).says("miner.key is there");
    assert_eq!(admin.read("miner.key"), key);
    let bad = ["keys", "create", "--scope", "miner", "--output", "none.key"];
    admin.run(&bad).await.code(4);
    assert!(!admin.path("none.key").exists());
}

#[tokio::test]
async fn the_state_of_the_market_is_shown() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    let (_miner, owner) = market.miner("m1").await;
    client.run(&["submit", "--command", "echo"]).await.code(0);
    let stats = admin.run(&["stats"]).await.ok();
    assert!(stats.contains("live jobs\t1 QUEUED\n"), "{stats}");
    assert!(stats.contains("miners known\t1\n"), "{stats}");
    assert!(stats.ends_with("\nalice\t1\t1\t0\t0\t-\t0\n"), "{stats}");
    // It registered, and has not sent a heartbeat yet.
    let miners = admin.run(&["miners"]).await.ok();
    let miners: Vec<_> = miners.split('\t').collect();
    let (before, after) = (["m1", "OFFLINE", "w-m1", "0", "0", "0", "-"], ["0", "hash,cli", "-\n"]);
    // How long it was there, of the moment since, depends on the moment.
    assert_eq!((&miners[..7], &miners[8..]), (&before[..], &after[..]), "{miners:?}");
    assert!(miners[7].ends_with(" %"), "{miners:?}");
    let reputation = owner.run(&["miner", "reputation", "m1"]).await.ok();
    assert!(reputation.starts_with("miner\tm1\nsince\t"), "{reputation}");
    assert!(reputation.contains("\nuptime in 30 days\t"), "{reputation}");
    admin.run(&["miner", "reputation", "m1"]).await.code(5).says("FORBIDDEN_SCOPE");
    for (words, drained) in [(&["m1"][..], true), (&["m1", "--undo"], false)] {
        admin.run(&[&["miner", "drain"], words].concat()).await.code(0);
        let listed = admin.run(&["--json", "miners"]).await.json();
        assert_eq!(listed["items"][0]["drain"], drained);
    }
    assert!(admin.run(&["jobs", "--everybody"]).await.ok().starts_with("alice\t"));
    client.run(&["stats"]).await.code(5).says("FORBIDDEN_SCOPE");
    let health = client.run(&["health"]).await.ok();
    assert!(health.starts_with("status\tok\n"), "{health}");
}

#[tokio::test]
async fn prepaid_clients_are_noted() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.prepaid("bob").await);
    client.run(&["submit", "--workload", "hash"]).await.code(4).says("INSUFFICIENT_FUNDS");
    let deposit = ["deposit", "bob", "12.5", "--reference", "invoice 1"];
    let said = admin.run(&deposit).await.ok();
    assert!(said.contains("balance\t12.5\n"), "{said}");
    admin.run(&deposit).await.code(4).says("CONFLICT_STATE");
    assert!(client.run(&["wallet", "balance"]).await.ok().contains("balance\t12.5 AITBC\n"));
    client.run(&["submit", "--workload", "hash"]).await.code(0);
    admin.run(&["deposit", "bob", "1e3", "--reference", "x"]).await.code(2);
}

#[tokio::test]
async fn single_controls_are_changed_and_noted() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    let shown = admin.run(&["controls", "get"]).await.ok();
    assert!(shown.contains("dispatch=true\nfee_bp=0\nintake=true\n"), "{shown}");
    let set = ["controls", "set", "clients.alice.banned=owes 5", "daily_cap=0.5"];
    let shown = admin.run(&set).await.ok();
    assert!(shown.contains("clients.alice.banned=owes 5\n"), "{shown}");
    assert!(shown.contains("daily_cap=0.5\n") && shown.contains("intake=true\n"), "{shown}");
    let submit = ["submit", "--workload", "hash"];
    client.run(&submit).await.code(5).says("BANNED").says("owes 5").says("only the operator");
    // What was printed can be typed, and an empty value takes away.
    admin.run(&["controls", "set", "clients=", "clients.alice.max_live_jobs=0"]).await.code(0);
    client.run(&submit).await.code(6).says("QUOTA_EXCEEDED").says("the operator sets the limit");
    let shown = admin.run(&["controls", "set", "clients=", "intake=false"]).await.ok();
    assert!(!shown.contains("alice"), "{shown}");
    client.run(&submit).await.code(6).says("INTAKE_PAUSED").says("takes no jobs in now");
    admin.run(&["controls", "set", "intak=false"]).await.code(2).says("`intake`");

    let noted = admin.run(&["audit", "--action", "controls.put"]).await.ok();
    let cells: Vec<Vec<_>> = noted.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(cells.len(), 3, "{noted}");
    assert!(cells.iter().all(|cells| cells[2].starts_with("admin-")), "{noted}");
    let page = admin.run(&["audit", "--limit", "1"]).await.code(0).says("there are more");
    assert!(page.stdout.contains("\tcontrols.put\t"), "{page:?}");
    client.run(&["controls", "get"]).await.code(5).says("FORBIDDEN_SCOPE");
}

#[tokio::test]
async fn what_waits_what_went_through_and_what_there_is() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    let (miner, _owner) = market.miner("m1").await;
    for _ in 0..2 {
        client.run(&["submit", "--workload", "hash"]).await.code(0);
    }
    miner.work("done").await;
    miner.heartbeat().await;
    let queues = admin.run(&["queues"]).await.ok();
    let cells: Vec<_> = queues.trim_end().split('\t').collect();
    assert_eq!(&cells[1..5], ["1", "0", "0", "1"], "{queues}");
    assert!(cells[6].contains("hash"), "{queues}");
    let rates = admin.run(&["rates"]).await.ok();
    let cells: Vec<Vec<_>> = rates.lines().map(|line| line.split('\t').collect()).collect();
    let lasts: Vec<_> = cells.iter().map(|cells| cells[0]).collect();
    assert_eq!(lasts, ["60 s", "60 min", "24 h"]);
    assert_eq!(cells[0][1..4], ["2", "1 COMPLETED", "0"], "{rates}");
    assert!(cells[0][5].ends_with(" ms"), "{rates}");
    let capacities = admin.run(&["capacities"]).await.ok();
    assert!(capacities.starts_with("miners online\t1\ncpu slots\t8\n"), "{capacities}");
    assert!(capacities.contains("workloads\t1 cli, 1 hash\n"), "{capacities}");
}

#[tokio::test]
async fn payouts_are_exported_and_marked() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    let (miner, owner) = market.miner("m1").await;
    client.run(&["submit", "--workload", "hash"]).await.code(0);
    miner.work("done").await;
    let owed = owner.run(&["--json", "wallet", "balance"]).await.json();
    let owed = owed["balance"].as_str().unwrap().to_owned();
    let export = ["payouts", "export", "--since", "1d", "--output", "p"];
    let ended = admin.run(&export).await.code(0).says(&format!("{owed} to 1 wallet for"));
    assert_eq!(ended.stdout, format!("w-m1\t{owed} AITBC\t1\n"));
    // What may have been paid by already is not lost to a second export.
    let first = admin.read("p");
    admin.run(&export).await.code(2).says("p is there; --force replaces it");
    assert_eq!(admin.read("p"), first);
    admin.run(&[&export[..], &["--force"]].concat()).await.code(0);
    assert_ne!(admin.read("p"), first);
    let csv = admin.run(&["payouts", "export", "--csv"]).await.ok();
    assert!(csv.starts_with(&format!("wallet,amount,receipts\r\n\"w-m1\",{owed},\"")), "{csv}");
    let marked = admin.run(&["payouts", "mark", "p"]).await.ok();
    assert!(marked.starts_with(&format!("paid\t{owed} AITBC\nwallets\t1\n")), "{marked}");
    assert_eq!(admin.run(&["payouts", "mark", "p"]).await.ok(), marked);
    assert!(owner.run(&["wallet", "balance"]).await.ok().contains("balance\t0 AITBC\n"));
    let text = admin.read("p").replace("w-m1", "w-m2");
    admin.file("p", &text, 0o644);
    admin.run(&["payouts", "mark", "p"]).await.code(4).says("BAD_SIGNATURE");
    admin.file("bad", "{}", 0o644);
    admin.run(&["payouts", "mark", "bad"]).await.code(2).says("no payout file");
}

#[tokio::test]
async fn a_released_name_is_free() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let _miner = market.miner("m1").await;
    let said = admin.run(&["miner", "release", "m1"]).await.ok();
    assert!(said.starts_with("m1 is free; it was renamed "), "{said}");
    admin.run(&["miner", "release", "m1"]).await.code(4);
    market.miner("m1").await;
}
