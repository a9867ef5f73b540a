//! Receipts: good ones, and what is wrong with the others.

use ed25519_dalek::SigningKey;
use protocol::signing;

use crate::market::Market;
use crate::program::Program;

#[tokio::test]
async fn a_receipt_is_checked_with_and_without_a_coordinator() {
    let market = Market::open().await;
    let (client, (miner, owner)) = (market.client("alice").await, market.miner("m1").await);
    let id = client.run(&["submit", "--workload", "hash"]).await.ok().trim().to_owned();
    miner.work("done").await;
    let (verify, key) = (["receipt", "verify"], Market::public_key());
    let said = client.run(&[&verify[..], &[&id]].concat()).await.code(0).says("publishes");
    assert!(said.stdout.contains(&format!("job\t{id}\n")), "{said:?}");
    let receipt = client.run(&["job", "receipt", &id]).await.ok();

    // With nothing but the file and the key.
    let alone = Program::new();
    let file = alone.file("receipt.json", &receipt, 0o644);
    let said = alone.run(&[&verify[..], &[&file, "--key", &key]].concat()).await.code(0);
    assert_eq!(said.stderr, "");
    assert!(said.stdout.contains("wallet\tw-m1\n"), "{said:?}");
    let piped = [&verify[..], &["-", "--key", &key]].concat();
    alone.run_with_input(&piped, &receipt).await.code(0);
    let forged = receipt.replace("w-m1", "w-m2");
    alone.run_with_input(&piped, &forged).await.code(1).says("does not verify");
    let said = alone.run_with_input(&[&["--json"], &piped[..]].concat(), &forged).await.code(1);
    assert!(said.stdout.starts_with("{\"valid\":false,\"why\":\""), "{said:?}");
    let other = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let said = alone.run(&[&verify[..], &[&file, "--key", other]].concat()).await.code(1);
    said.says(&format!("not attested by {other}"));
    alone.run(&[&verify[..], &[&file, "--key", "slip"]].concat()).await.code(2);
    // One key in 64 begins with a hyphen.
    let hyphen = (0..=u8::MAX)
        .map(|seed| signing::key_id(&SigningKey::from_bytes(&[seed; 32]).verifying_key()))
        .find(|key| key.starts_with('-'))
        .unwrap();
    let said = alone.run(&[&verify[..], &[&file, "--key", &hyphen]].concat()).await.code(1);
    said.says(&format!("not attested by {hyphen}"));
    let said = [&verify[..], &[&file, "--key", &key, "--miner-key", &hyphen]].concat();
    alone.run(&said).await.code(1).says(&format!("not signed by the miner key {hyphen}"));

    // The profile pins the key: what the coordinator publishes does not matter.
    let profile =
        format!("profiles: {{m: {{url: '{}', coordinator_keys: [{other}]}}}}", market.url);
    alone.file(".config/aitbc/config.yaml", &profile, 0o644);
    alone.run(&[&verify[..], &[&file]].concat()).await.code(1).says("not attested");

    assert!(owner.run(&["wallet", "ledger"]).await.ok().contains(&id));
    assert!(owner.run(&["wallet", "balance"]).await.ok().starts_with("wallet\tw-m1\n"));
}
