//! From the wire into types and back: the extractors of bodies, queries and paths, and the replies.
//! Whatever cannot be read becomes an [`ApiError`] in the one envelope.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::wallet::Page;
use protocol::{ErrorCode, JSON_CONTENT_TYPE, JobId, Sha256Hex};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::accounts::{Answer, Caller, IdempotencyKey, StoredReply, idempotency};
use crate::error::ApiError;
use crate::nearest::nearest;

/// A JSON body, and the request's idempotency key if it carries one.
#[derive(Debug)]
pub struct Body<T> {
    /// What was sent.
    pub value: T,
    /// `Idempotency-Key`, bound to the caller, the route and the body.
    pub idempotency: Option<IdempotencyKey>,
}

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "the body must be application/json";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        let (bytes, idempotency) = read(request, state).await?;
        Ok(Self { value: parse(&bytes)?, idempotency })
    }
}

/// For POSTs whose body says nothing: it is read, hashed and otherwise ignored.
#[derive(Debug)]
pub struct Bodyless {
    /// `Idempotency-Key`, bound to the caller, the route and the body.
    pub idempotency: Option<IdempotencyKey>,
}

impl<S: Send + Sync> FromRequest<S> for Bodyless {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (_, idempotency) = read(request, state).await?;
        Ok(Self { idempotency })
    }
}

async fn read<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<(Bytes, Option<IdempotencyKey>), ApiError> {
    let key = request.headers().get(idempotency::HEADER).cloned();
    let key =
        key.map(|value| IdempotencyKey::parse(value.to_str().unwrap_or_default())).transpose()?;
    let key_id = request.extensions().get::<Caller>().map(|caller| caller.key_id.clone());
    let route = format!("{} {}", request.method(), request.uri().path());
    let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
    let key = key.zip(key_id).map(|(key, key_id)| {
        let body = Sha256Hex::of(&bytes);
        IdempotencyKey { key_id, route, key, body }
    });
    Ok((bytes, key))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: BytesRejection) -> ApiError {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::new(ErrorCode::PayloadTooLarge, "the body is larger than this route allows")
        }
        _ => ApiError::new(ErrorCode::InvalidJson, "the body could not be read to its end"),
    }
}

/// Parses JSON: what is no JSON is 400, what is JSON of another shape 422 with `details.field`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_PAYLOAD`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Where it failed costs as much to keep as the rest of the parsing: only once it did.
    serde_json::from_slice(bytes).or_else(|_| parse_slowly(bytes))
}

fn parse_slowly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let message = without_position(&error.to_string());
        // Of a body that is both no JSON and of the wrong shape, the former is said.
        let whole = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        if error.is_data() && whole {
            ApiError::field(&field_name(&path, &message), message)
        } else {
            ApiError::new(ErrorCode::InvalidJson, format!("the body is no JSON: {message}"))
        }
    })?;
    json.end().map_err(|_| {
        ApiError::new(ErrorCode::InvalidJson, "the body goes on after its JSON value")
    })?;
    Ok(value)
}

/// Where a field is missing or unknown, the path ends at its parent and the message names it.
pub(crate) fn field_name(path: &str, message: &str) -> String {
    let named = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    match (path.trim_matches('.'), named) {
        (path, None) => path.to_owned(),
        ("", Some(name)) => name.to_owned(),
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => {
            path.to_owned()
        }
        (path, Some(name)) => format!("{path}.{name}"),
    }
}

/// Without serde_json's "at line 1 column 2": the field is named, and lines are the sender's own.
fn without_position(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(start, _)| start).to_owned()
}

/// The query string.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S, T> FromRequestParts<S> for Params<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri).map(|Query(value)| Self(value)).map_err(bad_query)
    }
}

/// axum keeps where it failed only in its text, `Failed to ...: field: what is wrong`.
fn bad_query(rejection: QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text);
    let (path, message) = text.split_once(": ").unwrap_or(("", text));
    let meant = meant(message).map(|name| format!(" (did you mean `{name}`?)"));
    ApiError::param(&field_name(path, message), format!("{message}{}", meant.unwrap_or_default()))
}

/// What somebody who wrote an unknown name probably meant, out of serde's list of those it knows.
fn meant(message: &str) -> Option<&str> {
    let mut names = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    let unknown = names.next()?;
    nearest(unknown, names)
}

/// The `{id}` of a job's path. What is no job id is the id of no job.
#[derive(Debug, Clone, Copy)]
pub struct JobPath(pub JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segments(id) = Segments::<String>::from_request_parts(parts, state).await?;
        id.parse().map(Self).map_err(|_| ApiError::job_not_found())
    }
}

/// The variable segments of the path.
#[derive(Debug)]
pub struct Segments<T>(pub T);

impl<S, T> FromRequestParts<S> for Segments<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::param("path", rejection.body_text())),
        }
    }
}

/// The most items of one page of a list.
const MAX_PAGE: u32 = 200;

/// How many items a page has: what the query asks for, or 50.
///
/// # Errors
/// `INVALID_PARAM` outside 1 to 200.
pub fn page_limit(asked: Option<u32>) -> Result<u32, ApiError> {
    match asked.unwrap_or(50) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => Err(ApiError::param("limit", format!("must be 1 to {MAX_PAGE}"))),
    }
}

/// The cursor of a query, where it has one.
///
/// # Errors
/// `INVALID_PARAM` where it is none of ours.
pub fn cursor<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let bad = || ApiError::param("cursor", "must be the `next` of the page before");
    text.map(|text| text.parse().map_err(|_| bad())).transpose()
}

/// A page out of at most `limit` + 1 items in order: the one too many says that there are more.
pub fn page<T>(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}

/// A JSON reply.
#[derive(Debug)]
pub struct Reply<T>(pub StatusCode, pub T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(bytes) => {
                let content_type = HeaderValue::from_static(JSON_CONTENT_TYPE);
                (self.0, [(header::CONTENT_TYPE, content_type)], bytes).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "a reply could not be written as JSON");
                ApiError::internal().into_response()
            }
        }
    }
}

/// A JSON reply to what made something: 201.
#[derive(Debug)]
pub struct Created<T>(pub T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        Reply(StatusCode::CREATED, self.0).into_response()
    }
}

/// A JSON reply to what may be said again: 201 the first time, 200 after that.
#[derive(Debug)]
pub enum Recorded<T> {
    /// It was not known before.
    First(T),
    /// It was.
    Again(T),
}

impl<T: Serialize> IntoResponse for Recorded<T> {
    fn into_response(self) -> Response {
        match self {
            Self::First(value) => Reply(StatusCode::CREATED, value).into_response(),
            Self::Again(value) => Reply(StatusCode::OK, value).into_response(),
        }
    }
}

/// One of two kinds of replies.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The one.
    Left(A),
    /// The other.
    Right(B),
}

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response {
        match self {
            Self::Left(reply) => reply.into_response(),
            Self::Right(reply) => reply.into_response(),
        }
    }
}

/// The answer to a request that may be a repeat, with the fresh one as `fresh` puts it.
pub fn answered<T, R>(answer: Answer<T>, fresh: impl FnOnce(T) -> R) -> Answer<R> {
    match answer {
        Answer::Fresh(value) => Answer::Fresh(fresh(value)),
        Answer::Replayed(reply) => Answer::Replayed(reply),
    }
}

/// A stored reply is given as it was, marked `Idempotent-Replayed`.
impl<R: IntoResponse> IntoResponse for Answer<R> {
    fn into_response(self) -> Response {
        match self {
            Self::Fresh(reply) => reply.into_response(),
            Self::Replayed(reply) => replayed(reply),
        }
    }
}

fn replayed(reply: StoredReply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = Reply(status, reply.body).into_response();
    response.headers_mut().insert(
        HeaderName::from_static(idempotency::REPLAYED_HEADER),
        HeaderValue::from_static("true"),
    );
    response
}

#[cfg(test)]
mod tests {
    use protocol::miner::Heartbeat;
    use serde::Deserialize;

    use super::*;

    fn refusal(body: &str) -> (ErrorCode, String) {
        let error = parse::<Heartbeat>(body.as_bytes()).unwrap_err();
        let field = error.details.get("field").and_then(|field| field.as_str());
        (error.code, field.unwrap_or_default().to_owned())
    }

    #[test]
    fn no_json_is_400_and_other_json_422_with_the_field() {
        for body in ["", "{", "{\"a\":1}x", "\u{1}", "[1,"] {
            assert_eq!(refusal(body), (ErrorCode::InvalidJson, String::new()), "{body}");
        }
        let invalid = |field: &str| (ErrorCode::InvalidPayload, field.to_owned());
        assert_eq!(refusal("{}"), invalid("miner_id"));
        assert_eq!(refusal(r#"{"miner_id":"m","mode":"tpu","gpu":1}"#), invalid("mode"));
        assert_eq!(refusal(r#"{"miner_id":"m","mode":"cpu","gpu":2}"#), invalid("gpu"));
        let nested = r#"{"miner_id":"m","mode":"cpu","gpu":0,"capabilities":{"miner_id":"m"}}"#;
        assert_eq!(refusal(nested), invalid("capabilities.mode"));
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_name() {
        let text = "unknown field `stat`, expected one of `state`, `since`, `limit`";
        assert_eq!(meant(text), Some("state"));
        assert_eq!(meant("unknown field `zzzzzzz`, expected `state`"), None);
        assert_eq!(meant("invalid digit found in string"), None);
    }

    #[test]
    fn a_bad_parameter_is_named() {
        #[derive(Debug, Deserialize)]
        struct Next {
            #[expect(dead_code, reason = "only its parsing matters here")]
            miner: String,
            #[expect(dead_code, reason = "only its parsing matters here")]
            slots: u32,
        }
        let field = |query: &str| {
            let uri = format!("/v1/miner/next?{query}").parse().unwrap();
            let error = bad_query(Query::<Next>::try_from_uri(&uri).unwrap_err());
            assert_eq!(error.code, ErrorCode::InvalidParam);
            error.details["field"].as_str().unwrap().to_owned()
        };
        assert_eq!(field("slots=1"), "miner");
        assert_eq!(field("miner=m&slots=-1"), "slots");
        assert_eq!(field("miner=m&slots=x"), "slots");
    }
}
