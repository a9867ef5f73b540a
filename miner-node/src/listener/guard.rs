//! Who may ask, and who may change something.
//!
//! A port of this machine can be reached by every web page that its owner's browser shows: by name, if
//! the page's own name was made to point here. So the name in the request has to be this machine's,
//! no other origin is ever permitted anything, and changes need the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use protocol::ErrorCode;
use subtle::ConstantTimeEq as _;

use super::routes::Refusal;
use crate::config::Secret;

/// By which way somebody comes.
#[derive(Debug, Clone)]
pub enum Access {
    /// The socket in the state directory, which only the owner can open.
    Owner,
    /// A socket elsewhere, with the token for changes, if there is one.
    Socket(Option<Secret>),
    /// A port, with the same.
    Port(Option<Secret>),
}

impl Access {
    fn may_change(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = match self {
            Self::Owner => return Ok(()),
            Self::Socket(token) | Self::Port(token) => token,
        };
        let Some(token) = token else {
            let why =
                "nothing can be changed here: listen.token_file is not set; use miner-node ctl";
            return Err(Refusal::new(ErrorCode::ForbiddenScope, why));
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if bool::from(given.as_bytes().ct_eq(token.expose().as_bytes())) {
            Ok(())
        } else {
            let why = "changes need Authorization: Bearer and the token of listen.token_file";
            Err(Refusal::new(ErrorCode::UnauthorizedKey, why))
        }
    }
}

/// Lets a request pass, or not.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if matches!(*access, Access::Port(_)) && !names_this_machine(request.headers()) {
        let why = "this name is not this machine's: use 127.0.0.1 or localhost";
        return Err(Refusal::new(ErrorCode::ForbiddenScope, why));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        access.may_change(request.headers())?;
    }
    Ok(next.run(request).await)
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return false };
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => Some(host.split_once(':').map_or(host, |(name, _)| name)),
    };
    let is_loopback = |name: &str| {
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    without_port.is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_page_whose_name_was_made_to_point_here_stays_outside() {
        for good in ["127.0.0.1:9480", "localhost", "LOCALHOST:1", "[::1]:9480", "127.8.9.1"] {
            assert!(names_this_machine(&headers(HOST, good)), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:9480", "127.0.0.1.evil.example", "[::2]:1", "[::1", ""]
        {
            assert!(!names_this_machine(&headers(HOST, bad)), "{bad}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn without_a_token_nothing_changes() {
        let with = |value: &str| headers(AUTHORIZATION, value);
        let port = Access::Port(Some(Secret::new("s3cret")));
        assert!(port.may_change(&with("Bearer s3cret")).is_ok());
        for wrong in ["Bearer s3cre", "Bearer s3cret2", "s3cret", "Basic s3cret", "Bearer "] {
            assert!(port.may_change(&with(wrong)).is_err(), "{wrong}");
        }
        assert!(port.may_change(&HeaderMap::new()).is_err());
        for none in [Access::Port(None), Access::Socket(None)] {
            assert!(none.may_change(&with("Bearer ")).is_err());
        }
        assert!(Access::Owner.may_change(&HeaderMap::new()).is_ok());
    }
}
