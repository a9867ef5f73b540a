//! HTTP of keys: an admin makes, lists and revokes them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use protocol::ErrorCode;
use protocol::wallet::{CreatedKey, KeyView, NewKey, Page};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Caller, Minted, keys, store};
use crate::app::{self, SharedApp};
use crate::error::ApiError;
use crate::wire::{Body, Created, Params, Reply, Segments};

/// Most keys of one page.
const MAX_PAGE: i64 = 200;

/// `POST /v1/admin/keys`. An idempotency key is not kept: its stored reply would hold the secret.
pub async fn create(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<NewKey>,
) -> Result<Created<CreatedKey>, ApiError> {
    caller.admin()?;
    let minted = Minted::from_random(body.value.scope, app::random_bytes(), app::random_bytes());
    let created = keys::issue(&app.db, app.now(), &caller.key_id, &body.value, minted).await?;
    Ok(Created(created))
}

/// Which page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// How many items a page has at most; 200 unless stated.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<i64>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// `GET /v1/admin/keys`: revoked ones, too.
pub async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<Reply<Page<KeyView>>, ApiError> {
    caller.admin()?;
    let limit = page.limit.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::param("limit", format!("must be 1 to {MAX_PAGE}")));
    }
    let mut tx = app.db.read().await?;
    let items = store::list_keys(&mut tx, &page.cursor.unwrap_or_default(), limit).await?;
    let full = i64::try_from(items.len()).is_ok_and(|count| count == limit);
    let next = items.last().filter(|_| full).map(|key| key.id.clone());
    Ok(Reply(StatusCode::OK, Page { items, next }))
}

/// `DELETE /v1/admin/keys/{id}`: revokes it, at once on this replica and within a second on others.
pub async fn revoke(
    State(app): State<SharedApp>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<NoContent, ApiError> {
    caller.admin()?;
    let found = keys::revoke(&app.db, app.now(), &caller.key_id, &id).await?;
    app.auth.forget(&id);
    app.follow.look_at_keys();
    if found { Ok(NoContent) } else { Err(ApiError::new(ErrorCode::KeyNotFound, "no such key")) }
}
