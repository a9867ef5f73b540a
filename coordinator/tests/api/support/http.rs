//! Requests to the real router and what comes back.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Method, Request as HttpRequest, StatusCode, header};
use http_body_util::BodyExt as _;
use protocol::{ErrorBody, ErrorCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

use super::{TestApp, document};

/// A request about to be sent.
pub struct Request {
    builder: Builder,
    body: Body,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Request {
    pub fn new(method: Method, path: &str) -> Self {
        let builder = HttpRequest::builder().method(method).uri(path);
        Self { builder, body: Body::empty() }
    }

    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: &str, body: impl Serialize) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub fn put(path: &str, body: impl Serialize) -> Self {
        Self::new(Method::PUT, path).json(body)
    }

    pub fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn json(self, body: impl Serialize) -> Self {
        self.header("content-type", "application/json").body(serde_json::to_vec(&body).unwrap())
    }

    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it. Whatever is an error must have the one envelope.
    pub async fn send(self, app: &TestApp) -> Reply {
        self.send_to(&app.router).await
    }

    /// Sends it to a replica that a test started beside its app.
    pub async fn send_to(self, router: &Router) -> Reply {
        let request = self.builder.body(self.body).unwrap();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let reply = Reply { status: parts.status, headers: parts.headers, bytes };
        if reply.status.is_client_error() || reply.status.is_server_error() {
            reply.check_envelope();
        }
        document::check(&method, &path, &reply);
        reply
    }
}

impl Reply {
    fn check_envelope(&self) {
        let body: ErrorBody = serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("no envelope ({error}): {:?}", self.text()));
        let code = body.error.known_code();
        let code = code.unwrap_or_else(|| panic!("unknown code {:?}", body.error.code));
        assert_eq!(code.status(), self.status.as_u16(), "{}", self.text());
        assert!(!body.error.message.is_empty());
        // `details` is there even where it is empty.
        assert!(self.json::<Value>()["error"]["details"].is_object());
        assert_eq!(self.headers[header::CONTENT_TYPE], protocol::JSON_CONTENT_TYPE);
        assert!(self.headers.contains_key("x-request-id"));
    }

    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The same reply, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    /// The error code of a refusal.
    #[track_caller]
    pub fn code(&self) -> ErrorCode {
        assert!(!self.status.is_success(), "no refusal: {} {}", self.status, self.text());
        self.json::<ErrorBody>().error.known_code().unwrap()
    }

    /// Checks the error code of a refusal.
    #[track_caller]
    pub fn refused(self, code: ErrorCode) -> Self {
        assert_eq!(self.code(), code, "{}", self.text());
        self
    }

    /// `details.field` of a refusal.
    #[track_caller]
    pub fn field(&self) -> String {
        let body: ErrorBody = self.json();
        body.error.details["field"].as_str().unwrap_or_default().to_owned()
    }
}
