//! What was called from outside: a line in the log for each heartbeat and proof, and a list that
//! tests in the same process can wait on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How many calls are remembered.
const MAX_CALLS: usize = 10_000;

/// Larger bodies are passed on unread.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// How long is waited for a call.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// Its body, where that was JSON.
    pub body: Option<Value>,
    /// What it was answered.
    pub status: StatusCode,
}

impl Call {
    /// Whether it is `method path`, as in `POST /v1/miner/proof`.
    pub fn is(&self, route: &str) -> bool {
        route.split_once(' ') == Some((self.method.as_str(), &self.path))
    }
}

/// The calls, in the order of their replies.
#[derive(Debug, Default)]
pub struct Journal {
    calls: Mutex<VecDeque<Call>>,
    added: Notify,
}

impl Journal {
    fn calls(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls that `wanted` picks.
    pub fn all(&self, wanted: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.calls().iter().filter(|call| wanted(call)).cloned().collect()
    }

    /// The first call that `wanted` picks, waiting for one if there is none.
    ///
    /// # Panics
    /// When none came for a minute: whoever waits for ever hides what was expected.
    pub async fn wait_for(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        let waiting = async {
            loop {
                let added = self.added.notified();
                tokio::pin!(added);
                // Before the look: what is added after it wakes us.
                added.as_mut().enable();
                if let Some(call) = self.calls().iter().find(|call| wanted(call)) {
                    return call.clone();
                }
                added.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("no such call within a minute")
    }

    fn add(&self, call: Call) {
        let mut calls = self.calls();
        if calls.len() == MAX_CALLS {
            calls.pop_front();
        }
        calls.push_back(call);
        drop(calls);
        self.added.notify_waiters();
    }
}

/// Writes the journal.
pub async fn write(State(journal): State<Arc<Journal>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (body, request) = match is_json(&request) {
        true => peek(request).await,
        false => (None, request),
    };
    let response = next.run(request).await;
    let call = Call { method, path, body, status: response.status() };
    log(&call);
    journal.add(call);
    response
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get("content-type");
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

async fn peek(request: Request) -> (Option<Value>, Request) {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let value = serde_json::from_slice(&bytes).ok();
    (value, Request::from_parts(parts, Body::from(bytes)))
}

fn log(call: &Call) {
    let status = call.status.as_u16();
    let text = |name: &str| {
        let value = call.body.as_ref().and_then(|body| body.get(name));
        value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    if call.is("POST /v1/miner/heartbeat") {
        let miner = text("miner_id").unwrap_or_default();
        let mode = text("mode").unwrap_or_default();
        let gpu = text("gpu").unwrap_or_default();
        tracing::info!(miner, mode, gpu, status, "heartbeat");
    } else if call.is("POST /v1/miner/proof") {
        let job = text("id").unwrap_or_default();
        let output_sha = text("output_sha").unwrap_or_default();
        tracing::info!(job, output_sha, status, "proof");
    }
}
