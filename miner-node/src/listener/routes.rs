//! The routes: what is asked, in the words of the rooms that know it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mining::summary::About;
use protocol::ErrorCode;
use protocol::error::{ErrorBody, ErrorDetail};
use serde_json::{Map, Value, json};

use super::guard::{self, Access};
use super::machine::Machine;
use super::metrics;
use super::view::View;
use crate::node::Node;
use crate::sharing::ControlError;

/// No wish of an owner is longer, in bytes.
const LONGEST_BODY: usize = 64 << 10;

/// All routes, for those who come by `access`.
pub fn router(node: Arc<Node>, access: Access) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/2/summary", get(summary))
        .route("/v1/why", get(why))
        .route("/v1/status", get(status))
        .route("/v1/controls", get(controls).put(change))
        .fallback(async || Refusal::new(ErrorCode::NotFound, "no such route"))
        .method_not_allowed_fallback(async || {
            Refusal::new(ErrorCode::MethodNotAllowed, "this route does not have that method")
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(Arc::new(access), guard::check))
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }))
        .with_state(node)
}

async fn healthz(State(node): State<Arc<Node>>) -> Json<Value> {
    let machine = node.machine().await;
    Json(json!({
        "status": "ok",
        "node_id": node.identity.node_id,
        "version": env!("CARGO_PKG_VERSION"),
        "running": node.tally.running(),
        "queued": node.slots.waiting(),
        "cpu_load": machine.as_ref().map(|machine| machine.cpu_load),
        // In MiB; unknown is nothing, and not 0.
        "vram_free": machine.as_ref().and_then(Machine::vram_free_mb),
    }))
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let text = metrics::text(&View::whole(&node).await);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// As XMRig tells it, for the dashboards that miners have.
async fn summary(State(node): State<Arc<Node>>) -> Result<Json<Value>, Refusal> {
    let Some(engine) = node.sharing.engine() else {
        return Err(Refusal::new(ErrorCode::NotFound, "nothing mines here: mining.enabled"));
    };
    let name = node.identity.node_id.to_string();
    let about = About {
        id: name.clone(),
        worker: name,
        version: env!("CARGO_PKG_VERSION"),
        uptime: Duration::from_millis(node.sharing.at_ms()),
    };
    Ok(Json(mining::summary::summary(&engine.status(), &about)))
}

async fn why(State(node): State<Arc<Node>>) -> Json<View> {
    Json(View::of(&node))
}

/// The same, with a look at the machine.
async fn status(State(node): State<Arc<Node>>) -> Json<View> {
    Json(View::whole(&node).await)
}

async fn controls(State(node): State<Arc<Node>>) -> Json<Map<String, Value>> {
    Json(node.sharing.controls())
}

/// Changes what is named, leaves the rest, and answers as a `GET` would now.
async fn change(
    State(node): State<Arc<Node>>,
    changes: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<Map<String, Value>>, Refusal> {
    let Json(changes) =
        changes.map_err(|error| Refusal::new(ErrorCode::InvalidJson, error.body_text()))?;
    // It is written to the disk before it is answered.
    let changed = tokio::task::spawn_blocking(move || {
        node.sharing.change(&changes).map(|()| node.sharing.controls())
    });
    let changed = changed
        .await
        .map_err(|_| Refusal::new(ErrorCode::Internal, "the change was not finished"))?;
    Ok(Json(changed?))
}

/// A reply that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::Unknown { .. } | ControlError::Value { .. } => ErrorCode::InvalidParam,
            ControlError::Unwritten { .. } => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status());
        let code = self.code.as_str().to_owned();
        let error = ErrorDetail { code, message: self.message, details: Map::new() };
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(ErrorBody { error }))
            .into_response()
    }
}
