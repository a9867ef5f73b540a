//! What every request passes on its way in and every reply on its way out: an id, a line in the
//! log, a measurement, the protocol version, and no panic without reply.
//!
//! None of it is an `async fn`: each of these would keep room for the request twice, as long as
//! whoever asked for work waits for it.

use std::any::Any;
use std::future::ready;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use protocol::{ErrorCode, OLDEST_PROTOCOL_VERSION, PROTOCOL_HEADER, PROTOCOL_VERSION};
use tracing::Instrument as _;

use crate::app;
use crate::error::ApiError;

/// Identifies a request in the logs of both sides.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, and logs and measures its reply.
pub fn observe(mut request: Request, next: Next) -> impl Future<Output = Response> + Send {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID_HEADER, id.clone());
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        %method,
        path = request.uri().path(),
    );
    let start = Instant::now();
    let at_work = AtWork::new();
    next.run(request).instrument(span.clone()).map(move |mut response| {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
        drop(at_work);
        let took = start.elapsed();
        measure(&method, &response, took);
        span.in_scope(|| {
            let status = response.status().as_u16();
            tracing::debug!(status, took_ms = took.as_millis(), "replied");
        });
        response
    })
}

/// Counts a request among those at work until it is dropped: also where the caller hangs up.
struct AtWork(metrics::Gauge);

impl AtWork {
    fn new() -> Self {
        let gauge = metrics::gauge!("aitbc_http_requests_at_work");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The id that was given, where it is harmless; else a random one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    headers.get(REQUEST_ID_HEADER).filter(sane).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", app::random_u128());
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

fn measure(method: &Method, response: &Response, took: Duration) {
    // The pattern, never the path: labels live for ever, and paths are the callers' own.
    let route = response.extensions().get::<Route>().map_or("other", |route| route.0.as_str());
    let labels = [
        ("method", known_method(method).to_owned()),
        ("route", route.to_owned()),
        ("status", response.status().as_str().to_owned()),
    ];
    metrics::counter!("aitbc_http_requests_total", &labels).increment(1);
    metrics::histogram!("aitbc_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
}

const fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

#[derive(Debug, Clone)]
struct Route(MatchedPath);

/// Tells [`observe`], which stands outside of the routers, which route answered.
pub fn remember_route(
    matched: MatchedPath,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    next.run(request).map(|mut response| {
        response.extensions_mut().insert(Route(matched));
        response
    })
}

/// Refuses nodes of a protocol that is no longer, or not yet, served.
pub fn protocol_version(request: Request, next: Next) -> impl Future<Output = Response> + Send {
    let stated = request.headers().get(PROTOCOL_HEADER);
    let number = stated.map(|text| text.to_str().ok().and_then(|text| text.parse::<u32>().ok()));
    match number {
        None | Some(Some(OLDEST_PROTOCOL_VERSION..=PROTOCOL_VERSION)) => {
            Either::Left(next.run(request))
        }
        Some(stated) => Either::Right(ready(upgrade_required(stated).into_response())),
    }
}

fn upgrade_required(stated: Option<u32>) -> ApiError {
    let message = "this protocol version is not served";
    ApiError::new(ErrorCode::UpgradeRequired, message)
        .with("stated", stated)
        .with("oldest", OLDEST_PROTOCOL_VERSION)
        .with("current", PROTOCOL_VERSION)
}

/// The reply of a handler that panicked.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
    tracing::error!(panic = text, "a handler panicked");
    ApiError::internal().into_response()
}

/// The reply where no route fits.
pub async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such route").with("path", uri.path())
}

/// The reply where the route fits and the method does not.
pub async fn no_method(method: Method) -> ApiError {
    let message = "this route does not have that method";
    ApiError::new(ErrorCode::MethodNotAllowed, message).with("method", method.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_only_if_it_is_harmless() {
        let id_for = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID_HEADER, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            request_id(&headers)
        };
        assert_eq!(id_for("abc-123_x.y:z"), "abc-123_x.y:z");
        for bad in ["", "a b", "a\tb", "é", "<script>", &"x".repeat(129)] {
            let id = id_for(bad);
            assert!(id != bad && id.len() == 32, "{bad:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
