//! The miners as an operator sees them.

use axum::extract::State;
use axum::http::StatusCode;
use protocol::admin::{AdminMiner, Availability};
use protocol::miner::Reputation;
use protocol::wallet::Page;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::store::{self, Seen};
use super::{Miner, reputation};
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{Params, Reply, page, page_limit};

/// The query of `GET /v1/admin/miners`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct List {
    /// How many items a page has at most; 50 unless stated.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<i64>,
}

/// `GET /v1/admin/miners`: newest first.
///
/// # Errors
/// 400, 403.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<List>,
) -> Result<Reply<Page<AdminMiner>>, ApiError> {
    caller.admin()?;
    let limit = page_limit(query.limit)?;
    let mut tx = app.db.read().await?;
    let seen = store::overview(&mut tx, i64::from(limit) + 1, query.cursor).await?;
    let nos: Vec<i64> = seen.iter().map(|seen| seen.miner.no).collect();
    let days = store::days(&mut tx, &nos).await?;
    tx.commit().await?;
    let (now, silence) = (app.now(), app.presence.silence());
    let Page { items, next } = page(seen, limit, |seen| seen.miner.no.to_string());
    let view = |seen: Seen| {
        let silent = seen.seen_at.is_none_or(|at| now.since(at) > silence);
        let days = days.get(&seen.miner.no).map_or(&[][..], Vec::as_slice);
        let (id, since) = (seen.miner.id.clone(), seen.created_at);
        let unwritten = app.presence.unwritten_uptime(&id, now);
        let reputation = reputation(id, since, seen.seen_at, now, days, unwritten);
        shown(seen, silent, reputation)
    };
    let items = items.into_iter().map(view).collect();
    Ok(Reply(StatusCode::OK, Page { items, next }))
}

fn shown(seen: Seen, silent: bool, reputation: Reputation) -> AdminMiner {
    let status = availability(&seen.miner, seen.inflight, silent);
    let Miner { id, wallet, registered, drain, gpu_lost, capabilities, .. } = seen.miner;
    AdminMiner {
        miner_id: id,
        wallet,
        status,
        registered,
        drain,
        gpu_lost,
        last_heartbeat: seen.seen_at,
        report: match seen.report {
            Value::Object(report) => report,
            _ => Map::new(),
        },
        capabilities,
        inflight: seen.inflight,
        jobs_completed: reputation.jobs_completed,
        jobs_failed: reputation.jobs_failed,
        reputation,
        created_at: seen.created_at,
    }
}

fn availability(miner: &Miner, inflight: u64, silent: bool) -> Availability {
    if silent {
        Availability::Offline
    } else if miner.drain {
        Availability::Draining
    } else if inflight >= u64::from(miner.capabilities.concurrency) {
        Availability::Busy
    } else {
        Availability::Online
    }
}

#[cfg(test)]
mod tests {
    use protocol::job::SlotKind;

    use super::*;

    #[test]
    fn silence_outweighs_draining_outweighs_work() {
        let id: protocol::Name = "m1".parse().unwrap();
        let mut miner = Miner {
            no: 1,
            id: id.clone(),
            wallet: "w".parse().unwrap(),
            registered: true,
            pubkey: None,
            drain: false,
            gpu_lost: false,
            capabilities: crate::miners::unregistered(id, SlotKind::Cpu, false),
        };
        assert_eq!(availability(&miner, 0, false), Availability::Online);
        assert_eq!(availability(&miner, 1, false), Availability::Busy);
        miner.drain = true;
        assert_eq!(availability(&miner, 1, false), Availability::Draining);
        assert_eq!(availability(&miner, 1, true), Availability::Offline);
    }
}
