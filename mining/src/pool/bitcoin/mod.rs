//! Bitcoin-style pools, as for GhostRider: `mining.subscribe`, `mining.notify`, `mining.submit`.
//!
//! The miner puts the header together, and gets new nonces by counting up its part of the extra
//! nonce. Source: the protocol as slush0 described it, and what XMRig says to Raptoreum's pools.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::dialect::{
    Dialect, Fault, Malformed, Numbers, Refusal, Request, Sent, Step, Submission, Wait, inspect,
    told,
};
use super::settings::{Address, Settings};
use super::{AGENT, Job, Solution, Verdict};
use crate::algorithm::Algorithm;
use crate::target::Target;
use crate::work::{HEADER_NONCE_AT, NonceRange, Work};

mod header;
mod message;

pub use header::{header, target};
pub use message::{ExtraNonce, Message, Notify, Reconnect, subscribed};

/// The number of the first question.
const SUBSCRIBE: u64 = 1;

/// The number of the login's question.
const AUTHORIZE: u64 = 2;

/// How many jobs are remembered whose shares may still come.
const REMEMBERED: usize = 64;

/// The longest pause that a pool may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Pools' number for a share of a job that they do not know any more.
const JOB_NOT_FOUND: i64 = 21;

/// Pools' numbers for those whom they do not know any more.
const UNKNOWN_WORKER: [i64; 2] = [24, 25];

/// One connection to such a pool.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    algorithm: Algorithm,
    numbers: Numbers,
    asked: u64,
    /// What jobs from now on have; `None` before the subscription.
    extra_nonce: Option<ExtraNonce>,
    difficulty: f64,
    current: Option<Template>,
    /// What our part of the extra nonce is next. It only ever counts up, from where the connection
    /// before this one ended, so that no two jobs have the same nonces, whatever the pool repeats.
    next_second: u64,
    /// Those whose shares the pool takes, and the time that is sent with them.
    issued: VecDeque<(Job, [u8; 4])>,
    sent: Sent,
    /// The numbers of the questions that are shares, until they are answered.
    shares: HashSet<u64>,
}

/// What jobs are made of.
#[derive(Debug)]
struct Template {
    notify: Notify,
    extra_nonce: ExtraNonce,
    target: Target,
    /// How many extra nonces are left.
    left: u64,
}

impl Session {
    /// A connection before its first word.
    pub fn new(settings: Settings, algorithm: Algorithm, numbers: Numbers) -> Self {
        Self {
            settings,
            algorithm,
            next_second: numbers.next_extra(),
            numbers,
            asked: 0,
            extra_nonce: None,
            difficulty: 1.0,
            current: None,
            issued: VecDeque::new(),
            sent: Sent::default(),
            shares: HashSet::new(),
        }
    }

    fn ask(&mut self, method: &str, params: &Value) -> Request {
        self.asked += 1;
        let line = json!({"id": self.asked, "jsonrpc": "2.0", "method": method, "params": params});
        Request { id: Some(self.asked), line: line.to_string() }
    }

    fn subscribed(&mut self, outcome: Result<Value, Refusal>) -> Result<Vec<Step>, Fault> {
        let result = outcome.map_err(|refusal| refusal.fault("the subscription was refused"))?;
        let extra_nonce = subscribed(&result);
        self.extra_nonce =
            Some(extra_nonce.ok_or_else(|| Malformed::new("subscription", &result))?);
        let authorize =
            self.ask("mining.authorize", &json!([self.settings.user, self.settings.password]));
        Ok(vec![Step::Send(authorize)])
    }

    fn authorized(&mut self, outcome: Result<Value, Refusal>) -> Result<Vec<Step>, Fault> {
        match outcome.map_err(|refusal| refusal.fault("the login was refused"))? {
            Value::Bool(true) => {}
            other => {
                let other = told(&other.to_string());
                return Err(Fault::new(format!("the login was answered with {other}")));
            }
        }
        // Only now: some answer whoever is not logged in that they do not know him.
        let extra = self.ask("mining.extranonce.subscribe", &json!([]));
        // Pools that do not know the question may well say nothing.
        Ok(vec![Step::Send(Request { id: None, ..extra })])
    }

    fn notified(&mut self, notify: Notify) -> Result<Vec<Step>, Fault> {
        let early = || Fault::new("the pool sent a job before the subscription was through");
        let extra_nonce = self.extra_nonce.clone().ok_or_else(early)?;
        let target = target(self.difficulty)
            .ok_or_else(|| Malformed::new("difficulty", &self.difficulty))?;
        if notify.clean {
            self.issued.clear();
        }
        let left = match self.current.take() {
            Some(before) if before.is_the_same(&notify, &extra_nonce) => before.left,
            _ => room(extra_nonce.second_bytes),
        };
        self.current = Some(Template { notify, extra_nonce, target, left });
        Ok(self.issue()?.map(Step::Job).into_iter().collect())
    }

    /// A job of the current template with the next extra nonce, where one is left.
    fn issue(&mut self) -> Result<Option<Job>, Fault> {
        let Some(template) = &mut self.current else { return Ok(None) };
        let Some(left) = template.left.checked_sub(1) else { return Ok(None) };
        template.left = left;
        let second = second(self.next_second, template.extra_nonce.second_bytes);
        self.next_second = self.next_second.wrapping_add(1);
        self.numbers.used_extra(self.next_second);
        let header = header(&template.notify, &template.extra_nonce, &second);
        let work = Work::new(header.to_vec(), HEADER_NONCE_AT, NonceRange::ALL, template.target)
            .map_err(|error| Malformed::new("job", &error))?;
        let job = Job {
            number: self.numbers.take(),
            id: template.notify.id.clone(),
            algorithm: self.algorithm,
            seed: None,
            next_seed: None,
            height: None,
            work,
            extra_nonce: second,
        };
        self.issued.push_back((job.clone(), template.notify.time));
        if self.issued.len() > REMEMBERED {
            self.issued.pop_front();
        }
        Ok(Some(job))
    }

    /// Where the pool asks us to come again. Only to itself: a pool that was taken over, or whoever
    /// sits on the way to it, must not take the miners along.
    fn reconnect(&self, reconnect: &Reconnect) -> Fault {
        let own = &self.settings.address;
        let host = reconnect.host.as_deref().unwrap_or(&own.host).to_ascii_lowercase();
        let below = host.strip_suffix(own.host.as_str()).is_some_and(|rest| rest.ends_with('.'));
        let address = Address::new(own.scheme, &host, reconnect.port.unwrap_or(own.port));
        match address {
            Ok(address)
                if host == own.host || below && host.parse::<std::net::IpAddr>().is_err() =>
            {
                let after = Duration::from_secs(reconnect.wait_secs).min(LONGEST_WAIT);
                let reason = format!("the pool asks to come again at {}", address.authority());
                Fault { reason, wait: Wait::Redirected { address, after } }
            }
            _ => Fault::new(format!(
                "the pool sends us to {host:?}, which is neither {} nor below it: refused",
                own.host
            )),
        }
    }
}

impl Template {
    /// Whether jobs of either have the same bytes, but for our part of the extra nonce.
    fn is_the_same(&self, notify: &Notify, extra_nonce: &ExtraNonce) -> bool {
        let notify =
            Notify { id: self.notify.id.clone(), clean: self.notify.clean, ..notify.clone() };
        self.notify == notify && self.extra_nonce == *extra_nonce
    }
}

/// How many values so many bytes can have.
fn room(bytes: usize) -> u64 {
    let bits = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(8);
    1_u64.checked_shl(bits).unwrap_or(u64::MAX)
}

/// The extra nonce number `counter`, in so many bytes.
fn second(counter: u64, bytes: usize) -> Vec<u8> {
    let mut second = counter.to_le_bytes().to_vec();
    second.resize(bytes, 0);
    second
}

impl Dialect for Session {
    fn greet(&mut self) -> Request {
        self.ask("mining.subscribe", &json!([AGENT]))
    }

    fn hear(&mut self, line: &[u8]) -> Vec<Step> {
        let steps = match Message::parse(line) {
            Ok(Message::Reply { id: SUBSCRIBE, outcome }) => {
                after(SUBSCRIBE, self.subscribed(outcome))
            }
            Ok(Message::Reply { id: AUTHORIZE, outcome }) => {
                after(AUTHORIZE, self.authorized(outcome))
            }
            Ok(Message::Reply { id, outcome }) if self.shares.remove(&id) => {
                Ok(replied(id, outcome))
            }
            // It may not know what it was asked, or us: as long as it takes shares, what of it.
            Ok(Message::Reply { .. }) => Ok(Vec::new()),
            Ok(Message::Notify(notify)) => self.notified(*notify),
            Ok(Message::Difficulty(difficulty)) => {
                self.difficulty = difficulty;
                Ok(Vec::new())
            }
            Ok(Message::ExtraNonce(extra_nonce)) if self.extra_nonce.is_some() => {
                self.extra_nonce = Some(extra_nonce);
                Ok(Vec::new())
            }
            Ok(Message::Reconnect(reconnect)) => Err(self.reconnect(&reconnect)),
            Ok(Message::Question { id, method }) => Ok(vec![Step::Send(reply(&id, &method))]),
            Ok(Message::Refused(refusal)) => Err(refusal.fault("the pool says")),
            Ok(Message::ExtraNonce(_) | Message::Other) => Ok(Vec::new()),
            Err(malformed) => Err(malformed.into()),
        };
        steps.unwrap_or_else(|fault| vec![Step::End(fault)])
    }

    fn submit(&mut self, solution: &Solution) -> Submission {
        let issued = self.issued.iter().find(|(job, _)| job.number == solution.job);
        let Some((job, time)) = issued else { return Submission::Settled(Verdict::Stale) };
        if let Err(verdict) = inspect(job, solution, &mut self.sent) {
            return Submission::Settled(verdict);
        }
        let params = json!([
            self.settings.user,
            job.id,
            hex::encode(&job.extra_nonce),
            hex::encode(time),
            format!("{:08x}", solution.nonce),
        ]);
        let request = self.ask("mining.submit", &params);
        self.shares.extend(request.id);
        Submission::Send(request)
    }

    fn more(&mut self, job: u64) -> Option<Job> {
        // Whoever asks about an older one has the newest under way already.
        self.issued.back().filter(|(newest, _)| newest.number == job)?;
        self.issue().ok().flatten()
    }

    /// There is no such question.
    fn keep_alive(&mut self) -> Option<Request> {
        None
    }
}

/// The steps after the answer to a question that is no share.
fn after(id: u64, outcome: Result<Vec<Step>, Fault>) -> Result<Vec<Step>, Fault> {
    outcome.map(|steps| {
        let replied = Step::Replied { id, verdict: Verdict::Accepted };
        [replied].into_iter().chain(steps).collect()
    })
}

fn replied(id: u64, outcome: Result<Value, Refusal>) -> Vec<Step> {
    let refusal = match outcome {
        Ok(Value::Bool(true)) => return vec![Step::Replied { id, verdict: Verdict::Accepted }],
        Ok(_) => Refusal::new(None, ""),
        Err(refusal) => refusal,
    };
    if refusal.code == Some(JOB_NOT_FOUND) {
        return vec![Step::Replied { id, verdict: Verdict::Stale }];
    }
    let mut steps = vec![Step::Replied { id, verdict: refusal.verdict() }];
    let unknown = refusal.code.is_some_and(|code| UNKNOWN_WORKER.contains(&code));
    if unknown || refusal.is_ban() {
        steps.push(Step::End(refusal.fault("the pool wants a new login")));
    }
    steps
}

/// What a pool is answered.
fn reply(id: &Value, method: &str) -> Request {
    let line = match method {
        "client.get_version" => json!({"id": id, "result": AGENT, "error": null}),
        "mining.ping" => json!({"id": id, "result": "pong", "error": null}),
        _ => json!({"id": id, "result": null, "error": [20, "Not supported", null]}),
    };
    Request { id: None, line: line.to_string() }
}

#[cfg(test)]
mod tests;
