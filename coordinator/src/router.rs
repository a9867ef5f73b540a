//! The URL table, and what each route is allowed: callers, body, places, time.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use protocol::signing;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::SharedApp;
use crate::config::RequestLimits;
use crate::edge;
use crate::gate::{self, Gate};
use crate::health::{self, Front, SharedFront};
use crate::{
    accounts, artifacts, audit, auth, controls, events, jobs, ledger, miners, receipts, stats,
};

/// The longest `wait` of a long-poll.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How many batches of jobs are at work at once: each is held in memory, and parsed, as a whole.
const BATCHES: usize = 16;

/// How many of them one key may have.
const BATCHES_PER_KEY: usize = 4;

/// The whole service of a running app.
pub fn router(app: SharedApp) -> Router {
    let attestor = signing::key_id(&app.attestor.verifying_key());
    let front = Front::new(app.db.clone(), app.clock.clone(), attestor);
    let house = house(&app);
    front.open(app, house);
    front_of(front)
}

/// The whole service, whether or not the app runs yet.
pub fn front_of(front: SharedFront) -> Router {
    Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v1/health", get(health::health))
        .route("/v1/keys", get(health::keys))
        .route_layer(from_fn(edge::remember_route))
        .method_not_allowed_fallback(edge::no_method)
        .fallback(health::house)
        .with_state(front)
        .layer(from_fn(edge::protocol_version))
        .layer(CatchPanicLayer::custom(edge::panicked))
        .layer(from_fn(edge::observe))
}

/// What lies behind the front: everything that needs the app.
pub fn house(app: &SharedApp) -> Router {
    let limits = &app.config.limits;
    let secs = Duration::from_secs;
    let plain = Gate::new(limits.concurrency, secs(limits.request_secs));
    let transfers = Gate::new(limits.transfers, secs(limits.transfer_secs));
    let transfers = transfers.per_key(limits.transfers_per_key);
    let batching = Gate::new(BATCHES, secs(limits.request_secs)).per_key(BATCHES_PER_KEY);
    let waiting = Gate::new(limits.long_polls, secs(limits.request_secs) + LONGEST_WAIT);
    let following = Gate::new(limits.event_streams, secs(limits.event_stream_secs));
    let following = following.per_key(limits.event_streams_per_key);
    let gated = |routes: Router<SharedApp>, gate: Gate| {
        routes.route_layer(from_fn_with_state(gate, gate::gate))
    };
    let calls = miner_calls()
        .merge(client_calls())
        .merge(admin_calls())
        .layer(DefaultBodyLimit::max(limits.json_bytes));
    Router::new()
        .merge(gated(calls, plain))
        .merge(gated(batches(limits), batching))
        .merge(gated(streams().layer(DefaultBodyLimit::disable()), transfers))
        .merge(gated(polls(), waiting))
        .merge(gated(follows(), following))
        .route_layer(from_fn_with_state(app.clone(), auth::authenticate))
        .route_layer(from_fn(edge::remember_route))
        .method_not_allowed_fallback(edge::no_method)
        .fallback(edge::no_route)
        .with_state(app.clone())
}

fn miner_calls() -> Router<SharedApp> {
    Router::new()
        .route("/v1/miner/register", post(miners::routes::register))
        .route("/v1/miner/heartbeat", post(miners::routes::heartbeat))
        .route("/v1/miner/jobs/{id}/ack", post(jobs::lease_routes::ack))
        .route("/v1/miner/jobs/{id}/progress", post(jobs::lease_routes::progress))
        .route("/v1/miner/jobs/{id}/logs", post(jobs::lease_routes::logs))
        .route("/v1/miner/jobs/{id}/fail", post(jobs::lease_routes::fail))
        .route("/v1/miner/proof", post(jobs::lease_routes::proof))
        .route("/v1/miner/drain", post(miners::routes::drain))
        .route("/v1/miners/{id}/why", get(miners::routes::explain))
        .route("/v1/miner/key", post(miners::routes::rotate_key))
        .route("/v1/miner/reputation", get(miners::routes::show_reputation))
        .route("/v1/miner/receipts", get(receipts::routes::of_miner))
        .route("/v1/wallet/balance", get(ledger::routes::balance))
        .route("/v1/wallet/ledger", get(ledger::routes::lines))
}

fn client_calls() -> Router<SharedApp> {
    Router::new()
        .route("/v1/jobs", post(jobs::routes::submit).get(jobs::routes::list))
        .route("/v1/jobs/{id}", get(jobs::routes::show).delete(jobs::routes::remove))
        .route("/v1/jobs/{id}/result", get(jobs::routes::result))
        .route("/v1/jobs/{id}/why", get(jobs::routes::explain))
        .route("/v1/jobs/{id}/cancel", post(jobs::routes::cancel))
        .route("/v1/jobs/{id}/receipt", get(receipts::routes::of_job))
        .route("/v1/jobs/{id}/receipts", get(receipts::routes::all_of_job))
        .route("/v1/jobs/{id}/artifacts", get(artifacts::routes::list))
}

fn admin_calls() -> Router<SharedApp> {
    Router::new()
        .route("/v1/admin/keys", post(accounts::routes::create).get(accounts::routes::list))
        .route("/v1/admin/keys/{id}", delete(accounts::routes::revoke))
        .route("/v1/admin/controls", get(controls::routes::get).put(controls::routes::put))
        .route("/v1/admin/audit", get(audit::routes::list))
        .route("/v1/admin/stats", get(stats::routes::stats))
        .route("/v1/admin/queues", get(stats::routes::queues))
        .route("/v1/admin/rates", get(stats::routes::rates))
        .route("/v1/admin/capacities", get(stats::routes::capacities))
        .route("/v1/admin/jobs", get(jobs::admin_routes::list))
        .route("/v1/admin/miners", get(miners::admin_routes::list))
        .route("/v1/admin/miners/{id}", delete(miners::routes::release))
        .route("/v1/admin/miners/{id}/drain", post(miners::routes::drain_by_admin))
        .route("/v1/admin/payouts/export", get(ledger::payouts::routes::export))
        .route("/v1/admin/wallets/{wallet}/deposit", post(ledger::routes::deposit))
}

/// What comes in large bodies.
fn batches(limits: &RequestLimits) -> Router<SharedApp> {
    Router::new()
        .route("/v1/admin/payouts", post(ledger::payouts::routes::mark))
        .route("/v1/jobs/batch", post(jobs::routes::batch))
        .layer(DefaultBodyLimit::max(limits.batch_bytes))
}

fn streams() -> Router<SharedApp> {
    Router::new()
        .route("/v1/miner/jobs/{id}/artifacts", post(artifacts::routes::upload))
        .route("/v1/jobs/{id}/artifacts/{n}", get(artifacts::routes::download))
        .route("/v1/inputs", post(artifacts::routes::put_input))
        .route("/v1/inputs/{sha256}", get(artifacts::routes::get_input))
}

fn polls() -> Router<SharedApp> {
    Router::new().route("/v1/miner/next", get(miners::routes::next))
}

fn follows() -> Router<SharedApp> {
    Router::new().route("/v1/jobs/{id}/events", get(events::routes::follow))
}
