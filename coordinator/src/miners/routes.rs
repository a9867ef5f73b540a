//! The HTTP of miners: register, heartbeat, ask for work, drain, replace the signing key.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use protocol::admin::Released;
use protocol::miner::{
    Drain, Drained, Heartbeat, HeartbeatReply, KeyInForce, KeyRotation, Registered, Reputation,
};
use protocol::why::MinerWhy;
use protocol::{ErrorCode, Job, MinerCapabilities, Name, signing};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::introduction::{Introduction, report};
use super::{Miner, keys, reputation, store};
use crate::accounts::{Answer, Binding, Caller, IdempotencyKey, once};
use crate::app::{App, SharedApp};
use crate::audit::{self, Action, Record};
use crate::dispatch::{Left, leases, why};
use crate::error::ApiError;
use crate::wire::{Body, Either, Params, Recorded, Reply, Segments};

/// The longest that a request for work may wait, in seconds.
const MAX_WAIT_SECS: u8 = 30;

/// `POST /v1/miner/register`.
///
/// # Errors
/// 403, 422.
pub async fn register(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<MinerCapabilities>,
) -> Result<Answer<Recorded<Registered>>, ApiError> {
    let introduction = Introduction::register(body.value)?;
    introduction.wallet_for(&caller)?;
    let (now, key) = (app.now(), body.idempotency.as_ref());
    let per_wallet = app.config.limits.miners_per_wallet;
    let mut tx = app.db.write().await?;
    if let Some(reply) = once::begin(&mut tx, key).await? {
        return Ok(Answer::Replayed(reply));
    }
    let (miner, first) = introduction.record(&mut tx, now, &caller, per_wallet).await?;
    let status = if first { StatusCode::CREATED } else { StatusCode::OK };
    let reply = once::commit(tx, now, key, status, registered(&app, &miner, first)).await?;
    let miner = app.presence.changed(miner);
    app.presence.saw(&miner, None);
    Ok(Answer::Fresh(if first { Recorded::First(reply) } else { Recorded::Again(reply) }))
}

fn registered(app: &App, miner: &Miner, first: bool) -> Registered {
    Registered {
        miner_id: miner.id.clone(),
        status: if first { "registered" } else { "updated" }.to_owned(),
        heartbeat_secs: app.presence.heartbeat_secs(false),
        poll_secs: app.config.leases.poll_secs,
        server_time: app.now(),
        receipt_pubkey: signing::key_id(&app.attestor.verifying_key()),
    }
}

/// `POST /v1/miner/heartbeat`.
///
/// # Errors
/// 403, 422.
pub async fn heartbeat(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<Heartbeat>,
) -> Result<Reply<HeartbeatReply>, ApiError> {
    let heartbeat = body.value;
    let introduction = Introduction::heartbeat(&heartbeat)?;
    let report = report(&heartbeat)?;
    let miner = introduced(&app, &caller, &introduction).await?;
    app.presence.saw(&miner, Some(report));
    let in_force = app.controls.in_force();
    let ban = in_force.ban_of(&miner.id, &miner.wallet);
    let renewal = leases::renew(&app, &caller, &miner, heartbeat.active_jobs).await?;
    let reply = HeartbeatReply {
        status: "ok".to_owned(),
        server_time: app.now(),
        heartbeat_secs: app.presence.heartbeat_secs(!renewal.renewed.is_empty()),
        drain: miner.drain || ban.is_some(),
        reason: ban.map(str::to_owned),
        cancel_jobs: renewal.cancel,
        renewed: renewal.renewed,
    };
    Ok(Reply(StatusCode::OK, reply))
}

/// The sender of a heartbeat; the database is written only where it says something new.
async fn introduced(
    app: &App,
    caller: &Caller,
    introduction: &Introduction,
) -> Result<Arc<Miner>, ApiError> {
    introduction.wallet_for(caller)?;
    if let Some(known) = app.presence.find(&introduction.id).await?
        && introduction.merged(&known, caller)? == *known
    {
        return Ok(known);
    }
    let (now, per_wallet) = (app.now(), app.config.limits.miners_per_wallet);
    let mut tx = app.db.write().await?;
    let (miner, _) = introduction.record(&mut tx, now, caller, per_wallet).await?;
    tx.commit().await?;
    Ok(app.presence.changed(miner))
}

/// The query of `GET /v1/miner/next`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Next {
    /// The node's label.
    miner: Name,
    /// How many of its slots are free; with 0 it gets no job.
    slots: u32,
    /// How much memory is left beside the jobs that it has, in MiB; absent: all that it registered.
    ram_mb: Option<u32>,
    /// How many processor threads; absent: likewise.
    cpu_threads: Option<u32>,
    /// How much scratch space, in MiB; absent: likewise.
    disk_mb: Option<u32>,
    /// For how long to hold the request until there is a job, in seconds.
    #[serde(default)]
    #[schemars(range(max = MAX_WAIT_SECS))]
    wait: u8,
}

/// `GET /v1/miner/next`.
///
/// # Errors
/// 400, 403, 404.
pub async fn next(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<Next>,
) -> Result<Either<Reply<Job>, NoContent>, ApiError> {
    if query.wait > MAX_WAIT_SECS {
        return Err(ApiError::param("wait", format!("must be 0 to {MAX_WAIT_SECS} seconds")));
    }
    let miner = acting(&app, &caller, &query.miner).await?;
    app.presence.saw(&miner, None);
    let wait = Duration::from_secs(query.wait.into());
    let Next { ram_mb, cpu_threads, disk_mb, .. } = query;
    let left = Left { ram_mb, cpu_threads, disk_mb };
    Ok(match app.dispatch.next(miner, query.slots, left, wait).await? {
        Some(job) => Either::Left(Reply(StatusCode::OK, job)),
        None => Either::Right(NoContent),
    })
}

/// The miner for which this caller acts.
async fn acting(app: &App, caller: &Caller, id: &Name) -> Result<Arc<Miner>, ApiError> {
    // A client's key is told so, not that there is no such miner.
    caller.wallet()?;
    let miner = app.presence.find(id).await?.ok_or_else(not_registered)?;
    caller.may_act_for(&miner.id, &miner.wallet)?;
    Ok(miner)
}

fn not_registered() -> ApiError {
    let message = "this miner neither registered nor sent a heartbeat";
    ApiError::new(ErrorCode::MinerNotRegistered, message)
}

/// `GET /v1/miners/{id}/why`.
///
/// # Errors
/// 403, 404.
pub async fn explain(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(id): Segments<Name>,
) -> Result<Reply<MinerWhy>, ApiError> {
    Ok(Reply(StatusCode::OK, why::miner(&app, &caller, &id).await?))
}

/// `POST /v1/miner/drain`.
///
/// # Errors
/// 403, 404, 422.
pub async fn drain(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<Drain>,
) -> Result<Answer<Reply<Drained>>, ApiError> {
    let own = match &caller.binding {
        Binding::Miner { miner_id, .. } => miner_id.clone(),
        Binding::Client { .. } | Binding::Admin | Binding::Open { .. } => None,
    };
    let id = body.value.miner_id.or(own);
    let id =
        id.ok_or_else(|| ApiError::field("miner_id", "this key may act for several miners"))?;
    acting(&app, &caller, &id).await?;
    set_drain(&app, None, &id, body.value.drain, body.idempotency.as_ref()).await
}

/// `POST /v1/admin/miners/{id}/drain`.
///
/// # Errors
/// 403, 404, 422.
pub async fn drain_by_admin(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(id): Segments<Name>,
    body: Body<Drain>,
) -> Result<Answer<Reply<Drained>>, ApiError> {
    caller.admin()?;
    if body.value.miner_id.is_some_and(|named| named != id) {
        return Err(ApiError::field("miner_id", "must be the one of the path"));
    }
    let actor = Some(caller.key_id.as_str());
    set_drain(&app, actor, &id, body.value.drain, body.idempotency.as_ref()).await
}

/// `actor`: the admin who does it, for the record; a miner's own draining is not in it.
async fn set_drain(
    app: &App,
    actor: Option<&str>,
    id: &Name,
    drain: bool,
    key: Option<&IdempotencyKey>,
) -> Result<Answer<Reply<Drained>>, ApiError> {
    let now = app.now();
    let mut tx = app.db.write().await?;
    if let Some(reply) = once::begin(&mut tx, key).await? {
        return Ok(Answer::Replayed(reply));
    }
    let known = store::lock(&mut tx, id).await?.ok_or_else(not_registered)?;
    let miner = Miner { drain, ..known };
    store::update(&mut tx, now, &miner).await?;
    if let Some(actor) = actor {
        let (action, data) = (Action::DrainMiner, json!({ "drain": drain }));
        let record = Record { actor, action, subject: id.as_str(), data };
        audit::store::append(&mut tx, now, record).await?;
    }
    let reply = Drained { miner_id: miner.id.clone(), drain };
    let reply = once::commit(tx, now, key, StatusCode::OK, reply).await?;
    app.presence.changed(miner);
    Ok(Answer::Fresh(Reply(StatusCode::OK, reply)))
}

/// The query of `GET /v1/miner/reputation`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Whose {
    /// The node's label.
    miner: Name,
}

/// `GET /v1/miner/reputation`: what a miner has done so far.
///
/// # Errors
/// 400, 403, 404.
pub async fn show_reputation(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<Whose>,
) -> Result<Reply<Reputation>, ApiError> {
    let miner = acting(&app, &caller, &query.miner).await?;
    let mut tx = app.db.read().await?;
    let heard = store::heard_of(&mut tx, miner.no).await?;
    let days = store::days(&mut tx, &[miner.no]).await?.remove(&miner.no).unwrap_or_default();
    tx.commit().await?;
    let (since, last_seen) = heard.ok_or_else(not_registered)?;
    let now = app.now();
    let unwritten = app.presence.unwritten_uptime(&miner.id, now);
    let reply = reputation(miner.id.clone(), since, last_seen, now, &days, unwritten);
    Ok(Reply(StatusCode::OK, reply))
}

/// `DELETE /v1/admin/miners/{id}`: the name is free again.
///
/// # Errors
/// 403, 404, 409 where the miner holds jobs.
pub async fn release(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(id): Segments<Name>,
) -> Result<Reply<Released>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let mut tx = app.db.write().await?;
    let known = store::lock(&mut tx, &id).await?.ok_or_else(not_registered)?;
    let inflight = store::inflight(&mut tx, known.no).await?;
    let miner = super::release::release(&known, inflight)?;
    store::rename(&mut tx, now, &miner).await?;
    let data = json!({ "wallet": miner.wallet, "renamed": miner.id });
    let (actor, action, subject) = (caller.key_id.as_str(), Action::ReleaseMiner, id.as_str());
    audit::store::append(&mut tx, now, Record { actor, action, subject, data }).await?;
    tx.commit().await?;
    app.presence.release(&id);
    let reply = Released { miner_id: id, renamed: miner.id };
    Ok(Reply(StatusCode::OK, reply))
}

/// `POST /v1/miner/key`.
///
/// # Errors
/// 403, 404, 422.
pub async fn rotate_key(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<KeyRotation>,
) -> Result<Answer<Reply<KeyInForce>>, ApiError> {
    let rotation = body.value;
    let by_admin = matches!(caller.binding, Binding::Admin);
    if !by_admin {
        acting(&app, &caller, &rotation.miner_id).await?;
    }
    let (now, key) = (app.now(), body.idempotency.as_ref());
    let mut tx = app.db.write().await?;
    if let Some(reply) = once::begin(&mut tx, key).await? {
        return Ok(Answer::Replayed(reply));
    }
    let known = store::lock(&mut tx, &rotation.miner_id).await?.ok_or_else(not_registered)?;
    keys::check_rotation(&known, &rotation, now, by_admin)?;
    let miner = Miner { pubkey: Some(rotation.pubkey.clone()), ..known };
    store::update(&mut tx, now, &miner).await?;
    if by_admin {
        let (action, data) = (Action::RotateMinerKey, json!({ "pubkey": rotation.pubkey }));
        let (actor, subject) = (caller.key_id.as_str(), rotation.miner_id.as_str());
        audit::store::append(&mut tx, now, Record { actor, action, subject, data }).await?;
    }
    let reply = KeyInForce { miner_id: rotation.miner_id, pubkey: rotation.pubkey };
    let reply = once::commit(tx, now, key, StatusCode::OK, reply).await?;
    app.presence.changed(miner);
    Ok(Answer::Fresh(Reply(StatusCode::OK, reply)))
}
