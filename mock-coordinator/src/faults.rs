//! What goes wrong on purpose: slow replies, errors, and connections that break, by rule or by
//! chance, before or after the call took effect.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coordinator::error::ApiError;
use protocol::ErrorCode;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// A fault, and when it happens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Method and path; `*` stands for one segment: `POST /v1/miner/jobs/*/ack`.
    pub route: String,
    /// The first call to this route that it befalls, from 1.
    pub from: Option<u64>,
    /// How many calls it befalls; absent: all from there on.
    pub count: Option<u64>,
    /// It happens after the call took effect: the caller does not learn that it did.
    pub after: bool,
    /// The reply waits for so long.
    pub delay_ms: Option<u64>,
    /// The reply is this status.
    pub status: Option<u16>,
    /// There is no reply: the connection breaks.
    pub drop: bool,
}

impl Rule {
    fn is_for(&self, method: &Method, path: &str) -> bool {
        let Some((wanted, pattern)) = self.route.split_once(' ') else { return false };
        let mut segments = path.split('/');
        let mut wants = pattern.split('/');
        wanted == method.as_str()
            && wants
                .by_ref()
                .all(|want| segments.next().is_some_and(|segment| want == "*" || want == segment))
            && segments.next().is_none()
    }

    fn befalls(&self, call: u64) -> bool {
        let from = self.from.unwrap_or(1);
        call >= from && self.count.is_none_or(|count| call - from < count)
    }

    /// What is wrong with the rule.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        let route = &self.route;
        let known = ["GET", "POST", "PUT", "DELETE"];
        if !route.split_once(" /").is_some_and(|(method, _)| known.contains(&method)) {
            return Err(format!("route {route:?} is not of the form \"POST /v1/miner/proof\""));
        }
        if self.delay_ms.is_none() && self.status.is_none() && !self.drop {
            return Err(format!("the fault of {route:?} has neither delay_ms, status nor drop"));
        }
        if self.status.is_some_and(|status| !(400..=599).contains(&status)) {
            return Err(format!("the status of {route:?} must be 400 to 599"));
        }
        Ok(())
    }
}

/// Everything that goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    latency: Duration,
    chance: Option<Chance>,
    rules: Vec<(Rule, AtomicU64)>,
}

#[derive(Debug)]
struct Chance {
    rate: f64,
    dice: Mutex<StdRng>,
}

impl Faults {
    /// By rule alone.
    pub fn scripted(rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect();
        Self { rules, ..Self::default() }
    }

    /// Every reply later by `latency`.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// In `rate` of all calls (0 to 1) a 503, by dice that `seed` loads.
    #[must_use]
    pub fn with_chance(self, rate: f64, seed: u64) -> Self {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        Self { chance: Some(Chance { rate, dice }), ..self }
    }

    /// The rules that befall this call.
    fn of(&self, method: &Method, path: &str) -> Vec<&Rule> {
        let met = self.rules.iter().filter(|(rule, _)| rule.is_for(method, path));
        met.filter(|(rule, calls)| rule.befalls(calls.fetch_add(1, Ordering::SeqCst) + 1))
            .map(|(rule, _)| rule)
            .collect()
    }

    fn bad_luck(&self) -> bool {
        self.chance.as_ref().is_some_and(|chance| {
            chance.dice.lock().unwrap_or_else(PoisonError::into_inner).random_bool(chance.rate)
        })
    }
}

/// Lets happen what is to happen.
pub async fn inject(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    tokio::time::sleep(faults.latency).await;
    if faults.bad_luck() {
        return reply(StatusCode::SERVICE_UNAVAILABLE);
    }
    let rules = faults.of(request.method(), request.uri().path());
    for rule in rules.iter().filter(|rule| !rule.after) {
        if let Some(response) = happen(rule).await {
            return response;
        }
    }
    let response = next.run(request).await;
    for rule in rules.iter().filter(|rule| rule.after) {
        if let Some(response) = happen(rule).await {
            return response;
        }
    }
    response
}

async fn happen(rule: &Rule) -> Option<Response> {
    tracing::info!(route = rule.route, "fault");
    tokio::time::sleep(Duration::from_millis(rule.delay_ms.unwrap_or(0))).await;
    if rule.drop {
        // The only way to end a connection without a reply: its task unwinds, which closes the
        // socket. No message, no backtrace: it is no panic.
        panic::resume_unwind(Box::new("connection dropped by a scripted fault"));
    }
    rule.status.and_then(|status| StatusCode::from_u16(status).ok()).map(reply)
}

fn reply(status: StatusCode) -> Response {
    let code = match status {
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Overloaded,
        status => {
            let fits = |code: &&ErrorCode| code.status() == status.as_u16();
            ErrorCode::ALL.iter().find(fits).copied().unwrap_or(ErrorCode::Internal)
        }
    };
    let mut error = ApiError::new(code, "injected by the mock");
    if matches!(code, ErrorCode::Overloaded | ErrorCode::RateLimited) {
        error = error.with("retry_after_secs", 1);
    }
    let mut response = error.into_response();
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(route: &str) -> Rule {
        Rule { route: route.to_owned(), status: Some(503), ..Rule::default() }
    }

    #[test]
    fn a_star_is_one_segment() {
        let acks = rule("POST /v1/miner/jobs/*/ack");
        assert!(acks.is_for(&Method::POST, "/v1/miner/jobs/01J/ack"));
        for path in ["/v1/miner/jobs/ack", "/v1/miner/jobs/a/b/ack", "/v1/miner/jobs/a/ack/x"] {
            assert!(!acks.is_for(&Method::POST, path), "{path}");
        }
        assert!(!acks.is_for(&Method::GET, "/v1/miner/jobs/01J/ack"));
    }

    #[test]
    fn the_nth_call_and_so_many_after_it() {
        let second = Rule { from: Some(2), count: Some(2), ..rule("GET /x") };
        let faults = Faults::scripted([second]);
        let met = |_| !faults.of(&Method::GET, "/x").is_empty();
        assert_eq!((1..=5).map(met).collect::<Vec<_>>(), [false, true, true, false, false]);
        assert!(faults.of(&Method::GET, "/y").is_empty());
    }

    #[test]
    fn the_same_seed_loads_the_same_dice() {
        let throws = |seed| {
            let faults = Faults::default().with_chance(0.5, seed);
            (0..64).map(|_| faults.bad_luck()).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn a_rule_that_does_nothing_is_refused() {
        assert_eq!(rule("POST /v1/miner/proof").check(), Ok(()));
        assert!(rule("/v1/miner/proof").check().is_err());
        assert!(Rule { status: None, ..rule("GET /x") }.check().is_err());
        assert!(Rule { status: Some(200), ..rule("GET /x") }.check().is_err());
    }
}
