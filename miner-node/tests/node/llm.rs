//! Text from the owner's inference server: what is asked of it, what comes of its answers, good and
//! bad, and which models are offered meanwhile.

use miner_node::tally::Requests;
use protocol::JobState;
use serde_json::{Value, json};

use crate::model_server::ModelServer;
use crate::rig::{Rig, eventually};
use crate::top::get;

fn dialogue(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn ollama() -> Value {
    dialogue(include_str!("dialogues/ollama.json"))
}

/// The script of a server that has `model` and answers a prompt with `reply`.
fn answering(model: &str, reply: Value) -> Value {
    let mut reply = reply;
    reply["ask"] = "POST /api/generate".into();
    json!([{"ask": "GET /api/tags", "say": [{"models": [{"name": model}]}]}, reply])
}

/// A rig whose node asks `server`.
async fn rig(server: &ModelServer) -> Rig {
    let mut rig = Rig::new().await;
    rig.config.runners.llm.enable = true;
    rig.config.runners.llm.url = server.url.parse().unwrap();
    rig.config.runners.llm.refresh_s = 1;
    rig
}

fn prompt(model: &str) -> Value {
    json!({"workload": "llm_gen", "params": {"model": model, "prompt": "Hi"}, "max_attempts": 1})
}

/// Waits until the node has told the coordinator that it has exactly `models`.
async fn until_offered(rig: &Rig, models: &[&str]) {
    eventually(async || {
        let calls = rig.mock.journal.all(|call| call.is("POST /v1/miner/register"));
        let told = calls.last().and_then(|call| call.body.clone())?;
        let has = told["models"].as_array().cloned().unwrap_or_default();
        let offers = told["workloads"].as_array().unwrap().contains(&"llm_gen".into());
        (has == models && offers != models.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ollama_generates_and_its_count_is_paid() {
    let server = ModelServer::start(ollama()).await;
    let mut rig = Rig::with_prices(json!({
        "workloads": {"llm_gen": {"unit_type": "tokens", "unit_price": "0.001"}},
    }))
    .await;
    rig.config.runners.llm.enable = true;
    rig.config.runners.llm.url = server.url.parse().unwrap();
    let node = rig.run().await;
    until_offered(&rig, &["llama3.2", "llama3.2:latest", "qwen2.5:0.5b"]).await;
    let id = rig
        .submit(json!({
            "workload": "llm_gen",
            "params": {"model": "llama3.2", "prompt": "Why is the sky blue?",
                "options": {"temperature": 0, "seed": 42}},
            "limits": {"max_tokens": 300},
            "constraints": {"models": ["llama3.2"]},
        }))
        .await;
    let result = rig.result(id).await;
    assert_eq!(result.result, Some("The sky scatters blué.".into()));
    let metrics = &result.metrics;
    assert_eq!((&metrics["tokens"], &metrics["prompt_tokens"]), (&json!(200), &json!(26)));
    assert_eq!(metrics["tokens_per_s"], json!(50.0));
    assert!(metrics["duration_ms"].is_u64() && metrics.get("cpu_seconds").is_none());
    let receipt = rig.receipt(id).await;
    assert_eq!(receipt.verify(), Ok(()));
    assert_eq!(
        (receipt.units.to_string(), receipt.price.to_string()),
        ("200".into(), "0.2".into())
    );
    assert_eq!(receipt.model.as_deref(), Some("llama3.2"));
    assert_eq!(receipt.isolation.as_deref(), Some("server"));
    node.end().await;
}

#[tokio::test]
async fn ollama_goes_on_with_a_conversation() {
    let server = ModelServer::start(ollama()).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let id = rig
        .submit(json!({
            "workload": "llm_gen",
            "params": {"model": "qwen2.5:0.5b", "max_tokens": 20, "messages": [
                {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]},
        }))
        .await;
    let result = rig.result(id).await;
    assert_eq!((result.result, &result.metrics["tokens"]), (Some("Hi!".into()), &json!(3)));
    node.end().await;
}

#[tokio::test]
async fn a_server_that_speaks_as_openai_does() {
    let server = ModelServer::start(dialogue(include_str!("dialogues/openai.json"))).await;
    let mut rig = rig(&server).await;
    let key = rig.root.path().join("llm.key");
    std::fs::write(&key, "sk-hidden\n").unwrap();
    rig.config.runners.llm.api_key_file = Some(key);
    let node = rig.run().await;
    until_offered(&rig, &["Llama-3.2-1B"]).await;
    let id = rig
        .submit(json!({
            "workload": "llm_gen",
            "params": {"model": "Llama-3.2-1B", "prompt": "Hello!", "system": "Be brief.",
                "max_tokens": 20, "seed": 7, "stop": "\n"},
        }))
        .await;
    let result = rig.result(id).await;
    assert_eq!(result.result, Some("Hello there".into()));
    let metrics = &result.metrics;
    assert_eq!((&metrics["tokens"], &metrics["prompt_tokens"]), (&json!(9), &json!(19)));
    let asked = server.asked("POST /v1/chat/completions");
    assert_eq!(asked[0].authorization.as_deref(), Some("Bearer sk-hidden"));
    node.end().await;
    for file in ["out.txt", "logs/stderr.log", "state.json"] {
        let text = std::fs::read_to_string(rig.job_dir(id).join(file)).unwrap();
        assert!(!text.contains("sk-hidden"), "{file}");
    }
}

#[tokio::test]
async fn another_model_is_never_taken_instead() {
    let server = ModelServer::start(ollama()).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    for params in [json!({"model": "gpt-5", "prompt": "a"}), json!({"model": "", "prompt": "a"})] {
        let id =
            rig.submit(json!({"workload": "llm_gen", "params": params, "max_attempts": 1})).await;
        rig.failed(id, "E_UNSUPPORTED").await;
    }
    let id = rig.submit(json!({"workload": "llm_gen", "params": {"prompt": "a"}})).await;
    assert!(rig.failed(id, "E_INPUT").await.error.unwrap().message.contains("model"));
    assert!(server.asked("POST /api/generate").is_empty());
    // The server itself says that it has no such model, or answers with another one.
    server.says(answering(
        "llama3.2",
        json!({"status": 404, "say": [{"error": "model 'llama3.2' not found"}]}),
    ));
    until_offered(&rig, &["llama3.2"]).await;
    let id = rig.submit(prompt("llama3.2")).await;
    let error = rig.failed(id, "E_UNSUPPORTED").await.error.unwrap();
    assert!(error.message.contains("model 'llama3.2' not found"), "{error:?}");
    let other = json!({"say": [{"model": "tiny", "response": "a", "done": true}]});
    server.says(answering("llama3.2", other));
    let id = rig.submit(prompt("llama3.2")).await;
    assert!(rig.failed(id, "E_INTERNAL").await.error.unwrap().message.contains("tiny"));
    node.end().await;
}

#[tokio::test]
async fn what_the_server_has_no_more_is_advertised_no_more() {
    let server = ModelServer::start(ollama()).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    until_offered(&rig, &["llama3.2", "llama3.2:latest", "qwen2.5:0.5b"]).await;
    server.says(answering("qwen2.5:0.5b", json!({})));
    until_offered(&rig, &["qwen2.5:0.5b"]).await;
    server.says(json!([{"ask": "GET /api/tags", "status": 500}]));
    until_offered(&rig, &[]).await;
    // Other work goes on meanwhile, and the server may come back.
    let text = json!({"workload": "hash", "input": {"inline": {"text": "a"}}});
    let id = rig.submit(text).await;
    rig.result(id).await;
    server.says(ollama());
    until_offered(&rig, &["llama3.2", "llama3.2:latest", "qwen2.5:0.5b"]).await;
    node.end().await;
}

#[tokio::test]
async fn a_server_that_has_gone_is_an_internal_error_and_no_offer() {
    let server = ModelServer::start(answering("m", json!({"hold": true}))).await;
    let mut rig = rig(&server).await;
    // So that only the failed call tells the node.
    rig.config.runners.llm.refresh_s = 3600;
    let node = rig.run().await;
    until_offered(&rig, &["m"]).await;
    server.end();
    let id = rig.submit(prompt("m")).await;
    let error = rig.failed(id, "E_INTERNAL").await.error.unwrap();
    assert!(!error.message.contains("127.0.0.1"), "{error:?}");
    until_offered(&rig, &[]).await;
    node.end().await;
}

#[tokio::test]
async fn tokens_are_progress_and_a_canceled_job_leaves_the_server() {
    let begun = json!([{"model": "m", "response": "One", "done": false},
        {"model": "m", "response": " two", "done": false}]);
    let server = ModelServer::start(answering("m", json!({"say": begun, "hold": true}))).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let id = rig.submit(prompt("m")).await;
    let noted = |note: &str| note == "1 tokens" || note == "2 tokens";
    rig.until(id, |job| {
        job.progress.as_ref().is_some_and(|p| p.note.as_deref().is_some_and(noted))
    })
    .await;
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("{}/v1/jobs/{id}/cancel", rig.mock.url());
    assert!(client.post(url).send().await.unwrap().status().is_success());
    server.until_dropped().await;
    assert_eq!(rig.ended(id).await.state, JobState::Canceled);
    let logs = format!("/v1/miner/jobs/{id}/logs");
    let calls = rig.mock.journal.all(|call| call.path == logs);
    let of = calls.iter().filter_map(|call| call.body.as_ref());
    let text: String =
        of.filter(|body| body["stream"] == "stdout").filter_map(|b| b["text"].as_str()).collect();
    assert_eq!(text, "One two");
    node.end().await;
}

#[tokio::test]
async fn limits_hold_for_servers_too() {
    let held = json!({"say": [{"model": "m", "response": "a", "done": false}], "hold": true});
    let server = ModelServer::start(answering("m", held)).await;
    let mut rig = rig(&server).await;
    rig.config.resources.max_output_mb = 1;
    let node = rig.run().await;
    let mut job = prompt("m");
    job["limits"] = json!({"max_runtime_s": 1});
    let id = rig.submit(job).await;
    rig.failed(id, "E_TIMEOUT").await;
    server.until_dropped().await;

    let line = json!({"model": "m", "response": "x".repeat(600_000), "done": false});
    server.says(answering("m", json!({"say": [line, line], "hold": true})));
    let id = rig.submit(prompt("m")).await;
    rig.failed(id, "E_OUTPUT").await;
    node.end().await;
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = ModelServer::start(answering("m", json!({"hold": true}))).await;
    let mut rig = rig(&server).await;
    rig.config.runners.llm.timeout_s = 1;
    let node = rig.run().await;
    let id = rig.submit(prompt("m")).await;
    let error = rig.failed(id, "E_INTERNAL").await.error.unwrap();
    assert!(error.message.contains("silent"), "{error:?}");
    node.end().await;
}

#[tokio::test]
async fn hostile_answers_end_the_job_and_nothing_else() {
    let elsewhere = ModelServer::start(json!([])).await;
    let server = ModelServer::start(answering("m", json!({}))).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let location = json!({"location": format!("{}/api/generate", elsewhere.url)});
    for (reply, code) in [
        (json!({"say": ["<html>no"]}), "E_INTERNAL"),
        (json!({"say": []}), "E_INTERNAL"),
        (json!({"say": [{"model": "m", "response": "a"}]}), "E_INTERNAL"),
        (json!({"say": [{"error": "out of memory"}]}), "E_INTERNAL"),
        (json!({"say": ["x".repeat(5 << 20)]}), "E_INTERNAL"),
        (json!({"say": [format!("[{}", "[".repeat(100_000)), "\n"]}), "E_INTERNAL"),
        (json!({"status": 307, "headers": location}), "E_INTERNAL"),
        (json!({"status": 401}), "E_INTERNAL"),
        (json!({"status": 400, "say": [{"error": "the prompt is too long"}]}), "E_INPUT"),
    ] {
        server.says(answering("m", reply.clone()));
        until_offered(&rig, &["m"]).await;
        let id = rig.submit(prompt("m")).await;
        rig.failed(id, code).await;
    }
    assert!(elsewhere.asked("POST /api/generate").is_empty());
    let counted = Requests { refused: 1, failed: 8, ..Requests::default() };
    assert_eq!(node.node.tally.counts(None).models["m"], counted);
    node.end().await;
}

#[tokio::test]
async fn requests_of_a_model_are_counted() {
    let answer = json!({"model": "m", "response": "Hi", "done": true, "eval_count": 3});
    let server = ModelServer::start(answering("m", json!({"say": [answer]}))).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    until_offered(&rig, &["m"]).await;
    let mut jobs = Vec::new();
    for _ in 0..100 {
        jobs.push(rig.submit(prompt("m")).await);
    }
    for id in jobs {
        rig.result(id).await;
    }
    let page = get(&rig, "/metrics").await;
    for part in [
        "aitbc_node_model_requests_total{model=\"m\",outcome=\"answered\"} 100\n",
        "aitbc_node_model_requests_total{model=\"m\",outcome=\"failed\"} 0\n",
        "aitbc_node_model_tokens_total{model=\"m\"} 300\n",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let name = "aitbc_node_model_answer_seconds_total{model=\"m\"} ";
    let took = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert!(took.parse::<f64>().unwrap() > 0.0, "{took}");
    node.end().await;
}

/// Against a real server with a real model, of random weights: `scripts/llm_server` starts one.
#[tokio::test]
#[ignore = "needs the server that scripts/llm_server starts"]
async fn a_real_server_generates() {
    let url = std::env::var("TEST_LLM_URL").expect("TEST_LLM_URL: run scripts/llm_server");
    let mut rig = Rig::with_prices(json!({
        "workloads": {"llm_gen": {"unit_type": "tokens", "unit_price": "0.001"}},
    }))
    .await;
    rig.config.runners.llm.enable = true;
    rig.config.runners.llm.url = url.parse().unwrap();
    let node = rig.run().await;
    until_offered(&rig, &["tiny"]).await;
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let id = rig
            .submit(json!({
                "workload": "llm_gen",
                "params": {"model": "tiny", "prompt": "the sky is blue", "seed": 7,
                    "temperature": 1},
                "limits": {"max_tokens": 32},
            }))
            .await;
        let result = rig.result(id).await;
        assert!(result.metrics["tokens_per_s"].as_f64().unwrap() > 0.0);
        let receipt = rig.receipt(id).await;
        assert_eq!(receipt.verify(), Ok(()));
        assert_eq!(receipt.units.to_string(), result.metrics["tokens"].to_string());
        assert!((1..=32).contains(&result.metrics["tokens"].as_u64().unwrap()));
        outputs.push(result.result.unwrap());
    }
    // It is a model that answers: the same seed says the same.
    assert_eq!(outputs[0], outputs[1]);
    assert!(!outputs[0].as_str().unwrap().is_empty());
    let id = rig.submit(prompt("another")).await;
    rig.failed(id, "E_UNSUPPORTED").await;
    node.end().await;
}
