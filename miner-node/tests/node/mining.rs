//! Mining beside jobs: real threads that hash without a dataset, for a pool played by hand, and real
//! jobs in the sandbox.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miner_node::config::Secret;
use miner_node::facts::usable_processors;
use miner_node::listener::{self, Access};
use miner_node::sharing::Sharing;
use mining::engine::Engine;
use mining::native::{Inbox, Native, Outlet, Priority, Settings};
use mining::policy::{Decision, Rule};
use mining::pool::{Event, Job, Solution, Verdict};
use mining::work::MONERO_NONCE_AT;
use mining::{Algorithm, NonceRange, Notice, Target, Work};
use protocol::{JobId, JobState};
use serde_json::{Value, json};

use super::rig::{Rig, Running, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// A pool whose shares nobody finds.
struct Hand;

impl Outlet for Hand {
    fn submit(&self, _: Solution) -> Result<(), Verdict> {
        Ok(())
    }

    fn exhausted(&self, _: u64) {}
}

fn engine(threads: usize) -> Arc<Native> {
    // Not as it usually is: machines that run tests are busy, and the idle get nothing.
    let priority = Priority::Normal;
    let settings =
        Settings { threads: Some(threads), light: true, priority, ..Settings::default() };
    let work = Work::new(vec![7; 76], MONERO_NONCE_AT, NonceRange::ALL, Target::new(1)).unwrap();
    let job = Job {
        number: 1,
        id: "job".to_owned(),
        algorithm: Algorithm::RandomX,
        seed: Some([1; 32]),
        next_seed: None,
        height: None,
        work,
        extra_nonce: Vec::new(),
    };
    let connect = |inbox: Inbox| {
        inbox.tell(Event::Connected { url: "pool.example:3333".to_owned() });
        inbox.tell(Event::Job(job));
        Hand
    };
    Arc::new(Native::start(settings, Arc::new(|_: &Notice| {}), connect).unwrap())
}

/// A rig whose owner minds nobody.
async fn rig(slots: u32) -> Rig {
    let mut rig = Rig::new().await;
    rig.config.resources.max_concurrency = Some(slots);
    mind_nobody(&mut rig);
    rig
}

/// The machine that tests run on is never idle.
pub fn mind_nobody(rig: &mut Rig) {
    let policy = &mut rig.config.mining.policy;
    (policy.busy_pct, policy.input_s, policy.on_battery) = (100, 0, true);
    (policy.memory_floor_mb, policy.memory_pressure_pct) = (0, None);
    policy.memory_for_jobs = false;
}

pub async fn mining(rig: &Rig, threads: usize) -> (Running, Arc<Native>) {
    let running = rig.run().await;
    let engine = engine(threads);
    running.node.sharing.employ(Arc::clone(&engine) as Arc<dyn Engine>);
    hashing(&engine).await;
    (running, engine)
}

async fn hashing(engine: &Native) {
    let before = engine.status().hashes;
    eventually(async || (engine.status().hashes > before).then_some(())).await;
}

async fn decided(sharing: &Sharing, wanted: impl Fn(&Decision) -> bool) -> Decision {
    eventually(async || sharing.standing().decision.filter(|decision| wanted(decision))).await
}

/// A job that says on which processors it may run, and goes on until it is canceled.
pub fn holding(priority: u8) -> Value {
    json!({
        "command": "sh", "max_attempts": 1, "priority": priority,
        "args": ["-c", "grep Cpus_allowed_list /proc/self/status; exec sleep 600"],
        "constraints": {"cpu_threads": 1},
    })
}

pub async fn cancel(rig: &Rig, job: JobId) {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("{}/v1/jobs/{job}/cancel", rig.mock.url());
    assert_eq!(client.post(url).send().await.unwrap().status(), 200);
}

/// The processors of a list like `0-2,5`.
fn numbers(list: &str) -> BTreeSet<usize> {
    let parts = list.trim().split(',').map(|part| part.split_once('-').unwrap_or((part, part)));
    parts.flat_map(|(a, b)| a.parse::<usize>().unwrap()..=b.parse().unwrap()).collect()
}

/// The processors on which a job says that it may run.
pub async fn processors_of_job(rig: &Rig, job: JobId) -> BTreeSet<usize> {
    let out = rig.job_dir(job).join("out.txt");
    let text = eventually(async || {
        let text = std::fs::read_to_string(&out).ok()?;
        text.contains('\n').then_some(text)
    });
    let text = text.await;
    numbers(text.trim().strip_prefix("Cpus_allowed_list:").unwrap())
}

/// The processors that the threads that hash now are kept to.
pub fn processors_of_lanes(threads: usize) -> BTreeSet<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |directory: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).ok();
        let number: usize = read("comm")?.trim().strip_prefix("hash-")?.parse().ok()?;
        let status = read("status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        (number < threads).then(|| numbers(list))
    };
    tasks.filter_map(of).flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_take_processors_from_mining_one_by_one_and_give_them_back() {
    let processors = usable_processors();
    let all = processors.len();
    let at_once = all.saturating_sub(1).max(1);
    let rig = rig(u32::try_from(at_once).unwrap()).await;
    let (running, engine) = mining(&rig, all).await;
    let sharing = &running.node.sharing;
    assert_eq!(decided(sharing, |decision| decision.threads == all).await.cpu.rule, Rule::Idle);

    let mut jobs = Vec::new();
    for number in 1..=at_once {
        let job = rig.submit(holding(0)).await;
        rig.until_phase(job, "RUNNING").await;
        let decision = decided(sharing, |decision| decision.threads == all - number).await;
        assert_eq!(decision.cpu.rule, Rule::Jobs);
        jobs.push(job);
    }
    let left = all - at_once;
    if left > 0 {
        // It goes on, elsewhere.
        hashing(&engine).await;
    }
    eventually(async || (engine.busy_threads() <= left).then_some(())).await;
    let mine = processors_of_lanes(left);
    for job in &jobs {
        let of_job = processors_of_job(&rig, *job).await;
        assert_eq!(of_job.len(), 1);
        assert!(of_job.is_disjoint(&mine), "{of_job:?} {mine:?}");
    }
    for job in jobs {
        cancel(&rig, job).await;
    }
    decided(sharing, |decision| decision.threads == all).await;
    hashing(&engine).await;
    let standing = sharing.standing();
    assert_eq!(standing.preemptions, at_once as u64);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_mines_beside_a_critical_job() {
    let rig = rig(1).await;
    let (running, engine) = mining(&rig, 1).await;
    let sharing = &running.node.sharing;
    let job = rig.submit(holding(9)).await;
    rig.until_phase(job, "RUNNING").await;
    let decision = decided(sharing, |decision| decision.threads == 0).await;
    assert_eq!(decision.cpu.rule, Rule::CriticalJob);
    eventually(async || (engine.busy_threads() == 0).then_some(())).await;
    let hashes = engine.status().hashes;
    cancel(&rig, job).await;
    eventually(async || (engine.status().hashes > hashes).then_some(())).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_takes_no_jobs_gets_none() {
    let mut rig = rig(1).await;
    rig.config.mining.policy.compute = false;
    let running = rig.run().await;
    let registered = |standing: &miner_node::node::Standing| standing.registered;
    running.node.standing.subscribe().wait_for(registered).await.unwrap();
    let job = rig.submit_script("true").await;
    for _ in 0..50 {
        // A node that asks has it within one of these questions.
        assert_eq!(rig.mock.job(job).await.unwrap().state, JobState::Queued);
    }
    let on = json!({"compute": true});
    running.node.sharing.change(on.as_object().unwrap()).unwrap();
    rig.result(job).await;
    running.end().await;
}

/// What a node tells at an address, as somebody with `token` asks for it.
async fn ask(request: reqwest::RequestBuilder, token: &str) -> (u16, String) {
    let reply = request.header("authorization", format!("Bearer {token}")).send().await.unwrap();
    assert!(reply.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
    (reply.status().as_u16(), reply.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_tells_everybody_here_and_obeys_the_token() {
    let rig = rig(1).await;
    let (running, _engine) = mining(&rig, 1).await;
    let token = Some(Secret::new("very-secret"));
    let router = listener::router(Arc::clone(&running.node), Access::Port(token));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(socket, router).await });
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let get = |path: &str| client.get(format!("{url}{path}"));
    let put = |body: &Value| client.put(format!("{url}/v1/controls")).json(body);

    let (status, metrics) = ask(get("/metrics"), "").await;
    assert_eq!(status, 200);
    for line in [
        "aitbc_mining_shares_total{verdict=\"accepted\"} 0",
        "aitbc_mining_threads ",
        "aitbc_mining_hashes_total ",
        "aitbc_node_rule{device=\"cpu\",rule=\"",
        "# TYPE aitbc_mining_hashrate gauge",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(ask(get("/healthz"), "").await.0, 200);
    let (_, summary) = ask(get("/2/summary"), "").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["algo"] == "rx/0" && summary["id"] == "rig7", "{summary}");
    let (_, why) = ask(get("/v1/why"), "").await;
    let why: Value = serde_json::from_str(&why).unwrap();
    assert!(
        why["decision"]["cpu"]["why"].is_string() && why["engine"]["engine"] == "native",
        "{why}"
    );

    let wish = json!({"cpu_pct": 0, "gpu_intensity": 30});
    for wrong in ["", "very-secre"] {
        assert_eq!(ask(put(&wish), wrong).await.0, 401);
    }
    let (status, now) = ask(put(&wish), "very-secret").await;
    assert_eq!(status, 200);
    assert_eq!(running.node.sharing.standing().decision.unwrap().cpu.rule, Rule::Cap);
    assert_eq!(ask(get("/v1/controls"), "").await, (200, now.clone()));
    assert!(now.contains("\"gpu_intensity\":30"), "{now}");
    let (status, refused) = ask(put(&json!({"cpu_pc": 1})), "very-secret").await;
    assert!(status == 400 && refused.contains("did you mean cpu_pct?"), "{refused}");
    let elsewhere = get("/metrics").header("host", "evil.example:9480");
    assert_eq!(ask(elsewhere, "").await.0, 403);
    assert_eq!(ask(get("/v2/nothing"), "").await.0, 404);
    server.abort();
    running.end().await;
}

/// An owner's question to the node of `rig`, as typed.
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn typed(rig: &Rig, words: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_miner-node"))
        .args(["--config", rig.root.path().join("miner.yaml").to_str().unwrap()])
        .args(words)
        .env_clear()
        .output()
        .unwrap();
    // The configuration is warned about on the other stream.
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_asks_and_changes_and_it_lasts() {
    let rig = rig(1).await;
    let coordinator = json!({"base_url": rig.mock.url(), "auth_token": "id.very-secret"});
    let settings = json!({"coordinator": coordinator});
    let node = rig.start(settings.clone(), &[], std::process::Stdio::null());
    let answered = async || typed(&rig, &["ctl", "get", "cpu_pct"]).0.filter(|code| *code == 0);
    eventually(answered).await;
    assert_eq!(typed(&rig, &["ctl", "set", "cpu_pct=40", "schedule=22:00-06:00"]).0, Some(0));
    assert_eq!(typed(&rig, &["ctl", "pause", "3h"]).0, Some(0));
    let (code, text) = typed(&rig, &["ctl", "set", "cpu_pc=40"]);
    assert!(code == Some(1) && text.contains("did you mean cpu_pct?"), "{text}");
    let (_, before) = typed(&rig, &["ctl", "--json"]);
    let (code, why) = typed(&rig, &["why"]);
    assert!(code == Some(0) && why.contains("snoozed: paused by the owner for 3 h more"), "{why}");
    drop(node);

    let (code, text) = typed(&rig, &["why"]);
    assert!(code == Some(1) && text.contains("no node runs here"), "{text}");
    let mut node = rig.start(settings, &[], std::process::Stdio::null());
    eventually(answered).await;
    assert_eq!(typed(&rig, &["ctl", "--json"]), (Some(0), before));
    assert_eq!(typed(&rig, &["ctl", "resume"]), (Some(0), "snooze_until: null\n".to_owned()));
    assert_eq!(typed(&rig, &["ctl", "reset"]).0, Some(0));
    assert_eq!(typed(&rig, &["ctl", "get", "cpu_pct"]), (Some(0), "100\n".to_owned()));
    assert_eq!(node.terminate(), Some(0));
    assert!(!rig.config.workspace.root.join("control.sock").exists());
}
