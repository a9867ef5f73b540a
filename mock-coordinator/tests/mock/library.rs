//! The mock inside a test, as the tests of the node start it.

use mock_coordinator::faults::Rule;
use mock_coordinator::{Faults, Mock, MockError, Options, Script, start};
use protocol::wallet::Balance;
use protocol::{ErrorBody, Job, JobState};
use serde_json::{Value, json};

use super::{http, within};

async fn post(mock: &Mock, path: &str, body: Value) -> reqwest::Response {
    http().post(format!("{}{path}", mock.url())).json(&body).send().await.unwrap()
}

async fn heartbeat(mock: &Mock) -> reqwest::Response {
    let body = json!({"miner_id": "m", "wallet": "wallet_demo", "mode": "cpu", "gpu": 0});
    post(mock, "/v1/miner/heartbeat", body).await
}

async fn take(mock: &Mock) -> Job {
    let url = format!("{}/v1/miner/next?miner=m&slots=1&wait=30", mock.url());
    within(http().get(url).send()).await.unwrap().json().await.unwrap()
}

async fn prove(mock: &Mock, job: &Job) -> Result<reqwest::Response, reqwest::Error> {
    let body = json!({"id": job.id, "mode": "cpu", "output_sha": "0".repeat(64), "metrics": {}});
    http().post(format!("{}/v1/miner/proof", mock.url())).json(&body).send().await
}

fn rule(route: &str) -> Rule {
    Rule { route: route.to_owned(), count: Some(1), ..Rule::default() }
}

#[tokio::test]
async fn it_is_open_and_pays_the_wallet() {
    let mock = start(Options::default()).await.unwrap();
    let job = serde_json::from_value(json!({"workload": "torch_bench"})).unwrap();
    let view = mock.submit(&job).await.unwrap();
    assert_eq!(heartbeat(&mock).await.status(), 200);
    let job = take(&mock).await;
    assert_eq!(job.id, view.job_id);
    assert_eq!(prove(&mock, &job).await.unwrap().status(), 201);
    assert_eq!(mock.job(job.id).await.unwrap().state, JobState::Completed);
    let balance: Balance = mock.get("/v1/wallet/balance").await.unwrap();
    assert_eq!(balance.wallet.as_str(), "wallet_demo");
    let refused = mock.get::<Value>("/v1/jobs/nope").await.unwrap_err();
    assert!(matches!(refused, MockError::Refused { status, .. } if status == 404), "{refused}");
    mock.stop().await.unwrap();
}

#[tokio::test]
async fn the_journal_has_every_call_from_outside() {
    let mock = start(Options::default()).await.unwrap();
    let seen = mock.journal.wait_for(|call| call.is("POST /v1/miner/heartbeat"));
    let (call, reply) = tokio::join!(within(seen), heartbeat(&mock));
    assert_eq!(call.status, reply.status());
    assert_eq!(call.body.unwrap()["miner_id"], "m");
    mock.get::<Value>("/v1/health").await.unwrap();
    assert_eq!(mock.journal.all(|_| true).len(), 1, "calls from inside are not in it");
}

#[tokio::test]
async fn jobs_of_a_script_come_one_after_another() {
    let jobs = json!([{"workload": "torch_bench"}, {"workload": "llm_gen"}]);
    let script =
        Script { jobs: serde_json::from_value(jobs).unwrap(), repeat: true, faults: Vec::new() };
    let mock = start(Options { feed: Some(script), ..Options::default() }).await.unwrap();
    heartbeat(&mock).await;
    for workload in ["torch_bench", "llm_gen", "torch_bench"] {
        let job = take(&mock).await;
        assert_eq!(job.workload.as_str(), workload);
        assert_eq!(prove(&mock, &job).await.unwrap().status(), 201);
    }
}

#[tokio::test]
async fn an_error_before_the_call_leaves_no_trace_and_one_after_it_does() {
    let faults = [
        Rule { status: Some(503), ..rule("POST /v1/miner/heartbeat") },
        Rule { status: Some(500), after: true, ..rule("POST /v1/miner/proof") },
    ];
    let options = Options { faults: Faults::scripted(faults), ..Options::default() };
    let mock = start(options).await.unwrap();
    let refused = heartbeat(&mock).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<ErrorBody>().await.unwrap().error.code, "OVERLOADED");
    assert!(mock.journal.all(|_| true).is_empty());
    assert_eq!(heartbeat(&mock).await.status(), 200);
    let new = serde_json::from_value(json!({"workload": "torch_bench"})).unwrap();
    mock.submit(&new).await.unwrap();
    let job = take(&mock).await;
    assert_eq!(prove(&mock, &job).await.unwrap().status(), 500);
    // It took effect nevertheless: the repeat is told so, and pays nothing more.
    assert_eq!(prove(&mock, &job).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_dropped_connection_is_no_reply() {
    let drop = Rule { drop: true, delay_ms: Some(1), ..rule("POST /v1/miner/heartbeat") };
    let options = Options { faults: Faults::scripted([drop]), ..Options::default() };
    let mock = start(options).await.unwrap();
    let body = json!({"miner_id": "m", "wallet": "wallet_demo", "mode": "cpu", "gpu": 0});
    let url = format!("{}/v1/miner/heartbeat", mock.url());
    assert!(http().post(&url).json(&body).send().await.is_err());
    assert_eq!(http().post(&url).json(&body).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn two_mocks_share_nothing() {
    let (one, other) = (Options::default(), Options::default());
    let (one, other) = (start(one).await.unwrap(), start(other).await.unwrap());
    heartbeat(&one).await;
    let miners = async |mock: &Mock| {
        let stats: Value = mock.get("/v1/admin/stats").await.unwrap();
        stats["miners"]["known"].as_u64().unwrap()
    };
    assert_eq!((miners(&one).await, miners(&other).await), (1, 0));
}
