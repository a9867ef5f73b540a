//! So many requests at once, altogether and of one key, each for so long.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::Either;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use protocol::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::accounts::{Binding, Caller};
use crate::error::ApiError;

/// So many requests at once, each for so long.
#[derive(Debug, Clone)]
pub struct Gate {
    places: Arc<Semaphore>,
    shares: Option<Arc<Shares>>,
    time: Duration,
}

/// How many places each key has taken.
#[derive(Debug)]
struct Shares {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One of a key's places, until it is dropped.
#[derive(Debug)]
struct Share {
    shares: Arc<Shares>,
    key_id: String,
}

/// A place behind a gate, until it is dropped.
#[derive(Debug)]
struct Place {
    _share: Option<Share>,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// `places` requests at once, `time` for each.
    pub fn new(places: usize, time: Duration) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { places, shares: None, time }
    }

    /// The same, with at most `most` places for one key: no caller can take them all.
    #[must_use]
    pub fn per_key(self, most: usize) -> Self {
        let shares = Shares { most, taken: Mutex::default() };
        Self { shares: Some(Arc::new(shares)), ..self }
    }

    fn enter(&self, caller: Option<&Caller>) -> Result<Place, ApiError> {
        let share = match (&self.shares, caller) {
            // Without keys everybody is the same caller.
            (_, None | Some(Caller { binding: Binding::Open { .. }, .. })) | (None, _) => None,
            (Some(shares), Some(caller)) => Some(Shares::take(shares, &caller.key_id)?),
        };
        let permit = Arc::clone(&self.places).try_acquire_owned();
        Ok(Place { _share: share, _permit: permit.map_err(|_| ApiError::overloaded())? })
    }
}

impl Shares {
    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(shares: &Arc<Self>, key_id: &str) -> Result<Share, ApiError> {
        let mut taken = shares.taken();
        let count = taken.get(key_id).copied().unwrap_or(0);
        if count >= shares.most {
            let message = "this key has too many such requests at work, wait for one of them";
            return Err(ApiError::new(ErrorCode::RateLimited, message)
                .with("at_once", shares.most)
                .with("retry_after_secs", 1));
        }
        taken.insert(key_id.to_owned(), count + 1);
        Ok(Share { shares: Arc::clone(shares), key_id: key_id.to_owned() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        match taken.get_mut(&self.key_id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.key_id)),
        }
    }
}

/// Holds a request, and a reply that is streamed, to a [`Gate`].
pub fn gate(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let place = match gate.enter(request.extensions().get::<Caller>()) {
        Ok(place) => place,
        Err(error) => return Either::Left(ready(error.into_response())),
    };
    let until = Instant::now() + gate.time;
    Either::Right(timeout_at(until, next.run(request)).map(move |done| match done {
        // What is in memory already needs no place to be sent from.
        Ok(response) if response.body().size_hint().exact().is_some() => response,
        Ok(response) => response.map(|body| streamed(body, place, until)),
        Err(_) => {
            let message = "the request did not finish in time";
            ApiError::new(ErrorCode::RequestTimeout, message).into_response()
        }
    }))
}

/// A body that has its place until it is sent or its time is over. A task of its own reads it:
/// nobody polls the body of a receiver that takes nothing, and that one must not keep a place.
fn streamed(body: Body, place: Place, until: Instant) -> Body {
    let (sender, mut chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let mut body = body.into_data_stream();
        let sending = async {
            loop {
                // Who hung up while nothing was to be sent keeps no place either.
                let chunk = tokio::select! {
                    chunk = body.next() => chunk,
                    () = sender.closed() => None,
                };
                let Some(chunk) = chunk else { break };
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
        };
        // A body that ends before its Content-Length is an error to whoever receives it.
        drop(timeout_at(until, sending).await);
    });
    Body::from_stream(stream::poll_fn(move |cx| chunks.poll_recv(cx)))
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;

    fn caller(key_id: &str) -> Caller {
        Caller { key_id: key_id.to_owned(), binding: Binding::Admin }
    }

    fn entered(gate: &Gate, key_id: &str) -> Result<Place, ErrorCode> {
        gate.enter(Some(&caller(key_id))).map_err(|error| error.code)
    }

    #[test]
    fn no_key_takes_all_places() {
        let gate = Gate::new(3, Duration::ZERO).per_key(2);
        let (first, _second) = (entered(&gate, "a").unwrap(), entered(&gate, "a").unwrap());
        assert_eq!(entered(&gate, "a").unwrap_err(), ErrorCode::RateLimited);
        let third = entered(&gate, "b").unwrap();
        // Who is refused for want of a place keeps no share of it either.
        assert_eq!(entered(&gate, "b").unwrap_err(), ErrorCode::Overloaded);
        drop(third);
        let _third = entered(&gate, "b").unwrap();
        drop(first);
        let _again = entered(&gate, "a").unwrap();
        let shares = gate.shares.as_ref().unwrap();
        assert_eq!(shares.taken().values().sum::<usize>(), 3);
    }

    #[test]
    fn a_key_without_places_leaves_nothing_behind() {
        let gate = Gate::new(3, Duration::ZERO).per_key(2);
        drop((entered(&gate, "a").unwrap(), entered(&gate, "a").unwrap()));
        assert!(gate.shares.as_ref().unwrap().taken().is_empty());
        assert_eq!(gate.places.available_permits(), 3);
    }

    fn endless() -> Body {
        let chunk = || Ok::<_, axum::Error>(Bytes::from_static(b"x"));
        Body::from_stream(stream::repeat_with(chunk))
    }

    #[tokio::test]
    async fn a_streamed_reply_has_its_place_until_nobody_wants_the_rest() {
        let gate = Gate::new(1, Duration::ZERO).per_key(1);
        let until = Instant::now() + Duration::from_secs(3600);
        let mut body = streamed(endless(), entered(&gate, "a").unwrap(), until);
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        assert_eq!(gate.places.available_permits(), 0);
        drop(body);
        let _permit = gate.places.acquire().await.unwrap();
        assert!(gate.shares.as_ref().unwrap().taken().is_empty());
    }

    #[tokio::test]
    async fn who_takes_nothing_loses_the_place_in_time() {
        let gate = Gate::new(1, Duration::ZERO);
        let body = streamed(endless(), entered(&gate, "a").unwrap(), Instant::now());
        let _permit = gate.places.acquire().await.unwrap();
        // What was on its way arrives; then the body ends early.
        assert!(body.collect().await.unwrap().to_bytes().len() <= 2);
    }
}
