//! Commands that end by themselves.

use std::fs;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use super::service::{Home, binary, run};

const RECEIPT: &str = include_str!("../../../../protocol/vectors/receipt.json");
const COORDINATOR_KEY: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

#[tokio::test]
async fn help_is_there_for_every_command() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["migrate", "--help"],
        &["config", "--help"],
        &["keys", "create", "--help"],
        &["controls", "get", "--help"],
        &["controls", "set", "--help"],
        &["payouts", "export", "--help"],
        &["payouts", "mark", "--help"],
        &["ledger", "audit", "--help"],
        &["receipt", "verify", "--help"],
        &["openapi", "--help"],
    ] {
        let output = run(&mut binary(args)).await;
        assert_eq!(output.code, 0, "{args:?}");
        assert!(output.out.contains("Usage: coordinator"), "{args:?}");
    }
}

#[tokio::test]
async fn wrong_usage_and_wrong_settings_are_2_and_say_why() {
    let home = Home::new();
    let file = home.path().join("wrong.yaml");
    fs::write(&file, "listen:\n  prot: 1\n").unwrap();
    let file = file.display().to_string();
    for (args, why) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["config", "check", "--port", "99999"], "99999"),
        (&["config", "check", "--host", "0.0.0.0"], "listen.tls_cert"),
        (&["config", "check", "--database-url", "mysql://h/d"], "database.url"),
        (&["config", "check", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (&["config", "check", "--config", &file], "unknown key `listen.prot`"),
        (&["serve", "--host", "0.0.0.0"], "listen.tls_cert"),
        (&["keys", "create", "--scope", "root"], "client, miner or admin"),
        (&["keys", "create", "--scope", "admin", "--weight", "5"], "--client"),
    ] {
        let output = run(&mut binary(args)).await;
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.err.contains(why), "{args:?}: {output:?}");
        assert_eq!(output.out, "", "{args:?}");
    }
    let output = run(&mut binary(["config", "check", "--config", &file])).await;
    assert!(output.err.contains(&file) && output.err.contains("did you mean `port`?"));
}

#[tokio::test]
async fn the_environment_counts_and_flags_win() {
    let show = async |command: &mut tokio::process::Command| {
        let output = run(command).await;
        assert_eq!(output.code, 0, "{output:?}");
        serde_json::from_str::<serde_json::Value>(&output.out).unwrap()
    };
    let mut command = binary(["config", "show"]);
    command.env("AITBC_COORDINATOR__LEASES__LEASE_SECS", "45").env("COORDINATOR_PORT", "1234");
    let config = show(&mut command).await;
    assert_eq!(
        (&config["leases"]["lease_secs"], &config["listen"]["port"]),
        (&45.into(), &1234.into())
    );
    let config = show(command.args(["--port", "4321"])).await;
    assert_eq!(config["listen"]["port"], 4321);
    let mut command = binary(["config", "check"]);
    let output = run(command.env("AITBC_COORDINATOR__LEASES__LEASE_SEC", "45")).await;
    assert_eq!(output.code, 2);
    assert!(output.err.contains("environment: unknown key `leases.lease_sec`"), "{output:?}");
}

#[tokio::test]
async fn database_passwords_never_show() {
    for args in [&["config", "show"][..], &["--help"], &["config", "check"], &["migrate"]] {
        let mut command = binary(args);
        // Nobody listens there: `migrate` fails, and must not say with what.
        command.env("DATABASE_URL", "postgres://someone:hunter2@127.0.0.1:1/d");
        let output = run(&mut command).await;
        assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
    }
}

#[tokio::test]
async fn what_fails_is_1() {
    let home = Home::new();
    for (args, why) in [
        (&["keys", "revoke", "miner-0000000000000000"][..], "no key has the id"),
        (&["keys", "create", "--scope", "miner"], "--wallet: is needed"),
        (&["keys", "create", "--scope", "admin", "--wallet", "w"], "--wallet: does not go"),
        (&["receipt", "verify", "/nowhere.json"], "/nowhere.json"),
        (&["controls", "set", "/nowhere.json"], "/nowhere.json"),
        (&["payouts", "mark", "/nowhere.json"], "/nowhere.json"),
        (&["payouts", "export", "--until", "2099-01-01T00:00:00Z"], "until"),
    ] {
        let output = home.run(args).await;
        assert_eq!(output.code, 1, "{args:?}: {output:?}");
        assert!(output.err.contains(why), "{args:?}: {output:?}");
    }
}

#[tokio::test]
async fn migrations_run_twice_and_the_empty_ledger_is_clean() {
    let home = Home::new();
    for _ in 0..2 {
        assert_eq!(home.run(&["migrate"]).await.code, 0);
    }
    let output = home.run(&["ledger", "audit", "--json"]).await;
    assert_eq!(output.code, 0);
    let audit: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(audit["faults"], serde_json::json!([]));
}

#[tokio::test]
async fn controls_are_read_changed_and_read_again() {
    let home = Home::new();
    let get = async || {
        let output = home.run(&["controls", "get"]).await;
        assert_eq!(output.code, 0, "{output:?}");
        serde_json::from_str::<serde_json::Value>(&output.out).unwrap()
    };
    let file = home.path().join("controls.json");
    let path = file.display().to_string();
    let mut controls = get().await;
    controls["daily_cap"] = "100".into();
    fs::write(&file, controls.to_string()).unwrap();
    assert_eq!(home.run(&["controls", "set", &path]).await.code, 0);
    assert_eq!(get().await["daily_cap"], "100");
    // The version in the file is no longer the one in force.
    let stale = home.run(&["controls", "set", &path]).await;
    assert!(stale.code == 1 && stale.err.contains("version 1 is in force"), "{stale:?}");
    fs::write(&file, r#"{"fee_bp": 20000}"#).unwrap();
    let wrong = home.run(&["controls", "set", &path]).await;
    assert!(wrong.code == 1 && wrong.err.contains("fee_bp"), "{wrong:?}");
}

#[tokio::test]
async fn nobody_is_owed_anything_at_first() {
    let home = Home::new();
    let output = home.run(&["payouts", "export"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let file: protocol::payout::PayoutFile = serde_json::from_str(&output.out).unwrap();
    assert_eq!((file.verify(), file.items.len()), (Ok(()), 0));
    let table = home.run(&["payouts", "export", "--csv"]).await;
    assert_eq!(table.out, "wallet,amount,receipts\n");
    let path = home.path().join("payouts.json");
    fs::write(&path, output.out).unwrap();
    let marked = home.run(&["payouts", "mark", &path.display().to_string()]).await;
    assert!(marked.code == 1 && marked.err.contains("nobody to pay"), "{marked:?}");
}

#[tokio::test]
async fn receipts_are_verified_offline() {
    let home = Home::new();
    let file = home.path().join("receipt.json");
    let path = file.display().to_string();
    fs::write(&file, RECEIPT).unwrap();
    let verify = ["receipt", "verify", &path];
    let good = run(&mut binary(verify)).await;
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.contains("11.846 gpu_seconds x 0.02 = 0.23692 AITBC to wallet_demo"));
    let attested = |key| async move {
        run(&mut binary(["receipt", "verify", path.as_str(), "--coordinator-key", key])).await.code
    };
    assert_eq!(attested.clone()(COORDINATOR_KEY).await, 0);
    assert_eq!(attested.clone()("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").await, 1);
    assert_eq!(attested("-1qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").await, 1);
    fs::write(&file, RECEIPT.replace("wallet_demo", "wallet_demp")).unwrap();
    let bad = run(&mut binary(["receipt", "verify", &file.display().to_string()])).await;
    assert_eq!(bad.code, 1);
    assert!(bad.err.contains("does not verify"), "{bad:?}");
}

#[tokio::test]
async fn a_receipt_can_come_through_a_pipe() {
    let mut command = binary(["receipt", "verify", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(RECEIPT.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["valid"], true);
    assert_eq!(verdict["attested_by"][0], COORDINATOR_KEY);
}
