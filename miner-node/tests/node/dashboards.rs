//! What is drawn and what raises an alarm, held against what the programs really tell: a metric that
//! is not there makes a curve that stays empty and an alarm that never comes.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator::stats::totals::Through;
use coordinator::telemetry;
use figment::providers::{Format as _, Yaml};
use miner_node::capabilities::gpu::{DeviceProbe, NoDevices, Vendor};
use miner_node::capabilities::{GpuDevice, Sensors};
use miner_node::tally::Reply;
use mining::engine::{Allowance, Engine, Hashrate, Phase, Status};
use regex::Regex;
use serde_json::Value;

use crate::rig::{Rig, eventually};

const DASHBOARD: &str = include_str!("../../../etc/grafana/aitbc.json");
const ALERTS: &str = include_str!("../../../etc/prometheus/alerts.yml");
const SCRAPE: &str = include_str!("../../../etc/prometheus/scrape.yml");

/// An engine that says how it mines.
struct Mines;

impl Engine for Mines {
    fn allow(&self, _: &Allowance) {}

    fn busy_threads(&self) -> usize {
        0
    }

    fn status(&self) -> Status {
        let rate = Some(800.0);
        Status {
            phase: Phase::Mining,
            hashrate: Hashrate { ten_secs: rate, minute: rate, ..Hashrate::default() },
            ..Status::unknown("native")
        }
    }
}

struct OneGpu;

impl DeviceProbe for OneGpu {
    fn name(&self) -> &'static str {
        "one"
    }

    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices> {
        Ok(vec![GpuDevice {
            vram_total_mb: 16_380,
            vram_free_mb: Some(8000),
            utilization_pct: Some(50),
            temperature_c: Some(60),
            ..GpuDevice::named("A", Vendor::Nvidia)
        }])
    }
}

/// The names of the samples on a page.
fn names(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// The metrics that a text asks for.
fn asked(text: &str) -> BTreeSet<String> {
    let name = Regex::new("aitbc_[a-z0-9_]+").unwrap();
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// All expressions of the dashboard and of the alerts.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let drawn = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let rules = rules().into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    drawn.chain(rules).collect()
}

fn rules() -> Vec<Value> {
    let alerts: Value = Yaml::from_str(ALERTS).unwrap();
    let groups = alerts["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Everything that the coordinator and a node with a GPU that mines tell.
async fn told() -> BTreeSet<String> {
    let rig = Rig::new().await;
    let running = rig.run_with_sensors(Sensors::with_gpus(vec![Box::new(OneGpu)])).await;
    running.node.sharing.employ(std::sync::Arc::new(Mines));
    rig.result(rig.submit_script("true").await).await;
    running.node.tally.asked("tiny", Reply::Failed);
    // What its loops tell now and then.
    telemetry::ready(true);
    telemetry::miners_online(1);
    telemetry::live_jobs(&std::collections::BTreeMap::new());
    telemetry::totals(&Through::default());
    telemetry::job_done(Duration::ZERO, Duration::ZERO);
    let socket = rig.config.workspace.root.join("control.sock");
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let page = eventually(async || {
        let reply = client.get("http://localhost/metrics").send().await.ok()?;
        let page = reply.text().await.ok()?;
        let decided = page.contains("aitbc_mining_threads_allowed");
        (decided && page.contains("aitbc_node_last_heartbeat")).then_some(page)
    })
    .await;
    running.end().await;
    names(&page).union(&names(&telemetry::metrics().render())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_asked_for_is_told() {
    let told = told().await;
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for expression in &expressions {
        let asked = asked(expression);
        // `up` is Prometheus' own.
        assert!(!asked.is_empty() || expression.starts_with("up{"), "{expression}");
        let missing: Vec<_> = asked.difference(&told).collect();
        assert!(missing.is_empty(), "{missing:?} in {expression}: {told:#?}");
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |bracket| expression.matches(bracket).count();
            assert_eq!(count(open), count(close), "{expression}");
        }
    }
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let rules = rules();
    let mut seen = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(seen.insert(name), "{name} twice");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        for annotation in ["summary", "action"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    assert!(rules.len() >= 10, "{seen:?}");
}

#[test]
fn the_jobs_of_the_alerts_are_scraped() {
    let scrape: Value = Yaml::from_str(SCRAPE).unwrap();
    let jobs: BTreeSet<_> = scrape["scrape_configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job_name"].as_str().unwrap().to_owned())
        .collect();
    let job = Regex::new("job=\"([^\"]+)\"").unwrap();
    for found in job.captures_iter(ALERTS) {
        assert!(jobs.contains(&found[1]), "{}", &found[1]);
    }
}

#[test]
fn panels_have_places_of_their_own() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let number = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for (i, one) in panels.iter().enumerate() {
        assert!(number(one, "x") + number(one, "w") <= 24, "{}", one["title"]);
        for other in &panels[..i] {
            let apart = |at: &str, size: &str| {
                number(one, at) + number(one, size) <= number(other, at)
                    || number(other, at) + number(other, size) <= number(one, at)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{} and {}", one["title"], other["title"]);
        }
    }
}
