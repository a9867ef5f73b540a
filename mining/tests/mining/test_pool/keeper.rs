//! A pool that keeps itself: it serves all who call, looks at every share, and plays them the
//! tricks that real pools play.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use super::jobs::{Bitcoin, Monero};
use super::verify::Verifier;
use super::{Miner, TestPool};

/// How late a late answer is at most.
const LATE: Duration = Duration::from_secs(1);

/// How the pool is kept.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether it speaks as GhostRider's pools do, rather than as Monero's.
    pub bitcoin: bool,
    /// How hard shares are.
    pub difficulty: f64,
    /// After how many shares there is another job.
    pub shares_per_job: u32,
    /// After how long there is another job, whatever was found; `None` for as long as it takes.
    pub job_every: Option<Duration>,
    /// Whether it changes seed, difficulty and extra nonce, answers late, talks nonsense and hangs
    /// up, one after the other.
    pub tricks: bool,
}

/// What it thinks of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// It is one.
    Accepted,
    /// It is of a job that was replaced so long before it came.
    Stale(Duration),
    /// It came before.
    Duplicate,
    /// It is none: why.
    Invalid(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A miner was let in.
    LetIn,
    /// A share came.
    Share(Opinion),
    /// A trick was played.
    Trick(&'static str),
    /// A miner has gone, or was sent away.
    Gone,
}

/// Serves all who call, until nobody reads the reports.
pub async fn keep(pool: TestPool, rules: Rules, reports: UnboundedSender<Report>) {
    let verifier = Arc::new(Mutex::new(Verifier::default()));
    let mut number = 0;
    while !reports.is_closed() {
        let (stream, _) = tokio::select! {
            accepted = pool.listener.accept() => accepted.unwrap(),
            () = reports.closed() => return,
        };
        stream.set_nodelay(true).unwrap();
        number += 1000;
        let desk = Desk {
            rules,
            reports: reports.clone(),
            verifier: Arc::clone(&verifier),
            difficulty: rules.difficulty,
            number,
            tricks: number / 1000 - 1,
            jobs: Vec::new(),
            shares: 0,
            held: None,
        };
        let lines = super::LinesCodec::new_with_max_length(1 << 16);
        let miner = Miner { lines: super::Framed::new(Box::new(stream), lines) };
        tokio::spawn(desk.serve(miner));
    }
}

#[derive(Clone)]
enum Job {
    Monero(Monero),
    Bitcoin(Bitcoin),
}

struct Issued {
    job: Job,
    replaced: Option<Instant>,
    /// What came of it already.
    seen: HashSet<String>,
}

/// One miner's.
struct Desk {
    rules: Rules,
    reports: UnboundedSender<Report>,
    verifier: Arc<Mutex<Verifier>>,
    difficulty: f64,
    number: u64,
    tricks: u64,
    jobs: Vec<Issued>,
    shares: u32,
    /// Answers that come late, and when.
    held: Option<(Instant, Vec<Value>)>,
}

/// The miner is sent away.
struct Away;

impl Desk {
    async fn serve(mut self, miner: Miner) {
        let (mut writer, mut reader) = miner.into_lines().split();
        // Shares are stale by when they came, not by when there was time for them.
        let (heard, mut lines) = mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            while let Some(Ok(line)) = reader.next().await {
                let _ = heard.send((Instant::now(), line));
            }
        });
        let tick = self.rules.job_every.unwrap_or(Duration::from_secs(3600));
        let mut clock = tokio::time::interval_at(Instant::now() + tick, tick);
        loop {
            let said = tokio::select! {
                line = lines.recv() => match line {
                    Some((at, line)) => self.hear(at, &line).await,
                    None => Err(Away),
                },
                _ = clock.tick() => self.another(),
                () = sleep_until(self.held_until()), if self.held.is_some() => Ok(self.release()),
            };
            let Ok(said) = said else { break };
            for line in said {
                let line = line.as_str().map_or_else(|| line.to_string(), str::to_owned);
                if writer.send(line).await.is_err() {
                    break;
                }
            }
        }
        reading.abort();
        let _ = self.reports.send(Report::Gone);
    }

    async fn hear(&mut self, at: Instant, line: &str) -> Result<Vec<Value>, Away> {
        let question: Value = serde_json::from_str(line).map_err(|_| Away)?;
        let id = &question["id"];
        let answer = |result: Value| json!({"id": id, "error": null, "result": result});
        Ok(match question["method"].as_str().unwrap_or_default() {
            "login" => {
                let _ = self.reports.send(Report::LetIn);
                let job = self.issue_monero();
                vec![answer(json!({"id": "s", "job": job, "status": "OK",
                    "extensions": ["algo", "keepalive"]}))]
            }
            "keepalived" => vec![answer(json!({"status": "KEEPALIVED"}))],
            "mining.subscribe" => {
                vec![answer(json!([[["mining.notify", "s"]], "f000000f", 4]))]
            }
            "mining.authorize" => {
                let _ = self.reports.send(Report::LetIn);
                let mut said = vec![answer(json!(true))];
                said.extend(self.issue_bitcoin(|_| {}));
                said
            }
            "mining.extranonce.subscribe" => vec![answer(json!(true))],
            "submit" | "mining.submit" => return self.share(at, &question).await,
            _ => vec![json!({"id": id, "error": [20, "what?", null], "result": null})],
        })
    }

    async fn share(&mut self, at: Instant, question: &Value) -> Result<Vec<Value>, Away> {
        let opinion = self.judge(at, &question["params"]).await;
        let id = &question["id"];
        let error = match &opinion {
            Opinion::Accepted => Value::Null,
            Opinion::Stale(_) if self.rules.bitcoin => json!([21, "job not found", null]),
            Opinion::Stale(_) => json!({"code": -1, "message": "Stale share"}),
            Opinion::Duplicate => json!([22, "duplicate share", null]),
            Opinion::Invalid(why) => json!([23, why, null]),
        };
        let fine = if self.rules.bitcoin { json!(true) } else { json!({"status": "OK"}) };
        let result = if error.is_null() { fine } else { Value::Null };
        let answer = json!({"id": id, "error": error, "result": result});
        let _ = self.reports.send(Report::Share(opinion));
        self.shares += 1;
        let mut said = match &mut self.held {
            Some((_, held)) => {
                held.push(answer);
                Vec::new()
            }
            None => vec![answer],
        };
        if self.shares.is_multiple_of(self.rules.shares_per_job) {
            said.extend(self.another()?);
        }
        Ok(said)
    }

    async fn judge(&mut self, at: Instant, params: &Value) -> Opinion {
        let invalid = |why: &str| Opinion::Invalid(why.to_owned());
        let text = |key: &str, place: usize| {
            let value = if self.rules.bitcoin { &params[place] } else { &params[key] };
            value.as_str().unwrap_or_default().to_owned()
        };
        let (id, nonce) = (text("job_id", 1), text("nonce", 4));
        let second = if self.rules.bitcoin { text("", 2) } else { String::new() };
        let newest = self.jobs.iter_mut().rev().find(|issued| match &issued.job {
            Job::Monero(job) => job.id == id,
            Job::Bitcoin(job) => job.id == id,
        });
        let Some(issued) = newest else { return invalid("no such job") };
        if let Some(late) = issued.replaced.and_then(|when| at.checked_duration_since(when)) {
            return Opinion::Stale(late);
        }
        if !issued.seen.insert(format!("{second}/{nonce}")) {
            return Opinion::Duplicate;
        }
        let verifier = Arc::clone(&self.verifier);
        let (job, params) = (issued.job.clone(), params.clone());
        let judged = tokio::task::spawn_blocking(move || match job {
            Job::Monero(job) => monero(&job, &params, &mut verifier.lock().unwrap()),
            Job::Bitcoin(job) => bitcoin(&job, &params),
        });
        judged.await.unwrap().map_or_else(invalid, |()| Opinion::Accepted)
    }

    /// Another job, and perhaps a trick with it.
    fn another(&mut self) -> Result<Vec<Value>, Away> {
        if self.jobs.is_empty() {
            return Ok(Vec::new());
        }
        if !self.rules.tricks {
            return Ok(self.issue(|_| {}));
        }
        let mut said = self.release();
        self.tricks += 1;
        let trick = match self.tricks % 6 {
            1 => "another seed or extra nonce",
            2 => "late answers",
            3 => "words that mean nothing",
            4 => "the same job again",
            5 => "another difficulty",
            _ => "hanging up",
        };
        let _ = self.reports.send(Report::Trick(trick));
        match trick {
            "another difficulty" => {
                self.difficulty *= 2.0;
                said.extend(self.harder());
            }
            "another seed or extra nonce" => {
                if self.rules.bitcoin {
                    let extra = json!(["aabbccdd", 3]);
                    said.push(
                        json!({"id": null, "method": "mining.set_extranonce", "params": extra}),
                    );
                }
                said.extend(self.issue(|job| match job {
                    Job::Monero(job) => job.seed = [8; 32],
                    Job::Bitcoin(job) => job.extra_nonce = vec![0xaa, 0xbb, 0xcc, 0xdd],
                }));
            }
            "late answers" => {
                self.held = Some((Instant::now() + LATE, Vec::new()));
                said.extend(self.issue(|_| {}));
            }
            "words that mean nothing" => {
                said.push(json!({"id": 4711, "result": true, "error": null}));
                said.push(
                    json!({"id": null, "method": "client.show_message", "params": ["hello"]}),
                );
                said.push(json!({}));
                said.extend(self.issue(|_| {}));
            }
            "the same job again" => said.extend(self.jobs.last().map(|issued| match &issued.job {
                Job::Monero(job) => json!({"method": "job", "params": job.written()}),
                Job::Bitcoin(job) => json!({"method": "mining.notify", "params": job.written()}),
            })),
            _ => return Err(Away),
        }
        Ok(said)
    }

    fn held_until(&self) -> Instant {
        self.held.as_ref().map_or_else(Instant::now, |(until, _)| *until)
    }

    fn release(&mut self) -> Vec<Value> {
        self.held.take().map(|(_, answers)| answers).unwrap_or_default()
    }

    fn issue(&mut self, change: impl FnOnce(&mut Job)) -> Vec<Value> {
        if self.rules.bitcoin {
            return self.issue_bitcoin(change);
        }
        let before = self.jobs.last().map(|issued| issued.job.clone());
        let mut job = Job::Monero(self.next_monero(before.as_ref()));
        change(&mut job);
        let Job::Monero(made) = &job else { return Vec::new() };
        let line = json!({"jsonrpc": "2.0", "method": "job", "params": made.written()});
        self.replace(job);
        vec![line]
    }

    /// Monero's pools change the difficulty of the bytes that are under way.
    fn harder(&mut self) -> Vec<Value> {
        let Some(Issued { job: Job::Monero(job), seen, .. }) = self.jobs.last() else {
            return self.issue(|_| {});
        };
        let (mut job, seen) = (job.clone(), seen.clone());
        job.id.push_str("-harder");
        job.difficulty *= 2;
        let line = json!({"jsonrpc": "2.0", "method": "job", "params": job.written()});
        self.replace(Job::Monero(job));
        if let Some(issued) = self.jobs.last_mut() {
            issued.seen = seen;
        }
        vec![line]
    }

    fn issue_monero(&mut self) -> Value {
        let job = self.next_monero(None);
        let written = job.written();
        self.replace(Job::Monero(job));
        written
    }

    fn next_monero(&mut self, before: Option<&Job>) -> Monero {
        self.number += 1;
        let mut job = Monero::new(self.number, self.difficulty as u64);
        if let Some(Job::Monero(before)) = before {
            job.seed = before.seed;
        }
        job
    }

    fn issue_bitcoin(&mut self, change: impl FnOnce(&mut Job)) -> Vec<Value> {
        self.number += 1;
        let mut made = Bitcoin::new(self.number, self.difficulty);
        if let Some(Issued { job: Job::Bitcoin(before), .. }) = self.jobs.last() {
            made.extra_nonce.clone_from(&before.extra_nonce);
        }
        let mut job = Job::Bitcoin(made);
        change(&mut job);
        let Job::Bitcoin(made) = &job else { return Vec::new() };
        let said = vec![
            json!({"id": null, "method": "mining.set_difficulty", "params": [made.difficulty]}),
            json!({"id": null, "method": "mining.notify", "params": made.written()}),
        ];
        self.replace(job);
        said
    }

    fn replace(&mut self, job: Job) {
        let now = Instant::now();
        for issued in &mut self.jobs {
            issued.replaced.get_or_insert(now);
        }
        self.jobs.push(Issued { job, replaced: None, seen: HashSet::new() });
    }
}

fn monero(job: &Monero, params: &Value, verifier: &mut Verifier) -> Result<(), &'static str> {
    let nonce = params["nonce"].as_str().unwrap_or_default();
    let input = job.with_nonce(nonce).ok_or("no nonce")?;
    let hash = verifier.randomx(job.seed, &input);
    if params["result"] != hex::encode(hash) {
        return Err("another hash");
    }
    let upper = u64::from_le_bytes(*hash.last_chunk().unwrap());
    if upper >= job.bound() {
        return Err("low difficulty share");
    }
    if params["algo"] != "rx/0" || params["id"] != "s" {
        return Err("another algorithm or session");
    }
    Ok(())
}

fn bitcoin(job: &Bitcoin, params: &Value) -> Result<(), &'static str> {
    let text = |place: usize| params[place].as_str().unwrap_or_default();
    let header = job.with_nonce(text(2), text(3), text(4)).ok_or("no nonces")?;
    match job.is_met_by(&Verifier::ghostrider(&header)) {
        true => Ok(()),
        false => Err("low difficulty share"),
    }
}
