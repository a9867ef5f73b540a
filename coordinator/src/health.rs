//! The front of the house: what can be answered before the database is there and while it is away,
//! and the door behind which everything else lies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use protocol::client::{Health, PublicKey, PublicKeys};
use protocol::signing::ALGORITHM;
use protocol::{ErrorCode, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION};
use schemars::JsonSchema;
use serde::Serialize;
use tower::ServiceExt as _;

use crate::app::{Clock, SharedApp};
use crate::db::Db;
use crate::error::ApiError;
use crate::telemetry;
use crate::wire::Reply;

/// What stands in front of the app.
#[derive(Debug)]
pub struct Front {
    db: Db,
    clock: Clock,
    /// The public keys with which receipts are attested.
    keys: PublicKeys,
    house: OnceLock<House>,
    draining: AtomicBool,
}

#[derive(Debug)]
struct House {
    app: SharedApp,
    router: Router,
}

/// How handlers share the front.
pub type SharedFront = Arc<Front>;

impl Front {
    /// A closed door. `attestor` is the text of the key that attests receipts.
    pub fn new(db: Db, clock: Clock, attestor: String) -> SharedFront {
        // Whatever happens from here on is measured.
        telemetry::metrics();
        let key = PublicKey { key_id: attestor, alg: ALGORITHM.to_owned() };
        let keys = PublicKeys { keys: vec![key] };
        let (house, draining) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { db, clock, keys, house, draining })
    }

    /// Opens the door to `app`, whose routes are `router`. A second time changes nothing.
    pub fn open(&self, app: SharedApp, router: Router) {
        drop(self.house.set(House { app, router }));
    }

    /// The app, once the door is open.
    pub fn app(&self) -> Option<&SharedApp> {
        self.house.get().map(|house| &house.app)
    }

    /// Says in `/readyz` that this replica goes away, and answers all that waits.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(app) = self.app() {
            app.dispatch.drain();
            app.follow.drain();
        }
    }

    async fn ready(&self) -> Result<(), ApiError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(ApiError::overloaded());
        }
        if self.app().is_none() {
            return Err(not_open());
        }
        Ok(self.db.ping().await?)
    }
}

fn not_open() -> ApiError {
    let message = "the database cannot be reached yet, try again";
    ApiError::new(ErrorCode::DbUnavailable, message).with("retry_after_secs", 1)
}

/// How the process is, in a word: for probes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// `ok` or `ready`.
    status: &'static str,
}

/// `GET /healthz`: the process lives.
pub async fn live() -> Reply<Status> {
    Reply(StatusCode::OK, Status { status: "ok" })
}

/// `GET /readyz`: whether it should be sent requests.
pub async fn ready(State(front): State<SharedFront>) -> Result<Reply<Status>, ApiError> {
    front.ready().await?;
    Ok(Reply(StatusCode::OK, Status { status: "ready" }))
}

/// `GET /metrics`, as Prometheus reads it.
pub async fn metrics(State(front): State<SharedFront>) -> Metrics {
    telemetry::ready(front.ready().await.is_ok());
    Metrics(telemetry::metrics().render())
}

/// Measurements in the text format of Prometheus.
#[derive(Debug)]
pub struct Metrics(String);

impl IntoResponse for Metrics {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        (content_type, self.0).into_response()
    }
}

/// `GET /v1/health`: who answers, in which version, and what time it is there.
pub async fn health(State(front): State<SharedFront>) -> Reply<Health> {
    let ready = front.ready().await.is_ok();
    Reply(
        StatusCode::OK,
        Health {
            status: if ready { "ok" } else { "unavailable" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            oldest_protocol: OLDEST_PROTOCOL_VERSION,
            server_time: front.clock.now(),
        },
    )
}

/// `GET /v1/keys`: what attests receipts, so that anybody can check one offline.
pub async fn keys(State(front): State<SharedFront>) -> Reply<PublicKeys> {
    Reply(StatusCode::OK, front.keys.clone())
}

/// Everything else is behind the door.
pub fn house(
    State(front): State<SharedFront>,
    request: Request,
) -> impl Future<Output = Response> + Send {
    match front.house.get() {
        Some(house) => {
            Either::Left(house.router.clone().oneshot(request).map(|reply| match reply {
                Ok(response) => response,
                Err(never) => match never {},
            }))
        }
        None => Either::Right(std::future::ready(not_open().into_response())),
    }
}
