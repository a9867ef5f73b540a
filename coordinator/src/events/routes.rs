//! The HTTP of a job's history: a stream of server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event as ServerSent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use protocol::JobId;
use protocol::event::JobEvent;
use schemars::JsonSchema;
use serde::Deserialize;

use super::follow::{Follow, Next};
use super::store;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{JobPath, Params};

/// In which a client that comes back says what it had last.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// A line without meaning now and then: proxies cut what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// After how long a client shall come back when the stream breaks off.
const COME_BACK: Duration = Duration::from_secs(1);

/// The query of `GET /v1/jobs/{id}/events`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// Only events after this one; `Last-Event-ID` goes before it.
    after: Option<u32>,
}

/// `GET /v1/jobs/{id}/events`: what happened to a job, and what happens to it, until it has ended.
/// 204 where nothing comes any more: a browser's `EventSource` stops then.
///
/// # Errors
/// 400, 403, 404.
pub async fn follow(
    State(app): State<SharedApp>,
    caller: Caller,
    JobPath(job): JobPath,
    Params(query): Params<From>,
    LastEvent(last): LastEvent,
) -> Result<Response, ApiError> {
    let after = last.or(query.after).unwrap_or(0);
    let client = if caller.admin().is_ok() { None } else { Some(caller.client()?) };
    let mut tx = app.db.read().await?;
    let standing = store::standing(&mut tx, client, job).await?;
    tx.commit().await?;
    let standing = standing.ok_or_else(ApiError::job_not_found)?;
    if after > standing.last {
        let name = if last.is_some() { LAST_EVENT_ID } else { "after" };
        return Err(ApiError::param(name, format!("the job's last event is {}", standing.last)));
    }
    if standing.ended && after == standing.last {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let hello = ServerSent::default().retry(COME_BACK);
    let events = events(app.follow.clone(), job, after, caller.key_id).map(server_sent);
    let sse = Sse::new(stream::iter([Ok::<_, Infallible>(hello)]).chain(events));
    let mut response = sse.keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx gathers a reply before it sends it, unless it is told not to.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(unbuffered, HeaderValue::from_static("no"));
    Ok(response)
}

/// The last event that a client which comes back has: it goes before the query.
#[derive(Debug)]
pub struct LastEvent(Option<u32>);

impl<S: Send + Sync> FromRequestParts<S> for LastEvent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        last_event(&parts.headers).map(Self)
    }
}

fn last_event(headers: &HeaderMap) -> Result<Option<u32>, ApiError> {
    let Some(header) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let number = header.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    let bad = || ApiError::param(LAST_EVENT_ID, "must be the `id` of an event of this job");
    number.map(Some).ok_or_else(bad)
}

/// The events of a job, up to the last one it will have.
fn events(
    follow: Follow,
    job: JobId,
    after: u32,
    key_id: String,
) -> impl Stream<Item = JobEvent> + Send {
    let start = Some((VecDeque::new(), after));
    stream::unfold(start, move |state| {
        let (follow, key_id) = (follow.clone(), key_id.clone());
        async move {
            let (mut ready, after): (VecDeque<JobEvent>, u32) = state?;
            if ready.is_empty() {
                match follow.next(job, after, &key_id).await {
                    Ok(Next::Events(events)) => ready.extend(events),
                    // The client comes back, to another replica or to be told why not.
                    Ok(Next::Over) | Err(_) => return None,
                }
            }
            let event = ready.pop_front()?;
            let more = (!event.what.is_last()).then_some((ready, event.seq));
            Some((event, more))
        }
    })
}

fn server_sent(event: JobEvent) -> Result<ServerSent, Infallible> {
    let data = serde_json::to_string(&event).unwrap_or_default();
    Ok(ServerSent::default().id(event.seq.to_string()).event(event.what.kind()).data(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_number_or_not_there() {
        let mut headers = HeaderMap::new();
        assert_eq!(last_event(&headers), Ok(None));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("7"));
        assert_eq!(last_event(&headers), Ok(Some(7)));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("4294967295"));
        assert_eq!(last_event(&headers), Ok(Some(u32::MAX)));
        for bad in ["", "-1", "x", "1.5", "99999999999"] {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_static(bad));
            assert!(last_event(&headers).is_err(), "{bad}");
        }
    }
}
