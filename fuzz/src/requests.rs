//! Requests to the real router: what only it parses (paths, queries, headers, multipart), and what
//! every reply must be.

use std::cell::RefCell;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use protocol::miner::Uploaded;
use protocol::{ErrorBody, ErrorCode, JSON_CONTENT_TYPE};

use crate::market::{Answer, Market};

/// After so many requests comes a new coordinator, so that none depends on all that came before.
const REQUESTS: u32 = 64;

thread_local! {
    static MARKET: RefCell<Option<(Market, u32)>> = const { RefCell::new(None) };
}

/// A request as text: request line, headers, a blank line, the body. `{client}`, `{miner}`,
/// `{admin}`, `{job}` and `{lease}` stand for what a caller would know.
pub fn requests(data: &[u8]) {
    with_market(|market| {
        let Some(request) = parsed(&market.filled_in(data)) else { return };
        let is_head = request.method() == Method::HEAD;
        let answer = match request.uri().path() {
            "/v1/miner/next" => market.glance(request),
            _ => Some(market.answer(request)),
        };
        if let Some(answer) = answer {
            check(&answer, is_head);
        }
    });
}

/// The body of an upload, whose parts are divided by `--part`.
pub fn upload(data: &[u8]) {
    with_market(|market| {
        let head = b"POST /v1/miner/jobs/{job}/artifacts HTTP/1.1\nx-api-key: {miner}\n\
            content-type: multipart/form-data; boundary=part\n\n";
        let request = parsed(&market.filled_in(&[head, data].concat())).expect("a good head");
        let answer = market.answer(request);
        check(&answer, false);
        if answer.status.is_success() {
            let stored: Uploaded = serde_json::from_slice(&answer.body).expect("what is stored");
            for item in &stored.items {
                assert!(["out.bin", "logs/run.txt"].contains(&item.path.as_str()));
                assert!(item.bytes <= data.len() as u64);
            }
            assert!((1..=2).contains(&stored.items.len()));
        }
    });
}

fn with_market(act: impl FnOnce(&Market)) {
    MARKET.with_borrow_mut(|place| {
        if place.as_ref().is_none_or(|(_, served)| *served == REQUESTS) {
            *place = Some((Market::open(), 0));
        }
        let (market, served) = place.as_mut().expect("it was just opened");
        *served += 1;
        act(market);
    });
}

/// What a server makes of the bytes; `None` where none would take them for a request.
fn parsed(data: &[u8]) -> Option<Request<Body>> {
    let blank = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = data.split_at(blank.unwrap_or(data.len()));
    let body = body.get(2..).unwrap_or_default().to_vec();
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let mut request = Request::new(Body::from(body));
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Some(request)
}

/// Every reply: no fault of ours, and every refusal in the one envelope.
fn check(answer: &Answer, is_head: bool) {
    assert!(answer.headers.contains_key("x-request-id"));
    if answer.status.is_success() || is_head {
        assert_ne!(answer.status.as_u16(), 500);
        return;
    }
    let text = String::from_utf8_lossy(&answer.body);
    let envelope: ErrorBody =
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {text}"));
    let code = envelope.error.known_code().unwrap_or_else(|| panic!("an unknown code: {text}"));
    assert_eq!(code.status(), answer.status.as_u16(), "{text}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], JSON_CONTENT_TYPE);
    // There is one caller, and the database is in the same process: nothing may be in the way.
    let faults = [
        ErrorCode::Internal,
        ErrorCode::DbUnavailable,
        ErrorCode::Overloaded,
        ErrorCode::RateLimited,
    ];
    assert!(!faults.contains(&code), "{text}");
}
