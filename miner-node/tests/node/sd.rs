//! Images from the owner's server: what is asked of it, and what of its answers becomes an artifact.

use protocol::{JobState, Sha256Hex};
use serde_json::{Value, json};

use crate::model_server::ModelServer;
use crate::rig::Rig;

/// A true PNG of 64 x 64 grey pixels, as a server sends it.
const GREY: &str = "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAKUlEQVR42u3MQREAAAwCIKMb3RD77SAA6VEEAoFAIBAIBAKBQCAQfA8G320AeXC6efoAAAAASUVORK5CYII=";

fn models() -> Value {
    json!({"ask": "GET /sdapi/v1/sd-models", "say": [[{"title": "sd15.safetensors [6ce0]",
        "model_name": "sd15", "hash": "6ce0", "filename": "/models/sd15.safetensors"}]]})
}

fn job() -> Value {
    json!({
        "workload": "sd_infer",
        "params": {"model": "sd15", "prompt": "a cat", "negative_prompt": "dogs", "steps": 4,
            "width": 64, "height": 64, "seed": 7},
        "artifacts": [{"path": "image.png", "type": "image/png", "max_mb": 1}],
        "constraints": {"models": ["sd15"]},
        "max_attempts": 1,
    })
}

async fn rig(server: &ModelServer) -> Rig {
    let mut rig = Rig::new().await;
    rig.config.runners.sd.enable = true;
    rig.config.runners.sd.url = server.url.parse().unwrap();
    let password = rig.root.path().join("sd.auth");
    std::fs::write(&password, "me:hidden\n").unwrap();
    rig.config.runners.sd.api_auth_file = Some(password);
    rig
}

#[tokio::test]
async fn an_image_is_painted_and_uploaded() {
    let info = json!({"seed": 7, "sd_model_name": "sd15"}).to_string();
    let painting = json!({
        "ask": "POST /sdapi/v1/txt2img",
        "body": {"prompt": "a cat", "negative_prompt": "dogs", "steps": 4, "width": 64,
            "height": 64, "batch_size": 1, "n_iter": 1, "seed": 7,
            "override_settings": {"sd_model_checkpoint": "sd15.safetensors [6ce0]"},
            "send_images": true, "save_images": false, "do_not_save_samples": true,
            "do_not_save_grid": true},
        "say": [{"images": [GREY], "parameters": {}, "info": info}],
    });
    let server = ModelServer::start(json!([models(), painting])).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let told = rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/register")).await;
    let told = told.body.unwrap();
    assert!(told["workloads"].as_array().unwrap().contains(&"sd_infer".into()), "{told}");
    assert_eq!(told["models"], json!(["sd15"]));
    let id = rig.submit(job()).await;
    let result = rig.result(id).await;
    let image = rig.download(id, 1).await;
    assert!(image.starts_with(b"\x89PNG") && result.artifacts.len() == 1);
    assert_eq!(result.artifacts[0].sha256, Sha256Hex::of(&image));
    let about: Value = serde_json::from_str(result.result.unwrap().as_str().unwrap()).unwrap();
    assert_eq!(
        about,
        json!({"image": "image.png", "model": "sd15", "width": 64, "height": 64,
        "steps": 4, "seed": 7})
    );
    let receipt = rig.receipt(id).await;
    assert_eq!(receipt.verify(), Ok(()));
    assert_eq!(
        (receipt.model.as_deref(), receipt.isolation.as_deref()),
        (Some("sd15"), Some("server"))
    );
    let asked = server.asked("POST /sdapi/v1/txt2img");
    assert_eq!(asked[0].authorization.as_deref(), Some("Basic bWU6aGlkZGVu"));
    node.end().await;
}

#[tokio::test]
async fn what_is_no_such_image_is_no_result() {
    let server = ModelServer::start(json!([models()])).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let paints = |reply: Value| {
        let mut painting = reply;
        painting["ask"] = "POST /sdapi/v1/txt2img".into();
        json!([models(), painting])
    };
    let text =
        json!([models(), {"ask": "POST /sdapi/v1/txt2img", "say": [{"images": ["aGVsbG8="]}]}]);
    for (script, code) in [
        (text, "E_INTERNAL"),
        (paints(json!({"say": ["<html>"]})), "E_INTERNAL"),
        (paints(json!({"status": 422, "say": [{"detail": "no such sampler"}]})), "E_INPUT"),
        (paints(json!({"status": 404})), "E_UNSUPPORTED"),
    ] {
        server.says(script);
        let id = rig.submit(job()).await;
        rig.failed(id, code).await;
        let metrics = rig.report(id).await["metrics"].clone();
        assert!(metrics["duration_ms"].is_u64(), "{metrics}");
        assert!(
            metrics["cpu_seconds"].is_null() && metrics["written_bytes"].is_null(),
            "{metrics}"
        );
        assert!(!rig.job_dir(id).join("work/image.png").exists());
    }
    let mut large = job();
    large["params"]["steps"] = 1000.into();
    let id = rig.submit(large).await;
    assert!(rig.failed(id, "E_DENY").await.error.unwrap().message.contains("100"));
    node.end().await;
}

#[tokio::test]
async fn a_canceled_image_is_interrupted() {
    let painting = json!({"ask": "POST /sdapi/v1/txt2img", "hold": true});
    let progress = json!({"ask": "GET /sdapi/v1/progress?skip_current_image=true",
        "say": [{"progress": 0.45, "eta_relative": 3.0, "state": {}}]});
    let interrupt = json!({"ask": "POST /sdapi/v1/interrupt", "say": [{}]});
    let server = ModelServer::start(json!([models(), painting, progress, interrupt])).await;
    let rig = rig(&server).await;
    let node = rig.run().await;
    let id = rig.submit(job()).await;
    rig.until(id, |job| job.progress.as_ref().is_some_and(|p| p.pct == Some(45))).await;
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("{}/v1/jobs/{id}/cancel", rig.mock.url());
    assert!(client.post(url).send().await.unwrap().status().is_success());
    rig.until_phase(id, "FAILED").await;
    assert_eq!(rig.ended(id).await.state, JobState::Canceled);
    assert_eq!(server.asked("POST /sdapi/v1/interrupt").len(), 1);
    node.end().await;
}

#[tokio::test]
async fn without_a_server_nothing_is_advertised() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let told = rig.mock.journal.wait_for(|call| call.is("POST /v1/miner/register")).await;
    let told = told.body.unwrap();
    let has = |list: &str, name: &str| told[list].as_array().unwrap().contains(&name.into());
    assert!(
        !has("workloads", "sd_infer") && !has("workloads", "llm_gen") && !has("runners", "ollama")
    );
    assert_eq!(told.get("models"), None);
    node.end().await;
}
