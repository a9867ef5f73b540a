//! Monero-style pools: `login`, `job`, `submit`.
//!
//! Source: XMRig's and xmrig-proxy's documents of the protocol, and what p2pool says.

use serde_json::json;

use super::dialect::{
    Dialect, Fault, Malformed, Numbers, Refusal, Request, Sent, Step, Submission, inspect, told,
};
use super::settings::Settings;
use super::{AGENT, Job, Solution, Verdict};
use crate::algorithm::Algorithm;
use crate::ghostrider::HEADER_BYTES;
use crate::target::Target;
use crate::work::{NonceRange, Work};

mod message;

pub use message::{Message, Reply, Template};

/// The number of the login's question.
const LOGIN: u64 = 1;

/// One connection to such a pool.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    numbers: Numbers,
    asked: u64,
    name: Option<String>,
    says_algorithm: bool,
    keeps_alive: bool,
    keeps_upper_byte: bool,
    current: Option<Job>,
    sent: Sent,
}

impl Session {
    /// A connection before its first word.
    pub fn new(settings: Settings, numbers: Numbers) -> Self {
        Self {
            says_algorithm: false,
            keeps_alive: settings.keep_alive,
            keeps_upper_byte: settings.nicehash,
            settings,
            numbers,
            asked: 0,
            name: None,
            current: None,
            sent: Sent::default(),
        }
    }

    fn ask(&mut self, method: &str, params: &serde_json::Value) -> Request {
        self.asked += 1;
        let line = json!({"id": self.asked, "jsonrpc": "2.0", "method": method, "params": params});
        Request { id: Some(self.asked), line: line.to_string() }
    }

    /// What the pool may choose from.
    fn algorithms(&self) -> Vec<&'static str> {
        match self.settings.algorithm {
            Some(algorithm) => vec![algorithm.as_str()],
            None => Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect(),
        }
    }

    fn enter(&mut self, outcome: Result<Reply, Refusal>) -> Result<Option<Job>, Fault> {
        let reply = outcome.map_err(|refusal| refusal.fault("the login was refused"))?;
        if let Some(status) = reply.status.filter(|status| status != "OK") {
            return Err(Fault::new(format!("the login was answered with {status:?}")));
        }
        let name = reply.session.ok_or_else(|| Malformed::new("login", &"it has no id"))?;
        self.name = Some(name);
        for extension in &reply.extensions {
            match extension.as_str() {
                "algo" => self.says_algorithm = true,
                "keepalive" => self.keeps_alive = true,
                "nicehash" => self.keeps_upper_byte = true,
                _ => {}
            }
        }
        reply.job.map_or(Ok(None), |template| self.take(template))
    }

    /// Takes a job; `None` where it is the one that is under way.
    fn take(&mut self, template: Template) -> Result<Option<Job>, Fault> {
        if self.name.is_none() {
            return Err(Fault::new("the pool sent a job before the login was through"));
        }
        let job = self.read(template)?;
        let same = |current: &Job| current.id == job.id && current.work == job.work;
        if self.current.as_ref().is_some_and(same) {
            return Ok(None);
        }
        self.current = Some(job.clone());
        Ok(Some(job))
    }

    fn read(&self, template: Template) -> Result<Job, Fault> {
        let algorithm = self.algorithm(&template)?;
        let nonce_at = algorithm.nonce_at();
        let no_job = |why: &dyn std::fmt::Display| Malformed::new("job", &why.to_string());
        let blob = hex::decode(&template.blob).map_err(|error| no_job(&error))?;
        if algorithm == Algorithm::GhostRider && blob.len() != HEADER_BYTES {
            return Err(no_job(&format_args!("a header of {} bytes", blob.len())).into());
        }
        let target = Target::from_pool(&template.target)
            .ok_or_else(|| no_job(&format_args!("target {:?}", told(&template.target))))?;
        let nonce = blob.get(nonce_at..nonce_at + 4);
        let nonces = match nonce {
            Some(&[low, low_middle, high_middle, high])
                if self.keeps_upper_byte || [low, low_middle, high_middle, high] != [0; 4] =>
            {
                NonceRange::below_byte(high)
            }
            _ => NonceRange::ALL,
        };
        let work = Work::new(blob, nonce_at, nonces, target).map_err(|error| no_job(&error))?;
        let seed = seed(template.seed_hash.as_deref()).ok_or_else(|| no_job(&"seed_hash"))?;
        let next_seed = seed_after(template.next_seed_hash.as_deref())
            .ok_or_else(|| no_job(&"next_seed_hash"))?;
        if algorithm == Algorithm::RandomX && seed.is_none() {
            return Err(no_job(&"it has no seed_hash").into());
        }
        Ok(Job {
            number: self.numbers.take(),
            id: template.job_id,
            algorithm,
            seed,
            next_seed,
            height: template.height,
            work,
            extra_nonce: Vec::new(),
        })
    }

    fn algorithm(&self, template: &Template) -> Result<Algorithm, Fault> {
        let named = template.algo.as_deref().map(str::parse::<Algorithm>).transpose();
        let named = named.map_err(|error| Fault::new(format!("the pool's job: {error}")))?;
        match (named, self.settings.algorithm) {
            (Some(named), Some(wanted)) if named != wanted => {
                Err(Fault::new(format!("the pool's job is of {named}, but {wanted} is configured")))
            }
            (Some(algorithm), _) | (None, Some(algorithm)) => Ok(algorithm),
            // Only RandomX has a seed.
            (None, None) if template.seed_hash.is_some() => Ok(Algorithm::RandomX),
            (None, None) => {
                Err(Fault::new("the pool does not name its algorithm, and none is configured"))
            }
        }
    }
}

impl Dialect for Session {
    fn greet(&mut self) -> Request {
        let mut params = json!({
            "login": self.settings.user,
            "pass": self.settings.password,
            "agent": AGENT,
            "algo": self.algorithms(),
        });
        if let Some(rig_id) = &self.settings.rig_id {
            params["rigid"] = json!(rig_id);
        }
        self.ask("login", &params)
    }

    fn hear(&mut self, line: &[u8]) -> Vec<Step> {
        let job = match Message::parse(line) {
            Ok(Message::Other) => return Vec::new(),
            Ok(Message::Job(template)) => self.take(template),
            Ok(Message::Reply { id: LOGIN, outcome }) => {
                let entered = self.enter(outcome);
                let replied = Step::Replied { id: LOGIN, verdict: Verdict::Accepted };
                return [replied].into_iter().chain(steps(entered)).collect();
            }
            Ok(Message::Reply { id, outcome }) => return replied(id, outcome),
            Ok(Message::Refused(refusal)) => Err(refusal.fault("the pool says")),
            Err(malformed) => Err(malformed.into()),
        };
        steps(job).collect()
    }

    fn submit(&mut self, solution: &Solution) -> Submission {
        let current = self.current.as_ref().filter(|job| job.number == solution.job);
        let (Some(job), Some(name)) = (current, &self.name) else {
            return Submission::Settled(Verdict::Stale);
        };
        if let Err(verdict) = inspect(job, solution, &mut self.sent) {
            return Submission::Settled(verdict);
        }
        let mut params = json!({
            "id": name,
            "job_id": job.id,
            "nonce": hex::encode(solution.nonce.to_le_bytes()),
            "result": hex::encode(solution.hash),
        });
        if self.says_algorithm {
            params["algo"] = json!(job.algorithm);
        }
        Submission::Send(self.ask("submit", &params))
    }

    /// There are none: the pool's bytes are all there is.
    fn more(&mut self, _job: u64) -> Option<Job> {
        None
    }

    fn keep_alive(&mut self) -> Option<Request> {
        let name = self.name.clone().filter(|_| self.keeps_alive)?;
        Some(self.ask("keepalived", &json!({"id": name})))
    }
}

fn steps(job: Result<Option<Job>, Fault>) -> impl Iterator<Item = Step> {
    match job {
        Ok(job) => job.map(Step::Job),
        Err(fault) => Some(Step::End(fault)),
    }
    .into_iter()
}

fn replied(id: u64, outcome: Result<Reply, Refusal>) -> Vec<Step> {
    let Err(refusal) = outcome else {
        return vec![Step::Replied { id, verdict: Verdict::Accepted }];
    };
    let mut steps = vec![Step::Replied { id, verdict: refusal.verdict() }];
    if refusal.needs_login() {
        steps.push(Step::End(refusal.fault("the pool wants a new login")));
    }
    steps
}

/// A seed; the outer `None` where it is none.
fn seed(text: Option<&str>) -> Option<Option<[u8; 32]>> {
    let Some(text) = text else { return Some(None) };
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| Some(bytes))
}

/// The seed that comes next: daemons and their proxies write an empty text where there is none.
fn seed_after(text: Option<&str>) -> Option<Option<[u8; 32]>> {
    seed(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
