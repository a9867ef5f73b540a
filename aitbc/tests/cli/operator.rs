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
    admin.run(&create).await.code(1).says("miner.key: ");
    assert_eq!(admin.read("miner.key"), key);
    let bad = ["keys", "create", "--scope", "miner", "--output", "none.key"];
    admin.run(&bad).await.code(4);
    assert!(!admin.path("none.key").exists());
}

#[tokio::test]
async fn the_state_of_the_market_is_shown() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    let _miner = market.miner("m1").await;
    client.run(&["submit", "--command", "echo"]).await.code(0);
    let stats = admin.run(&["stats"]).await.ok();
    assert!(stats.contains("live jobs\t1 QUEUED\n"), "{stats}");
    assert!(stats.contains("miners known\t1\n"), "{stats}");
    // It registered, and has not sent a heartbeat yet.
    let miners = admin.run(&["miners"]).await.ok();
    assert_eq!(miners, "m1\tOFFLINE\tw-m1\t0\t0\t0\thash,cli\t-\n");
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
