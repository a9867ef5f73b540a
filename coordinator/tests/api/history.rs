//! Whatever happens in whatever order: only legal transitions, no gap in a job's history, clean
//! books.

use coordinator::db::Args;
use protocol::{Job, JobId, JobState};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::{Client, TestApp, TestMiner, on_both_engines};

const STEPS: usize = 150;

/// A random story with two miners and one client.
async fn story(app: &TestApp, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let client = app.client(&format!("c{seed}")).await;
    let names = ["a", "b"].map(|name| format!("{name}{seed}"));
    let miners = [app.registered(&names[0]).await, app.registered(&names[1]).await];
    let mut submitted: Vec<JobId> = Vec::new();
    let mut taken: Vec<(usize, Job)> = Vec::new();
    for _ in 0..STEPS {
        step(app, &mut rng, &client, &miners, &mut submitted, &mut taken).await;
    }
    for id in &submitted {
        check_history(app, &client, *id, seed).await;
    }
    app.audit().await;
}

async fn step(
    app: &TestApp,
    rng: &mut StdRng,
    client: &Client<'_>,
    miners: &[TestMiner<'_>; 2],
    submitted: &mut Vec<JobId>,
    taken: &mut Vec<(usize, Job)>,
) {
    let who = rng.random_range(0..2);
    // A call about any lease that was ever handed out, by any miner: many of them are refused.
    let pick = |rng: &mut StdRng, taken: &[(usize, Job)]| {
        (!taken.is_empty()).then(|| taken[rng.random_range(0..taken.len())].clone())
    };
    match rng.random_range(0..12) {
        0 | 1 => {
            let job = json!({"workload": "hash", "priority": rng.random_range(0..10)});
            submitted.push(client.submit(job).await);
        }
        2 | 3 => taken.extend(miners[who].next().await.map(|job| (who, job))),
        4 => {
            if let Some((owner, job)) = pick(rng, taken) {
                miners[owner].ack(&job).await;
            }
        }
        5 => {
            if let Some((owner, job)) = pick(rng, taken) {
                let active = json!([{"id": job.id, "lease_token": job.lease.token}]);
                miners[owner].heartbeat(json!({"active_jobs": active})).await.expect(200);
            }
        }
        6 => {
            if let Some((_, job)) = pick(rng, taken) {
                let output = ["a", "b"][rng.random_range(0..2)];
                miners[who].prove(&miners[who].proof(&job, output)).await;
            }
        }
        7 => {
            if let Some((owner, job)) = pick(rng, taken) {
                let codes = ["E_EXIT", "E_DENY", "E_CRASH", "E_NOGPU", "E_CANCELED"];
                miners[owner].fail(&job, codes[rng.random_range(0..codes.len())]).await;
            }
        }
        8 => {
            if let Some(id) = submitted.get(rng.random_range(0..submitted.len().max(1)))
                && rng.random_ratio(1, 4)
            {
                client.cancel(*id).await;
            }
        }
        9 => {
            if let Some((owner, job)) = pick(rng, taken) {
                let pct = rng.random_range(0..100);
                miners[owner].about(&job, "progress", json!({ "pct": pct })).await;
            }
        }
        10 => {
            if let Some((owner, job)) = pick(rng, taken) {
                let text = "x".repeat(rng.random_range(0..3000));
                let seq = rng.random_range(0..9);
                let chunk = json!({"stream": "stderr", "seq": seq, "text": text});
                miners[owner].about(&job, "logs", chunk).await;
            }
        }
        _ => {
            app.advance(rng.random_range(1..40));
            app.sweep().await;
        }
    }
}

async fn check_history(app: &TestApp, client: &Client<'_>, id: JobId, seed: u64) {
    let mut tx = app.app.db.read().await.unwrap();
    let sql = "select seq, kind, data from job_events where job_id = $1 order by seq";
    let rows = tx.rows(sql, Args::new().with(id)).await.unwrap();
    let mut before: Option<JobState> = None;
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row.get::<i32>("seq").unwrap() as usize, i + 1, "seed {seed}: a gap in {id}");
        if row.get::<String>("kind").unwrap() != "state" {
            assert!(before.is_some(), "seed {seed}: {id} begins with something else");
            continue;
        }
        let data: Value = row.get("data").unwrap();
        let state: JobState = serde_json::from_value(data["state"].clone()).unwrap();
        match before {
            None => assert_eq!(state, JobState::Queued),
            Some(before) => {
                assert!(before.can_become(state), "seed {seed}: {id} went {before} to {state}");
            }
        }
        before = Some(state);
    }
    drop(tx);
    assert_eq!(Some(client.job(id).await.state), before, "seed {seed}: {id}");
}

on_both_engines! {
    async fn random_stories_stay_legal(app: TestApp) {
        for seed in [1, 2, 3] {
            story(&app, seed).await;
        }
    }
}
