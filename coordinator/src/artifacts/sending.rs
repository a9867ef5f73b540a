//! Files on their way out: whole, in part, or not at all because the receiver has them already
//! (RFC 9110, sections 13 and 14).

use std::convert::Infallible;
use std::ops::Range;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_range_header::{EndPosition, StartPosition, parse_range_header};
use protocol::ErrorCode;
use protocol::client::download_name;

use super::Artifacts;
use super::store::Sendable;
use crate::error::ApiError;

/// The header in which the sender of a file states its hash, and the one in which it is sent.
pub const SHA256_HEADER: &str = "x-content-sha256";

/// How a file is asked for: the method and the conditions.
#[derive(Debug)]
pub struct Asked {
    head: bool,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self { head: parts.method == Method::HEAD, headers: parts.headers.clone() })
    }
}

/// What is sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Portion {
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing: the receiver has it.
    Unchanged,
    /// Nothing: it has no such bytes.
    None,
}

impl Asked {
    fn text(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn portion(&self, tag: &str, size: u64) -> Portion {
        if self.text(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, tag)) {
            return Portion::Unchanged;
        }
        // A part of something else than what the receiver has of it is of no use.
        let same = self.headers.get(header::IF_RANGE).is_none_or(|value| value == tag);
        match self.text(header::RANGE) {
            Some(range) if same && !self.head => part(range, size),
            _ => Portion::Whole,
        }
    }
}

/// Whether a list of entity tags names this one, or any.
fn names(tags: &str, tag: &str) -> bool {
    let tags = tags.split(',').map(str::trim);
    tags.into_iter().any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// One range is served; several, and what cannot be read, get the whole, which is allowed.
fn part(range: &str, size: u64) -> Portion {
    let Ok(parsed) = parse_range_header(range) else { return Portion::Whole };
    let [range] = parsed.ranges.as_slice() else { return Portion::Whole };
    let (start, last) = match (range.start, range.end) {
        (StartPosition::Index(start), EndPosition::Index(last)) => (start, last),
        (StartPosition::Index(start), EndPosition::LastByte) => (start, u64::MAX),
        (StartPosition::FromLast(count), _) => (size.saturating_sub(count), u64::MAX),
    };
    if last < start {
        return Portion::Whole;
    }
    if start < size {
        Portion::Part(start..size.min(last.saturating_add(1)))
    } else {
        Portion::None
    }
}

/// A file as the body of a reply, a part of it, or that there is nothing to send.
#[derive(Debug)]
pub struct Download(Response);

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        self.0
    }
}

/// The reply with a file.
///
/// # Errors
/// `RANGE_NOT_SATISFIABLE`, or `INTERNAL` where the store fails.
pub async fn send(
    artifacts: &Artifacts,
    file: Sendable,
    asked: &Asked,
) -> Result<Download, ApiError> {
    let size = u64::try_from(file.size_bytes).unwrap_or(0);
    let tag = format!("\"{}\"", file.sha256);
    let (status, range) = match asked.portion(&tag, size) {
        Portion::Whole => (StatusCode::OK, None),
        Portion::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Portion::Unchanged => {
            let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, PRIVATE.to_owned())];
            return Ok(Download((StatusCode::NOT_MODIFIED, headers).into_response()));
        }
        Portion::None => return Ok(Download(not_satisfiable(size))),
    };
    let body = if asked.head {
        Body::empty()
    } else {
        Body::from_stream(artifacts.open(&file.location, range.clone()).await?)
    };
    let mut response = (status, describe(&file, &tag), body).into_response();
    let headers = response.headers_mut();
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(Range { start, end }) = range {
        put(headers, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(Download(response))
}

/// It is its owner's, and its hash says whether it is still the same.
const PRIVATE: &str = "private, no-cache";

fn describe(file: &Sendable, tag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let name = file.path.as_ref().map_or("input", download_name);
    let media_type = file.media_type.as_deref().unwrap_or("application/octet-stream");
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_str(media_type)
            .unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(header::CONTENT_DISPOSITION, disposition(name));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(PRIVATE));
    put(&mut headers, header::ETAG, tag);
    put(&mut headers, HeaderName::from_static(SHA256_HEADER), &file.sha256.to_string());
    // A job chose both content and media type: no browser shall run it as a page of ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn not_satisfiable(size: u64) -> Response {
    let message = "the file is shorter than the range that was asked for";
    let error = ApiError::new(ErrorCode::RangeNotSatisfiable, message).with("bytes", size);
    let mut response = error.into_response();
    put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
    response
}

/// An attachment under its own name, for any client (RFC 6266): plain ASCII, and UTF-8 escaped.
fn disposition(name: &str) -> HeaderValue {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"");
    if ascii != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => {
                    value.push(char::from(byte));
                }
                other => value.push_str(&format!("%{other:02X}")),
            }
        }
    }
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(HeaderName, &'static str)]) -> Asked {
        let headers =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Asked { head: false, headers: headers.collect() }
    }

    #[test]
    fn names_of_downloads_break_no_header() {
        assert_eq!(disposition("out.txt"), "attachment; filename=\"out.txt\"");
        assert_eq!(
            disposition("a\"; x=é"),
            "attachment; filename=\"a___x__\"; filename*=UTF-8''a%22%3B%20x%3D%C3%A9"
        );
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (range, expected) in [
            ("bytes=0-0", Portion::Part(0..1)),
            ("bytes=2-4", Portion::Part(2..5)),
            ("bytes=2-", Portion::Part(2..10)),
            ("bytes=2-99", Portion::Part(2..10)),
            ("bytes=9-18446744073709551615", Portion::Part(9..10)),
            ("bytes=-3", Portion::Part(7..10)),
            ("bytes=-99", Portion::Part(0..10)),
            ("bytes=10-", Portion::None),
            ("bytes=10-20", Portion::None),
            ("bytes=4-2", Portion::Whole),
            ("bytes=0-1,3-4", Portion::Whole),
            ("bytes=a-b", Portion::Whole),
            ("lines=1-2", Portion::Whole),
            ("", Portion::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Portion::None);
        assert_eq!(part("bytes=-1", 0), Portion::None);
    }

    #[test]
    fn conditions_come_before_ranges() {
        let range = (header::RANGE, "bytes=0-0");
        let portion = |pairs: &[(HeaderName, &'static str)]| asked(pairs).portion("\"t\"", 10);
        assert_eq!(portion(std::slice::from_ref(&range)), Portion::Part(0..1));
        for tags in ["\"t\"", "\"x\", \"t\"", "W/\"t\"", "*"] {
            let tags = (header::IF_NONE_MATCH, tags);
            assert_eq!(portion(&[tags, range.clone()]), Portion::Unchanged);
        }
        let other = (header::IF_NONE_MATCH, "\"x\"");
        assert_eq!(portion(&[other, range.clone()]), Portion::Part(0..1));
        for (if_range, expected) in
            [("\"t\"", Portion::Part(0..1)), ("\"x\"", Portion::Whole), ("W/\"t\"", Portion::Whole)]
        {
            assert_eq!(portion(&[(header::IF_RANGE, if_range), range.clone()]), expected);
        }
        let head = Asked { head: true, ..asked(&[range]) };
        assert_eq!(head.portion("\"t\"", 10), Portion::Whole);
    }
}
