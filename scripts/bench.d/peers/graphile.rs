//! graphile_worker, the Rust one, burning down trivial jobs.
//!
//!     graphile-rust plain|batched JOBS        the database is in DATABASE_URL
//!
//! Prints one line of JSON. `batched` is what its own benchmark of 200,000 jobs sets: a local queue,
//! and completions in batches. It is built on its own and no part of the workspace.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::sleep;

/// As many as the other graphile-worker has.
const CONCURRENCY: usize = 24;

type Failure = Box<dyn std::error::Error>;

/// When jobs were handed to the queue, and when each was started.
struct Seen {
    submitted: Vec<Instant>,
    started: Mutex<Vec<Duration>>,
    done: AtomicUsize,
}

#[derive(Clone)]
struct Shared(Arc<Seen>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Work {
    id: usize,
}

impl TaskHandler for Work {
    const IDENTIFIER: &'static str = "work";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Shared(seen)) = ctx.get_ext::<Shared>() {
            if let (Some(at), Ok(mut started)) =
                (seen.submitted.get(self.id / CHUNK), seen.started.lock())
            {
                started.push(at.elapsed());
            }
            seen.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    }
}

/// How many are submitted at once.
const CHUNK: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let batched = args.next().as_deref() == Some("batched");
    let jobs: usize = args.next().ok_or("how many jobs?")?.parse()?;
    let url = std::env::var("DATABASE_URL")?;
    let connections = u32::try_from(CONCURRENCY)? + 4;
    let pool = PgPoolOptions::new().max_connections(connections).connect(&url).await?;

    let options = || {
        let options = WorkerOptions::default().pg_pool(pool.clone()).define_job::<Work>();
        if batched {
            options
                .concurrency(500)
                .poll_interval(Duration::from_millis(5))
                .complete_job_batch_delay(Duration::from_millis(5))
                .local_queue(LocalQueueConfig::default().with_size(5000))
        } else {
            options.concurrency(CONCURRENCY)
        }
    };
    // Makes its tables, and writes the jobs.
    let utils = options().init().await?.create_utils();
    let mut submitted = Vec::new();
    for from in (0..jobs).step_by(CHUNK) {
        let some: Vec<_> = (from..jobs.min(from + CHUNK))
            .map(|id| RawJobSpec {
                identifier: Work::IDENTIFIER.to_owned(),
                payload: json!({ "id": id }),
                spec: JobSpec::default(),
            })
            .collect();
        submitted.push(Instant::now());
        utils.add_raw_jobs(&some).await?;
    }

    let seen = Arc::new(Seen { submitted, started: Mutex::default(), done: AtomicUsize::new(0) });
    let worker = Arc::new(options().add_extension(Shared(Arc::clone(&seen))).init().await?);
    let begun = Instant::now();
    if batched {
        let running = Arc::clone(&worker);
        let running = tokio::spawn(async move { running.run().await });
        // What was done counts once the database knows of it.
        while seen.done.load(Ordering::Relaxed) < jobs || left(&pool).await? > 0 {
            sleep(Duration::from_millis(2)).await;
        }
        report(jobs, begun.elapsed(), &seen)?;
        worker.request_shutdown();
        running.await??;
    } else {
        worker.run_once().await?;
        let took = begun.elapsed();
        if left(&pool).await? > 0 {
            return Err("jobs are left".into());
        }
        report(jobs, took, &seen)?;
    }
    Ok(())
}

async fn left(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from graphile_worker._private_jobs").fetch_one(pool).await
}

fn report(jobs: usize, took: Duration, seen: &Seen) -> Result<(), Failure> {
    let mut started = seen.started.lock().map_err(|_| "a task panicked")?;
    started.sort_unstable();
    let at = |permille: usize| {
        let rank = (started.len() * permille).div_ceil(1000).max(1);
        started.get(rank - 1).map(|one| one.as_secs_f64() * 1000.0)
    };
    println!(
        "{}",
        json!({
            "per_sec": jobs as f64 / took.as_secs_f64(),
            "to_start": {"p50_ms": at(500), "p99_ms": at(990)},
        })
    );
    Ok(())
}
