//! Who calls: the key of a request becomes a [`Caller`], and its calls are counted.

use std::future::ready;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use protocol::wallet::Scope;
use protocol::{ErrorCode, Name};

use crate::accounts::known::Keys;
use crate::accounts::rate::Rate;
use crate::accounts::{Binding, Caller, Presented};
use crate::app::{Clock, SharedApp};
use crate::config::RequestLimits;
use crate::db::Db;
use crate::error::ApiError;

/// The other header that may carry a key.
const API_KEY_HEADER: &str = "x-api-key";

/// The most slots for which a miner's rate is raised: the number is the miner's own.
const MAX_SLOTS: i64 = 64;

/// Who may call.
#[derive(Debug)]
pub enum Auth {
    /// Whoever has a key.
    Keys(Box<Keys>),
    /// Everybody: the mock.
    Open {
        /// The client for whom jobs are submitted.
        client: Name,
        /// The wallet of callers that name none.
        wallet: Name,
    },
}

impl Auth {
    /// Keys, none of them read yet.
    pub fn keys() -> Self {
        Self::Keys(Box::default())
    }

    /// Forgets a key that was revoked, so that its next use asks the database.
    pub fn forget(&self, id: &str) {
        if let Self::Keys(keys) = self {
            keys.forget(id);
        }
    }

    /// The caller behind a key, and how its call stands to its limit.
    async fn admit(
        &self,
        db: &Db,
        clock: &Clock,
        limits: &RequestLimits,
        presented: Option<Presented>,
    ) -> Result<(Caller, Option<Rate>), ApiError> {
        let keys = match self {
            Self::Keys(keys) => keys,
            Self::Open { client, wallet } => {
                let binding = Binding::Open { client: client.clone(), wallet: wallet.clone() };
                return Ok((Caller { key_id: "open".to_owned(), binding }, None));
            }
        };
        let presented = presented.ok_or_else(unauthorized)?;
        let key = keys.find(db, clock, &presented.id).await?.ok_or_else(unauthorized)?;
        if !presented.matches(&key.secret_sha256) {
            return Err(unauthorized());
        }
        let caller = Caller { key_id: presented.id, binding: key.binding.clone() };
        let rate = keys.count(clock.now(), &caller.key_id, per_minute(&caller, key.slots, limits));
        Ok((caller, Some(rate)))
    }
}

fn per_minute(caller: &Caller, slots: i64, limits: &RequestLimits) -> u32 {
    match caller.scope() {
        Some(Scope::Miner) => {
            let slots = u32::try_from(slots.clamp(1, MAX_SLOTS)).unwrap_or(1);
            limits.miner_per_minute.saturating_mul(slots)
        }
        Some(Scope::Admin) => limits.admin_per_minute,
        Some(Scope::Client) | None => limits.client_per_minute,
    }
}

/// `Authorization: Bearer KEY`, else `X-Api-Key: KEY`.
fn presented(headers: &HeaderMap) -> Option<Presented> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    Presented::parse(bearer.or_else(|| text(API_KEY_HEADER))?.trim())
}

/// One answer for the missing, the unknown, the wrong and the revoked: nobody learns which ids are.
fn unauthorized() -> ApiError {
    ApiError::new(ErrorCode::UnauthorizedKey, "the key is missing, unknown or revoked")
}

/// Lets in who may call: the [`Caller`] for the handler, the rate's headers for the reply.
pub fn authenticate(
    State(app): State<SharedApp>,
    mut request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let presented = presented(request.headers());
    // Nothing behind this point needs the secret, so nothing can log it.
    request.headers_mut().remove(header::AUTHORIZATION);
    request.headers_mut().remove(API_KEY_HEADER);
    let admitted = async move {
        let limits = &app.config.limits;
        app.auth.admit(&app.db, &app.clock, limits, presented).await
    };
    admitted.then(|admitted| {
        let (caller, rate) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Either::Left(ready(error.into_response())),
        };
        let with_rate = move |mut response: Response| {
            if let Some(rate) = rate {
                put_headers(response.headers_mut(), rate);
            }
            response
        };
        if let Some(secs) = rate.and_then(|rate| rate.retry_after_secs) {
            return Either::Left(ready(with_rate(too_many(secs).into_response())));
        }
        request.extensions_mut().insert(caller);
        Either::Right(next.run(request).map(with_rate))
    })
}

fn too_many(retry_after_secs: u64) -> ApiError {
    ApiError::new(ErrorCode::RateLimited, "too many requests with this key")
        .with("retry_after_secs", retry_after_secs)
}

fn put_headers(headers: &mut HeaderMap, rate: Rate) {
    let mut put = |name, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    put("x-ratelimit-limit", rate.limit.into());
    put("x-ratelimit-remaining", rate.remaining.into());
    put("x-ratelimit-reset", rate.reset_secs);
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a route lets in callers without a key");
            ApiError::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let key = crate::accounts::Minted::from_random(Scope::Client, [1; 8], [2; 32]).key;
        let bearer = format!("Bearer {key}");
        let expected = Presented::parse(&key);
        assert!(expected.is_some());
        assert_eq!(presented(&headers(&[("authorization", &bearer)])), expected);
        assert_eq!(presented(&headers(&[("x-api-key", &key)])), expected);
        assert_eq!(presented(&headers(&[("authorization", &key)])), None);
        assert_eq!(presented(&headers(&[("authorization", "Bearer CHANGE_ME")])), None);
        assert_eq!(presented(&headers(&[])), None);
    }

    #[test]
    fn a_miners_limit_grows_with_its_slots_up_to_a_ceiling() {
        let limits = RequestLimits::default();
        let binding = Binding::Miner { wallet: "w".parse().unwrap(), miner_id: None };
        let miner = Caller { key_id: "miner-1".to_owned(), binding };
        assert_eq!(per_minute(&miner, 1, &limits), 240);
        assert_eq!(per_minute(&miner, 4, &limits), 960);
        assert_eq!(per_minute(&miner, i64::MAX, &limits), 240 * 64);
        assert_eq!(per_minute(&miner, -5, &limits), 240);
    }
}
