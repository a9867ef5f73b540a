//! The simulated fleet against a real coordinator.

use serde_json::json;

use crate::market::Market;

/// The options without which nothing is simulated.
const FLEET: [&str; 3] = ["--json", "fleet", "--this-is-a-trial"];

#[tokio::test]
async fn every_job_of_the_fleet_is_paid_once() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let jobs = ["--miners", "3", "--jobs", "30", "--batch", "7", "--priorities", "3"];
    let report = admin.run(&[&FLEET[..], &jobs].concat()).await.json();
    for (name, expected) in [("miners", 3), ("submitted", 30), ("credited", 30), ("paid", 30)] {
        assert_eq!(report[name], expected, "{name} in {report}");
    }
    assert_eq!(report["first_failure"], json!(null), "{report}");
    assert!(report["to_start"]["p50_ms"].as_f64() <= report["to_credit"]["p50_ms"].as_f64());
    let credits = report["credits_each_100_ms"].as_array().unwrap();
    assert_eq!(credits.iter().filter_map(|count| count.as_u64()).sum::<u64>(), 30, "{report}");
    // The coordinator says the same.
    let stats = admin.run(&["--json", "stats"]).await.json();
    assert_eq!(stats["last_day"]["COMPLETED"], 30, "{stats}");
    assert_eq!(stats["miners"]["known"], 3);
    // Nothing is left that could do more of it.
    let keys = admin.run(&["keys", "list"]).await.ok();
    let fleet: Vec<_> = keys.lines().filter(|line| line.contains("fleet-")).collect();
    assert_eq!(fleet.len(), 2, "{keys}");
    assert!(fleet.iter().all(|line| !line.ends_with("\t-")), "not revoked: {keys}");
}

#[tokio::test]
async fn a_steady_fleet_submits_while_it_works() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let steady = ["fleet", "--this-is-a-trial", "--miners", "2", "--jobs", "5", "--rate", "100"];
    let said = admin.run(&steady).await.ok();
    assert!(said.contains("jobs credited\t5 (5 above zero)\n"), "{said}");
    assert!(said.contains("submit to start\tp50 "), "{said}");
}

#[tokio::test]
async fn an_idle_fleet_only_waits() {
    let market = Market::open().await;
    let admin = market.admin().await;
    let idle = ["--miners", "20", "--jobs", "0", "--hold", "0"];
    let report = admin.run(&[&FLEET[..], &idle].concat()).await.json();
    assert_eq!((&report["credited"], &report["to_start"]), (&json!(0), &json!(null)));
}

#[tokio::test]
async fn a_fleet_asks_first_and_needs_an_operator() {
    let market = Market::open().await;
    let (admin, client) = (market.admin().await, market.client("alice").await);
    admin.run(&["fleet"]).await.code(2).says("--this-is-a-trial");
    let trial = ["fleet", "--this-is-a-trial"];
    admin.run(&[&trial[..], &["--rate", "0"]].concat()).await.code(2).says("--rate");
    client.run(&trial).await.code(5).says("FORBIDDEN_SCOPE");
    let tls = [&["--url", "https://127.0.0.1:1"][..], &trial].concat();
    admin.run(&tls).await.code(2).says("plain http");
}
