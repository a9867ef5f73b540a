//! The URL table, and what each route is allowed: callers, body, places, time.
//!
//! Each route has its line of the OpenAPI document beside it: the operation's name, README's
//! sentence, and the refusals that neither its extractors nor its reply types imply. Whatever else
//! the document says of it is read from the handler's types. To add an operation: a line here and in
//! README's table, an example in `openapi/examples.json` if it takes JSON, and
//! `coordinator openapi > docs/openapi.json`.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::NoContent;
use protocol::event::JobEvent;
use protocol::wallet::Scope;
use protocol::{ErrorCode, signing};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::SharedApp;
use crate::edge;
use crate::gate::{self, Gate};
use crate::health::{self, Front, SharedFront};
use crate::openapi::{self, EventStream, Routes, client, miner, operator, public, wallet};
use crate::wire::Either;
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
    Router::from(front_calls())
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
    let gated = |routes: Routes<SharedApp>, body: DefaultBodyLimit, gate: Gate| {
        Router::from(routes).layer(body).route_layer(from_fn_with_state(gate, gate::gate))
    };
    let json = DefaultBodyLimit::max(limits.json_bytes);
    let batch = DefaultBodyLimit::max(limits.batch_bytes);
    Router::new()
        .merge(gated(calls(), json, plain))
        .merge(gated(batches(), batch, batching))
        .merge(gated(streams(), DefaultBodyLimit::disable(), transfers))
        .merge(gated(polls(), json, waiting))
        .merge(gated(follows(), json, following))
        .route_layer(from_fn_with_state(app.clone(), auth::authenticate))
        .route_layer(from_fn(edge::remember_route))
        .method_not_allowed_fallback(edge::no_method)
        .fallback(edge::no_route)
        .with_state(app.clone())
}

/// What the service says of itself: the OpenAPI document.
pub fn document() -> Value {
    let house = || calls().merge(batches()).merge(streams()).merge(polls()).merge(follows());
    openapi::document::of(front_calls, house)
}

fn front_calls() -> Routes<SharedFront> {
    let closed = &[ErrorCode::DbUnavailable, ErrorCode::Overloaded];
    Routes::default()
        .get("/healthz", health::live, public("live", "the process lives"))
        .get(
            "/readyz",
            health::ready,
            public("ready", "200, or 503 while the database is away or the coordinator goes down")
                .refuses(closed),
        )
        .get("/metrics", health::metrics, public("metrics", "Prometheus"))
        .get("/v1/health", health::health, public("health", "version and clock"))
        .get(
            "/v1/keys",
            health::keys,
            public("public_keys", "the public keys that attest receipts"),
        )
        .get(
            "/v1/openapi.json",
            openapi::routes::json,
            public("openapi", "this API as an OpenAPI 3.1 document"),
        )
        .get("/docs", openapi::routes::page, public("docs", "the same as a page"))
}

fn calls() -> Routes<SharedApp> {
    miner_calls().merge(client_calls()).merge(admin_calls())
}

/// What becomes of a miner that is not its key's, or has another signing key.
const NOT_OWN: &[ErrorCode] =
    &[ErrorCode::MinerMismatch, ErrorCode::WalletMismatch, ErrorCode::BadSignature];

/// What becomes of a call about a job that its miner does not hold.
const NOT_HELD: &[ErrorCode] =
    &[ErrorCode::MinerMismatch, ErrorCode::LeaseLost, ErrorCode::ConflictState];

/// What becomes of a call about a miner that is not known, or not its key's.
const NOT_KNOWN: &[ErrorCode] = &[ErrorCode::MinerNotRegistered, ErrorCode::MinerMismatch];

/// What becomes of a job that is not taken in.
const NOT_TAKEN: &[ErrorCode] = &[
    ErrorCode::InsufficientFunds,
    ErrorCode::Banned,
    ErrorCode::QuotaExceeded,
    ErrorCode::DailyCapReached,
    ErrorCode::IntakePaused,
    ErrorCode::NoEligibleMiner,
];

/// What becomes of a proof that is not accepted.
const NOT_PROVEN: &[ErrorCode] = &[
    ErrorCode::MinerMismatch,
    ErrorCode::JobNotFound,
    ErrorCode::LeaseLost,
    ErrorCode::ConflictState,
    ErrorCode::DuplicateProof,
    ErrorCode::HashMismatch,
    ErrorCode::BadSignature,
    ErrorCode::UnitsExceeded,
];

fn miner_calls() -> Routes<SharedApp> {
    Routes::default()
        .post(
            "/v1/miner/register",
            miners::routes::register,
            miner("register_miner", "say what one offers").refuses(NOT_OWN),
        )
        .post(
            "/v1/miner/heartbeat",
            miners::routes::heartbeat,
            miner("heartbeat", "be there, renew leases, hear what is canceled").refuses(NOT_OWN),
        )
        .post(
            "/v1/miner/jobs/{id}/ack",
            jobs::lease_routes::ack,
            miner("ack_job", "take it").refuses(NOT_HELD),
        )
        .post(
            "/v1/miner/jobs/{id}/progress",
            jobs::lease_routes::progress,
            miner("report_progress", "say how far it is; the reply says whether to go on")
                .refuses(NOT_HELD),
        )
        .post(
            "/v1/miner/jobs/{id}/logs",
            jobs::lease_routes::logs,
            miner("append_log", "a piece of its log").refuses(NOT_HELD),
        )
        .post(
            "/v1/miner/jobs/{id}/fail",
            jobs::lease_routes::fail,
            miner("fail_job", "it could not be done, and why").refuses(NOT_HELD),
        )
        .post(
            "/v1/miner/proof",
            jobs::lease_routes::proof,
            miner("prove_job", "it was done").refuses(NOT_PROVEN),
        )
        .post(
            "/v1/miner/drain",
            miners::routes::drain,
            miner("drain_miner", "no more jobs").refuses(NOT_KNOWN),
        )
        .post(
            "/v1/miner/key",
            miners::routes::rotate_key,
            miner("replace_signing_key", "replace the signing key")
                .scopes(&[Scope::Miner, Scope::Admin])
                .refuses(&[
                    ErrorCode::MinerMismatch,
                    ErrorCode::MinerNotRegistered,
                    ErrorCode::BadSignature,
                ]),
        )
        .get(
            "/v1/miners/{id}/why",
            miners::routes::explain,
            miner("explain_miner", "why a miner is given no jobs")
                .scopes(&[Scope::Miner, Scope::Admin])
                .refuses(NOT_KNOWN),
        )
        .get(
            "/v1/miner/reputation",
            miners::routes::show_reputation,
            miner("reputation", "what a miner has done so far: `miner`").refuses(NOT_KNOWN),
        )
        .get(
            "/v1/miner/receipts",
            receipts::routes::of_miner,
            miner("miner_receipts", "receipts of the wallet"),
        )
        .get(
            "/v1/wallet/balance",
            ledger::routes::balance,
            wallet("balance", "what it holds")
                .scopes(&[Scope::Miner, Scope::Client, Scope::Admin])
                .refuses(&[ErrorCode::WalletMismatch, ErrorCode::WalletNotFound]),
        )
        .get("/v1/wallet/ledger", ledger::routes::lines, wallet("ledger", "its entries"))
}

fn client_calls() -> Routes<SharedApp> {
    Routes::default()
        .post(
            "/v1/jobs",
            jobs::routes::submit,
            client(
                "submit_job",
                "submit a job; `?dry_run=true` only says what it would cost and who could run it",
            )
            .refuses(NOT_TAKEN),
        )
        .get(
            "/v1/jobs",
            jobs::routes::list,
            client(
                "list_jobs",
                "own jobs, newest first: `state` (several with commas), `workload`, `since`, \
                 `until`, `limit`, `cursor`",
            ),
        )
        .get("/v1/jobs/{id}", jobs::routes::show, client("show_job", "a job"))
        .delete(
            "/v1/jobs/{id}",
            jobs::routes::remove,
            client("remove_job", "remove result, log and artifacts of a job that has ended")
                .refuses(&[ErrorCode::ConflictState]),
        )
        .get(
            "/v1/jobs/{id}/result",
            jobs::routes::result,
            client("job_result", "how it ended; 425 until then")
                .refuses(&[ErrorCode::JobNotReady, ErrorCode::NotFound]),
        )
        .get(
            "/v1/jobs/{id}/why",
            jobs::routes::explain,
            client("explain_job", "why it waits, failed, or was not paid").scopes(&[
                Scope::Client,
                Scope::Miner,
                Scope::Admin,
            ]),
        )
        .post(
            "/v1/jobs/{id}/cancel",
            jobs::routes::cancel,
            client("cancel_job", "end it now").refuses(&[ErrorCode::ConflictState]),
        )
        .get(
            "/v1/jobs/{id}/receipt",
            receipts::routes::of_job,
            client("job_receipt", "its receipt").refuses(&[ErrorCode::ReceiptNotFound]),
        )
        .get(
            "/v1/jobs/{id}/receipts",
            receipts::routes::all_of_job,
            client("job_receipts", "the same, as a list"),
        )
        .get(
            "/v1/jobs/{id}/artifacts",
            artifacts::routes::list,
            client("list_artifacts", "its files"),
        )
}

fn admin_calls() -> Routes<SharedApp> {
    decisions()
        .post("/v1/admin/keys", accounts::routes::create, operator("create_key", "make a key"))
        .get("/v1/admin/keys", accounts::routes::list, operator("list_keys", "list keys"))
        .delete(
            "/v1/admin/keys/{id}",
            accounts::routes::revoke,
            operator("revoke_key", "revoke a key").refuses(&[ErrorCode::KeyNotFound]),
        )
        .get(
            "/v1/admin/stats",
            stats::routes::stats,
            operator("stats", "jobs by state, miners, credits issued, shares of clients"),
        )
        .get(
            "/v1/admin/queues",
            stats::routes::queues,
            operator("queues", "what waits, by what it needs, and who could run it"),
        )
        .get(
            "/v1/admin/rates",
            stats::routes::rates,
            operator("rates", "what went through in the last minute, hour and day"),
        )
        .get(
            "/v1/admin/capacities",
            stats::routes::capacities,
            operator("capacities", "what the miners offer together"),
        )
        .get(
            "/v1/admin/jobs",
            jobs::admin_routes::list,
            operator("list_all_jobs", "jobs of all clients; also by `client` and `miner`"),
        )
        .get(
            "/v1/admin/miners",
            miners::admin_routes::list,
            operator("list_miners", "miners, with what they last said"),
        )
        .delete(
            "/v1/admin/miners/{id}",
            miners::routes::release,
            operator("release_miner", "take a name from the miner that has it")
                .refuses(&[ErrorCode::MinerNotRegistered, ErrorCode::ConflictState]),
        )
        .post(
            "/v1/admin/miners/{id}/drain",
            miners::routes::drain_by_admin,
            operator("drain_any_miner", "no more jobs for a miner")
                .refuses(&[ErrorCode::MinerNotRegistered]),
        )
        .post(
            "/v1/admin/wallets/{wallet}/deposit",
            ledger::routes::deposit,
            operator("deposit", "funds of a prepaid client")
                .refuses(&[ErrorCode::ConflictState, ErrorCode::WalletNotFound]),
        )
}

/// What an operator decides, the record of it, and what is owed.
fn decisions() -> Routes<SharedApp> {
    Routes::default()
        .get(
            "/v1/admin/controls",
            controls::routes::get,
            operator(
                "controls",
                "what is decided while the service runs: pauses, prices, caps, quotas, bans",
            ),
        )
        .put(
            "/v1/admin/controls",
            controls::routes::put,
            operator("put_controls", "decide otherwise").refuses(&[ErrorCode::ConflictState]),
        )
        .get(
            "/v1/admin/audit",
            audit::routes::list,
            operator("audit", "who changed what, newest first: `action`, `limit`, `cursor`"),
        )
        .get(
            "/v1/admin/payouts/export",
            ledger::payouts::routes::export,
            operator(
                "export_payouts",
                "what wallets are owed, as a signed file: `since`, `until`, `format`",
            ),
        )
}

/// What comes in large bodies.
fn batches() -> Routes<SharedApp> {
    Routes::default()
        .post(
            "/v1/jobs/batch",
            jobs::routes::batch,
            client("submit_jobs", "up to 1,000 jobs, one outcome each"),
        )
        .post(
            "/v1/admin/payouts",
            ledger::payouts::routes::mark,
            operator("mark_payouts", "such a file was paid")
                .refuses(&[ErrorCode::BadSignature, ErrorCode::ConflictState]),
        )
}

fn streams() -> Routes<SharedApp> {
    Routes::default()
        .post(
            "/v1/miner/jobs/{id}/artifacts",
            artifacts::routes::upload,
            miner("upload_artifacts", "its files (multipart)").refuses(NOT_HELD),
        )
        .get(
            "/v1/jobs/{id}/artifacts/{n}",
            artifacts::routes::download,
            client("download_artifact", "one of them, or a range of it")
                .refuses(&[ErrorCode::JobNotFound, ErrorCode::ArtifactNotFound]),
        )
        .post(
            "/v1/inputs",
            artifacts::routes::put_input,
            client("upload_input", "upload an input (raw body, `X-Content-SHA256`)"),
        )
        .get(
            "/v1/inputs/{sha256}",
            artifacts::routes::get_input,
            miner("download_input", "fetch an input of a job that one holds").refuses(&[
                ErrorCode::InputNotFound,
                ErrorCode::JobNotFound,
                ErrorCode::MinerMismatch,
                ErrorCode::LeaseLost,
                ErrorCode::ConflictState,
            ]),
        )
}

fn polls() -> Routes<SharedApp> {
    let summary = "ask for a job: `miner`, `slots`, `wait` (up to 30 s); what is left beside the jobs \
                   that run: `ram_mb`, `cpu_threads`, `disk_mb`";
    Routes::default().get(
        "/v1/miner/next",
        miners::routes::next,
        miner("next_job", summary).refuses(NOT_KNOWN),
    )
}

fn follows() -> Routes<SharedApp> {
    let summary = "what happens to it, as server-sent events; `Last-Event-ID` or `after` resumes";
    Routes::default().get(
        "/v1/jobs/{id}/events",
        events::routes::follow,
        client("follow_job", summary)
            .scopes(&[Scope::Client, Scope::Admin])
            .replies::<Either<EventStream<JobEvent>, NoContent>>(),
    )
}
