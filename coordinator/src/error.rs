//! The one error of the HTTP edge: a stable code, a sentence, details. 5xx say nothing and are
//! logged where they arise.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::error::ErrorDetail;
use protocol::{ErrorBody, ErrorCode, JSON_CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::db::DbError;

/// What a caller is told.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The stable code; it decides the status.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
    /// More, by name.
    pub details: Map<String, Value>,
}

impl ApiError {
    /// With a code and a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// `INVALID_PAYLOAD`, naming the field.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidPayload, message).with("field", field)
    }

    /// `INVALID_PARAM`, naming the parameter.
    pub fn param(name: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParam, message).with("field", name)
    }

    /// `JOB_NOT_FOUND`.
    pub fn job_not_found() -> Self {
        Self::new(ErrorCode::JobNotFound, "no such job")
    }

    /// `OVERLOADED`: too much is queued.
    pub fn overloaded() -> Self {
        Self::new(ErrorCode::Overloaded, "the coordinator is overloaded or shutting down")
            .with("retry_after_secs", 1)
    }

    /// `INTERNAL`. Log the reason first: the caller does not learn it.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "internal error")
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The error as it stands in a body.
    pub fn detail(&self) -> ErrorDetail {
        ErrorDetail {
            code: self.code.as_str().to_owned(),
            message: self.message.clone(),
            details: self.details.clone(),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(error) => {
                tracing::warn!(%error, "database unavailable");
                Self::new(ErrorCode::DbUnavailable, "the database cannot be reached, try again")
                    .with("retry_after_secs", 1)
            }
            DbError::Conflict(error) => {
                tracing::warn!(%error, "transaction conflicts did not end");
                Self::overloaded()
            }
            // Our own checks come first: what is left is text that a database cannot hold.
            DbError::Data(error) => {
                tracing::info!(%error, "database refused a value");
                Self::new(ErrorCode::InvalidPayload, "a value cannot be stored (U+0000 in a text?)")
            }
            error @ (DbError::Decode { .. } | DbError::Affected { .. } | DbError::Other(_)) => {
                tracing::error!(%error, "database error");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.details.get("retry_after_secs").and_then(Value::as_u64);
        let body = Json(ErrorBody { error: self.detail() });
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_CONTENT_TYPE));
        if let Some(secs) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}
